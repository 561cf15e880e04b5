//! One row of A against one panel: vector arithmetic and sequential reads, but each weight that is loaded is used only
//! once before the next row needs it again. Large products wait for memory.

use aquatint_tensor::{Tensor, View};

use super::{PANEL, Panel, Weights};
use crate::Isa;
use crate::simd::{Op, Simd};

/// `out[m, n] = Σₖ a[m, k]·w[n, k]`, `a: [rows, in]` → `[rows, out]`, on one thread.
///
/// # Panics
/// If the inner lengths differ.
pub fn product(isa: Isa, a: View<'_, f32, 2>, w: &Weights) -> Tensor<f32, 2> {
    let [rows, depth] = a.shape();
    let columns = w.out_features();
    assert_eq!(depth, w.segments() * w.segment_len(), "the rows and the weights differ in depth");
    let mut out = Tensor::zeros([rows, columns]);
    let mut scratch = vec![Panel::ZERO; depth];
    for panel in 0..columns.div_ceil(PANEL) {
        let b = w.block(panel, 0, depth, &mut scratch);
        let (first, width) = (panel * PANEL, PANEL.min(columns - panel * PANEL));
        for (a, out) in a.rows().zip(out.as_mut_slice().chunks_exact_mut(columns)) {
            let sum = isa.run(RowTimesPanel { a, b });
            out[first..first + width].copy_from_slice(&sum[..width]);
        }
    }
    out
}

struct RowTimesPanel<'a> {
    a: &'a [f32],
    b: &'a [Panel],
}

impl Op for RowTimesPanel<'_> {
    type Output = Panel;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> Panel {
        let mut sum = Panel::ZERO;
        for (&a, b) in self.a.iter().zip(self.b) {
            for i in (0..PANEL).step_by(S::LANES) {
                let v = s.mul_add(s.splat(a), s.load(&b[i..]), s.load(&sum[i..]));
                s.store(v, &mut sum[i..]);
            }
        }
        sum
    }
}
