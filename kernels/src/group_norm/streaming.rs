//! Two passes over each image: one that only reads and takes the statistics, one that writes the result.
//!
//! Variance is easy to get wrong. `mean(x²) − mean(x)²` in f32 loses its digits when the mean is far from zero:
//! for a mean of 100 and a deviation of 1 it subtracts 10000 from 10001, and of seven digits three remain, before
//! any of the 40 000 additions has rounded. So:
//!
//! ```text
//! for each chunk of at most 128 pixels, in parallel:
//!     for each channel: Σ(x − x₀) and Σ(x − x₀)²                     f32; x₀ is near the mean, so x − x₀ is small
//!     for each group: merge its channels' (count, mean, squares)     f64
//! for each group: merge its chunks, first to last                    f64
//! y = activation(x·scale[c] + shift[c])           scale = weight / √(variance + eps), shift = bias − mean·scale
//! ```
//!
//! The chunks depend on the shape alone and are merged in order: the sums are the same for any number of threads.

use std::borrow::Cow;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::{Activation, GroupNorm, joined_shape};
use crate::Isa;
use crate::activation::pointwise::Silu;
use crate::chunks::{row_major, rows_per_task};
use crate::gemm::bf16::rounded::RowSource;
use crate::operand::{Form, Operand, tensor_of_rows};
use crate::simd::{Op, Simd};

/// Numbers that are added up in f32: a sum of 128 is off by 128·2⁻²⁴ = 8e-6 of its size at the very worst, and
/// the rounding errors of many such sums cancel.
const MAX_PIXELS: usize = 128;

/// Pixels that share one load and store of the running sums; x₀ is the mean of the first so many. With a single one, an
/// outlier there would be subtracted from all, and 128 times its square would drown the rest.
const PIXELS_AT_ONCE: usize = 8;

/// See [`group_norm_joined`](super::group_norm_joined()).
///
/// # Panics
/// As [`group_norm_joined`](super::group_norm_joined()).
pub fn group_norm(isa: Isa, pieces: &[View<'_, f32, 4>], norm: GroupNorm<'_>) -> Tensor<f32, 4> {
    tensor_of_rows(isa, joined_shape(pieces), &Normalised::new(isa, pieces, norm))
}

/// See [`group_norm_for`](super::group_norm_for).
pub(super) fn group_norm_for(
    isa: Isa,
    pieces: &[View<'_, f32, 4>],
    norm: GroupNorm<'_>,
    form: Form,
) -> Operand<4> {
    Operand::from_rows(isa, form, joined_shape(pieces), &Normalised::new(isa, pieces, norm))
}

/// Pixels as they will be: the statistics are known.
struct Normalised<'a> {
    /// Those of each piece, one image behind the other.
    pieces: Vec<Cow<'a, [f32]>>,
    /// Channels of each piece.
    channels: Vec<usize>,
    /// Pixels of an image.
    pixels: usize,
    /// Of each image: with these two vectors, `x·scale + shift` is the normalised x.
    scale_and_shift: Vec<(Vec<f32>, Vec<f32>)>,
    activation: Activation,
}

impl<'a> Normalised<'a> {
    fn new(isa: Isa, views: &[View<'a, f32, 4>], norm: GroupNorm<'_>) -> Self {
        let [images, height, width, channels] = joined_shape(views);
        norm.check(channels);
        let mut normalised = Self {
            pieces: views.iter().map(|&piece| row_major(piece)).collect(),
            channels: views.iter().map(|piece| piece.shape()[3]).collect(),
            pixels: height * width,
            scale_and_shift: Vec::new(),
            activation: norm.activation,
        };
        if channels > 0 {
            normalised.scale_and_shift =
                (0..images).into_par_iter().map(|n| normalised.statistics(isa, n, norm)).collect();
        }
        normalised
    }

    /// Of image n: the first pass.
    fn statistics(&self, isa: Isa, n: usize, norm: GroupNorm<'_>) -> (Vec<f32>, Vec<f32>) {
        let chunk = rows_per_task(norm.weight.len()).min(MAX_PIXELS);
        let chunks: Vec<_> = (0..self.pixels.div_ceil(chunk))
            .into_par_iter()
            .map(|i| {
                let count = (self.pixels - i * chunk).min(chunk);
                chunk_moments(isa, self.pieces_of(n * self.pixels + i * chunk, count), count, norm)
            })
            .collect();
        scale_and_shift(&chunks, norm)
    }

    /// The numbers of `count` pixels of an image, piece by piece; pixels are counted through all images, and a piece with fewer images
    /// begins again at its end.
    #[inline(always)]
    fn pieces_of(&self, first: usize, count: usize) -> impl Iterator<Item = &[f32]> {
        let pieces = self.pieces.iter().zip(&self.channels).filter(|(_, channels)| **channels > 0);
        pieces.map(move |(piece, &channels)| {
            let first = if first * channels < piece.len() { first } else { first % (piece.len() / channels) };
            &piece[first * channels..(first + count) * channels]
        })
    }
}

/// The statistics of each group over a few pixels, whose channels come in pieces.
fn chunk_moments<'a>(
    isa: Isa,
    pieces: impl Iterator<Item = &'a [f32]>,
    pixels: usize,
    norm: GroupNorm<'_>,
) -> Vec<Moments> {
    let [mut x0, mut sums, mut squares] = [(); 3].map(|()| vec![0.0; norm.weight.len()]);
    let mut first = 0;
    for piece in pieces {
        let range = first..first + piece.len() / pixels;
        first = range.end;
        isa.run(ShiftedSums {
            pixels: piece,
            x0: &mut x0[range.clone()],
            sums: &mut sums[range.clone()],
            squares: &mut squares[range],
        });
    }
    let (channels, count) = (norm.weight.len(), pixels as f64);
    let group_size = channels / norm.num_groups;
    let of_channel = |c: usize| Moments::from_shifted(count, x0[c], sums[c], squares[c]);
    (0..norm.num_groups)
        .map(|group| {
            (group * group_size..(group + 1) * group_size)
                .map(of_channel)
                .fold(Moments::default(), Moments::merge)
        })
        .collect()
}

/// The two vectors with which `x·scale + shift` is the normalised x.
fn scale_and_shift(chunks: &[Vec<Moments>], norm: GroupNorm<'_>) -> (Vec<f32>, Vec<f32>) {
    let group_size = norm.weight.len() / norm.num_groups;
    let (mut scale, mut shift) = (Vec::new(), Vec::new());
    for group in 0..norm.num_groups {
        let whole = chunks.iter().map(|chunk| chunk[group]).fold(Moments::default(), Moments::merge);
        let deviation = (whole.variance() + f64::from(norm.eps)).sqrt();
        for c in group * group_size..(group + 1) * group_size {
            let rounded = (f64::from(norm.weight[c]) / deviation) as f32;
            scale.push(rounded);
            // From the scale as it will be used, so that its rounding is not multiplied by the mean.
            shift.push((f64::from(norm.bias[c]) - whole.mean * f64::from(rounded)) as f32);
        }
    }
    (scale, shift)
}

/// What one must know of some numbers to get their variance, and to merge them with others.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    /// Σ(x − mean)²
    squares: f64,
}

