//! The bends between linear layers; without them a network of any depth would be one matrix.
//!
//! | function | formula | where |
//! |---|---|---|
//! | [`silu`] | `x·σ(x)` | UNet and VAE, after each group norm; the time embedding |
//! | [`gelu`] | `x·(1 + erf(x/√2)) / 2` | the text encoder of SD 2.x |
//! | [`gelu_tanh`] | `x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2` | some text encoders' `gelu_new` |
//! | [`quick_gelu`] | `x·σ(1.702·x)` | the text encoder of SD 1.x |
//! | [`prelu`] | `x` above 0, `slope·x` below, a slope for each channel | upscalers; with one slope LeakyReLU |
//! | [`geglu`] | `x[..c]·gelu(x[c..])` | the UNet's feed-forward layers |
//!
//! | step | idea |
//! |---|---|
//! | [`mod@reference`] | one number at a time in `f64`: the definition |
//! | this file | a vector at a time, from the polynomials of [`simd::math`](crate::cpu::simd::math), on all cores |
//! | [`linear_geglu`](crate::linear::linear_geglu) | the last of them where its input is made, which is never written |

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use crate::Isa;
use crate::cpu::partition::{for_each_chunk, row_major, rows_per_task};
use crate::cpu::simd::{Op, Pointwise, Simd};
use crate::gemm::RowSource;
use crate::packed_input::tensor_of_rows;

pub mod reference;

use crate::cpu::simd::pointwise::{Gelu, GeluTanh, InPlace, QuickGelu, Silu};

/// `x = x·σ(x)`, in place. As `torch.nn.SiLU`; also called swish.
///
/// ```
/// # use aquatint_kernels::{Isa, activation::silu};
/// let mut x = [0.0, 2.0, -2.0]; // σ(2) = 0.8808, σ(−2) = 0.1192
/// silu(Isa::best(), &mut x);
/// assert_eq!(x.map(|x| (x * 1e4).round() / 1e4), [0.0, 1.7616, -0.2384]);
/// ```
pub fn silu(isa: Isa, x: &mut [f32]) {
    apply(isa, x, Silu);
}

/// `x = x·(1 + erf(x/√2)) / 2`, in place. As `torch.nn.GELU`.
///
/// ```
/// # use aquatint_kernels::{Isa, activation::gelu};
/// let mut x = [0.0, 1.0, -1.0]; // 84.13 % of a normal distribution lie below 1
/// gelu(Isa::best(), &mut x);
/// assert_eq!(x.map(|x| (x * 1e4).round() / 1e4), [0.0, 0.8413, -0.1587]);
/// ```
pub fn gelu(isa: Isa, x: &mut [f32]) {
    apply(isa, x, Gelu);
}

/// `x = x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2`, in place. As
/// `torch.nn.GELU(approximate="tanh")`.
///
/// ```
/// # use aquatint_kernels::{Isa, activation::gelu_tanh};
/// let mut x = [0.0, 1.0, -1.0]; // within 2e-4 of gelu
/// gelu_tanh(Isa::best(), &mut x);
/// assert_eq!(x.map(|x| (x * 1e4).round() / 1e4), [0.0, 0.8412, -0.1588]);
/// ```
pub fn gelu_tanh(isa: Isa, x: &mut [f32]) {
    apply(isa, x, GeluTanh);
}

/// `x = x·σ(1.702·x)`, in place. As `QuickGELU` of OpenAI's CLIP.
///
/// ```
/// # use aquatint_kernels::{Isa, activation::quick_gelu};
/// let mut x = [0.0, 1.0, -1.0]; // σ(1.702) = 0.8458
/// quick_gelu(Isa::best(), &mut x);
/// assert_eq!(x.map(|x| (x * 1e4).round() / 1e4), [0.0, 0.8458, -0.1542]);
/// ```
pub fn quick_gelu(isa: Isa, x: &mut [f32]) {
    apply(isa, x, QuickGelu);
}

/// `x = x > 0 ? x : slope[c]·x`, in place, for channel c of each pixel: `x: [.., slopes.len()]`. As
/// `torch.nn.PReLU`, and with equal slopes as `torch.nn.LeakyReLU`.
///
/// ```
/// # use aquatint_kernels::{Isa, activation::prelu};
/// let mut x = [1.0, -1.0, -2.0, 2.0];
/// prelu(Isa::best(), &mut x, &[0.5, 0.25]);
/// assert_eq!(x, [1.0, -0.25, -1.0, 2.0]);
/// ```
///
/// # Panics
/// If there is not a whole number of pixels.
pub fn prelu(isa: Isa, x: &mut [f32], slopes: &[f32]) {
    let channels = slopes.len();
    assert!(x.is_empty() || x.len().is_multiple_of(channels), "pixels of {channels} channels");
    let pixels = rows_per_task(channels.max(1));
    x.par_chunks_mut(pixels * channels.max(1)).for_each(|x| isa.run(Prelu { x, slopes }));
}

struct Prelu<'a> {
    x: &'a mut [f32],
    slopes: &'a [f32],
}

impl Op for Prelu<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, _: S) {
        for pixel in self.x.chunks_exact_mut(self.slopes.len()) {
            for (x, &slope) in pixel.iter_mut().zip(self.slopes) {
                *x = if *x > 0.0 { *x } else { slope * *x };
            }
        }
    }
}

fn apply(isa: Isa, x: &mut [f32], f: impl Pointwise) {
    for_each_chunk(x, |x| isa.run(InPlace { x, f }));
}

/// `out[.., j] = x[.., j]·gelu(x[.., c + j])`: one half of the channels opens or shuts the other.
///
/// `x: [.., 2c]` → `[.., c]`. GEGLU of Shazeer 2020
/// ([arXiv:2002.05202](https://arxiv.org/abs/2002.05202)), with the gate in the second half as in
/// diffusers' class `GEGLU`.
///
/// ```
/// # use aquatint_kernels::{Isa, activation::geglu};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 4], vec![10.0, 20.0, 0.0, 1.0]);
/// let y = geglu(Isa::best(), x.view()); // gelu(0) = 0, gelu(1) = 0.8413
/// assert_eq!(y.map(|y| (y * 1e2).round() / 1e2).as_slice(), [0.0, 16.83]);
/// ```
///
/// # Panics
/// If the last axis is odd.
pub fn geglu<const N: usize>(isa: Isa, x: View<'_, f32, N>) -> Tensor<f32, N> {
    let mut shape = x.shape();
    assert!(shape[N - 1].is_multiple_of(2), "GEGLU halves the last axis of {shape:?}, which is odd");
    shape[N - 1] /= 2;
    tensor_of_rows(isa, shape, &Gated { x: &row_major(x), columns: shape[N - 1], f: Gelu })
}

/// `out[row, j] = x[row, j]·f(x[row, columns + j])`: the second half of each row is the gate of the
/// first.
struct Gated<'a, F> {
    x: &'a [f32],
    columns: usize,
    f: F,
}

impl<F: Pointwise> RowSource for Gated<'_, F> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, out: &'a mut [f32]) -> &'a [f32] {
        let (value, gate) = self.x[2 * m * self.columns..][..2 * self.columns].split_at(self.columns);
        out.copy_from_slice(gate);
        s.map_in_place(out, self.f);
        for (out, value) in out.iter_mut().zip(value) {
            *out *= value;
        }
        out
    }
}

#[cfg(test)]
mod tests;
