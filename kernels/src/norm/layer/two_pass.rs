//! Three readings of a row that stays in the L1 cache: its mean, its variance, its result.
//!
//! ```text
//! m = Σx / c                                   f32: off by a little if the mean is large
//! e = Σ(x − m) / c                how much it is off: x − m is exact where x is near m
//! variance = Σ(x − m)² / c − e²
//! y = ((x − m) − e) / √(variance + eps) · weight + bias
//! ```
//!
//! Taking out e is the correction of Chan, Golub & LeVeque 1983, "Algorithms for computing the
//! sample variance".

use aquatint_tensor::{Tensor, View};

use super::check;
use crate::cpu::partition::row_major;
use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;
use crate::gemm::RowSource;
use crate::packed_input::{ALayout, Activations};
use crate::{Isa, Precision};

/// See [`layer_norm`](super::layer_norm()).
///
/// # Panics
/// As [`layer_norm`](super::layer_norm()).
pub fn layer_norm<const N: usize>(
    isa: Isa,
    x: View<'_, f32, N>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) -> Tensor<f32, N> {
    layer_norm_packed(isa, x, weight, bias, eps, ALayout::rows(Precision::F32)).into_tensor()
}

/// See [`layer_norm_packed`](super::layer_norm_packed).
pub(super) fn layer_norm_packed<T: Stored, const N: usize>(
    isa: Isa,
    x: View<'_, T, N>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    layout: ALayout,
) -> Activations<N> {
    check(x.shape(), weight, bias);
    let rows = x.shape()[..N - 1].iter().product();
    normalised(isa, layout, rows, &Normalised { x: &row_major(x), weight, bias, eps }).reshape(x.shape())
}

/// The rows one by one. The number of axes is forgotten, so that the loops are compiled once, here.
fn normalised<T: Stored>(isa: Isa, layout: ALayout, rows: usize, x: &Normalised<'_, T>) -> Activations<2> {
    Activations::from_rows(isa, layout, [rows, x.weight.len()], x)
}

/// Each row of x, normalised.
struct Normalised<'a, T> {
    x: &'a [T],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl<T: Stored> RowSource for Normalised<'_, T> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, out: &'a mut [f32]) -> &'a [f32] {
        let channels = self.weight.len();
        let count = channels as f32;
        let whole = channels / S::LANES * S::LANES;
        let x = &self.x[m * channels..][..channels];
        let mean = s.sum(T::reduce(s, x, 0.0, s.zero(), |sum, x| s.add(sum, x))) / count;
        let m = s.splat(mean);
        // Behind the end the row continues with its mean, which adds nothing to either sum.
        let [sum, squares] = T::reduce(s, x, mean, [s.zero(); 2], |[sum, squares], x| {
            let d = s.sub(x, m);
            [s.add(sum, d), s.mul_add(d, d, squares)]
        });
        let error = s.sum(sum) / count;
        let variance = s.sum(squares) / count - error * error;
        let scale = 1.0 / (variance + self.eps).sqrt();

        let (factor, offset) = (s.splat(scale), s.splat(-error * scale));
        let y = |x, weight, bias| s.mul_add(s.mul_add(s.sub(x, m), factor, offset), weight, bias);
        for c in (0..whole).step_by(S::LANES) {
            let y = y(T::load(s, &x[c..]), s.load(&self.weight[c..]), s.load(&self.bias[c..]));
            s.store(y, &mut out[c..]);
        }
        if whole < channels {
            let tail = |x: &[f32]| s.load_or(&x[whole..], 0.0);
            let x = T::load_or(s, &x[whole..], 0.0);
            s.store_part(y(x, tail(self.weight), tail(self.bias)), &mut out[whole..]);
        }
        out
    }
}