impl Moments {
    /// From `sum = Σ(x − x₀)` and `squares = Σ(x − x₀)²`.
    fn from_shifted(count: f64, x0: f32, sum: f32, squares: f32) -> Self {
        let offset = f64::from(sum) / count;
        Self { count, mean: f64::from(x0) + offset, squares: f64::from(squares) - count * offset * offset }
    }

    /// Of both sets together (Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
    /// sample variances", equation 2.1).
    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * self.count * share,
        }
    }

    /// Divided by the count, not by one less: the variance of all there is, not an estimate from a sample.
    fn variance(self) -> f64 {
        // A NaN must come out as NaN, which `f64::max` would hide.
        let variance = self.squares / self.count;
        if variance < 0.0 { 0.0 } else { variance }
    }
}

/// `sums[c] = Σ(x[c] − x₀[c])` and `squares[c] = Σ(x[c] − x₀[c])²` over the pixels. All three start as zeros.
struct ShiftedSums<'a> {
    pixels: &'a [f32],
    x0: &'a mut [f32],
    sums: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Op for ShiftedSums<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let channels = self.sums.len();
        if channels == 0 {
            return;
        }
        let count = (self.pixels.len() / channels).min(PIXELS_AT_ONCE) as f32;
        for pixel in self.pixels.chunks_exact(channels).take(PIXELS_AT_ONCE) {
            for c in 0..channels {
                self.x0[c] += pixel[c] / count;
            }
        }
        let whole = channels / S::LANES * S::LANES;
        for pixels in self.pixels.chunks(PIXELS_AT_ONCE * channels) {
            for c in (0..whole).step_by(S::LANES) {
                let x0 = s.load(&self.x0[c..]);
                let mut sum = s.load(&self.sums[c..]);
                let mut square = s.load(&self.squares[c..]);
                for pixel in pixels.chunks_exact(channels) {
                    let x = s.sub(s.load(&pixel[c..]), x0);
                    sum = s.add(sum, x);
                    square = s.mul_add(x, x, square);
                }
                s.store(sum, &mut self.sums[c..]);
                s.store(square, &mut self.squares[c..]);
            }
            for pixel in pixels.chunks_exact(channels) {
                for c in whole..channels {
                    let x = pixel[c] - self.x0[c];
                    self.sums[c] += x;
                    self.squares[c] += x * x;
                }
            }
        }
    }
}

impl RowSource for Normalised<'_> {
    /// `activation(x·scale[c] + shift[c])`: the second pass.
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, out: &'a mut [f32]) -> &'a [f32] {
        let (scale, shift) = &self.scale_and_shift[m / self.pixels];
        let mut first = 0;
        for x in self.pieces_of(m, 1) {
            let piece = first..first + x.len();
            first = piece.end;
            let (scale, shift, out) = (&scale[piece.clone()], &shift[piece.clone()], &mut out[piece]);
            let whole = x.len() / S::LANES * S::LANES;
            for c in (0..whole).step_by(S::LANES) {
                let y = s.mul_add(s.load(&x[c..]), s.load(&scale[c..]), s.load(&shift[c..]));
                s.store(y, &mut out[c..]);
            }
            if whole < x.len() {
                let tail = |x: &[f32]| s.load_or(&x[whole..], 0.0);
                s.store_part(s.mul_add(tail(x), tail(scale), tail(shift)), &mut out[whole..]);
            }
        }
        if self.activation == Activation::Silu {
            s.map_in_place(out, Silu); // the pixel is still in the L1 cache
        }
        out
    }
}
