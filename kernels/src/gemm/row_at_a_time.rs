//! One row of A against one panel: vector arithmetic and sequential reads, but each weight that is
//! loaded is used only once before the next row needs it again. Large products wait for memory.

use aquatint_tensor::{Tensor, View};

use super::{NR, PackedWeights, PanelRow};
use crate::Isa;
use crate::cpu::simd::{Op, Simd};

/// `out[m, n] = Σₖ a[m, k]·w[n, k]`, `a: [rows, in]` → `[rows, out]`, on one thread.
///
/// # Panics
/// If the inner lengths differ.
pub fn product(isa: Isa, a: View<'_, f32, 2>, w: &PackedWeights) -> Tensor<f32, 2> {
    let [rows, depth] = a.shape();
    let columns = w.out_features();
    assert_eq!(depth, w.segments() * w.segment_len(), "the rows and the weights differ in depth");
    let mut out = Tensor::zeros([rows, columns]);
    for panel in 0..columns.div_ceil(NR) {
        isa.run(RowsTimesPanel { a, w, panel, out: out.as_mut_slice() });
    }
    out
}

struct RowsTimesPanel<'a> {
    a: View<'a, f32, 2>,
    w: &'a PackedWeights,
    panel: usize,
    /// `[rows, out]`
    out: &'a mut [f32],
}

impl Op for RowsTimesPanel<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Self { a, w, panel, out } = self;
        let ([_, depth], columns) = (a.shape(), w.out_features());
        let mut scratch = vec![PanelRow::ZERO; depth];
        let b = w.block(s, panel, 0, depth, &mut scratch);
        let (first, width) = (panel * NR, NR.min(columns - panel * NR));
        for (a, out) in a.rows().zip(out.chunks_exact_mut(columns)) {
            let mut sum = PanelRow::ZERO;
            for (&a, b) in a.iter().zip(b) {
                for i in (0..NR).step_by(S::LANES) {
                    let v = s.mul_add(s.splat(a), s.load(&b[i..]), s.load(&sum[i..]));
                    s.store(v, &mut sum[i..]);
                }
            }
            out[first..first + width].copy_from_slice(&sum[..width]);
        }
    }
}
