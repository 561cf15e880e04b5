//! A pass that writes the result, after one that only reads and takes the statistics of those pieces that come without [`moments`](crate::norm::stats).
//!
//! ```text
//! mean, variance of each group      merged of the moments of its channels, whatever pieces they stand in        f64
//! y = activation(x·scale[c] + shift[c])           scale = weight / √(variance + eps), shift = bias − mean·scale
//! ```

use std::borrow::Cow;

use aquatint_tensor::Tensor;
use rayon::prelude::*;

use super::{Activation, GroupNorm, Piece, joined_shape};
use crate::Isa;
use crate::activation::pointwise::Silu;
use crate::cpu::partition::row_major;
use crate::cpu::simd::Simd;
use crate::norm::stats::Spread;
use crate::packed_input::RowSource;
use crate::packed_input::{Form, Operand, tensor_of_rows};

/// See [`group_norm_joined`](super::group_norm_joined()).
///
/// # Panics
/// As [`group_norm_joined`](super::group_norm_joined()).
pub fn group_norm(isa: Isa, pieces: &[Piece<'_>], norm: GroupNorm<'_>) -> Tensor<f32, 4> {
    tensor_of_rows(isa, joined_shape(pieces), &Normalised::new(isa, pieces, norm))
}

/// See [`group_norm_for`](super::group_norm_for).
pub(super) fn group_norm_for(isa: Isa, pieces: &[Piece<'_>], norm: GroupNorm<'_>, form: Form) -> Operand<4> {
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
    fn new(isa: Isa, pieces: &[Piece<'a>], norm: GroupNorm<'_>) -> Self {
        let [images, height, width, channels] = joined_shape(pieces);
        norm.check(channels);
        let moments: Vec<_> = pieces.iter().map(|piece| piece.moments(isa)).collect();
        let scale_and_shift = |image: usize| {
            let all: Vec<_> = moments.iter().flat_map(|moments| moments.of_image(image)).collect();
            scale_and_shift(&all, norm)
        };
        Self {
            pieces: pieces.iter().map(|piece| row_major(piece.pixels)).collect(),
            channels: pieces.iter().map(|piece| piece.pixels.shape()[3]).collect(),
            pixels: height * width,
            scale_and_shift: (0..images).into_par_iter().map(scale_and_shift).collect(),
            activation: norm.activation,
        }
    }

    /// The numbers of a pixel, piece by piece; pixels are counted through all images, and a piece with fewer images begins again at its end.
    #[inline(always)]
    fn pixel(&self, m: usize) -> impl Iterator<Item = &[f32]> {
        let pieces = self.pieces.iter().zip(&self.channels).filter(|(_, channels)| **channels > 0);
        pieces.map(move |(piece, &channels)| {
            let m = if m * channels < piece.len() { m } else { m % (piece.len() / channels) };
            &piece[m * channels..][..channels]
        })
    }
}

/// The two vectors with which `x·scale + shift` is the normalised x.
fn scale_and_shift(channels: &[Spread], norm: GroupNorm<'_>) -> (Vec<f32>, Vec<f32>) {
    let group_size = norm.weight.len() / norm.num_groups;
    let (mut scale, mut shift) = (Vec::new(), Vec::new());
    for group in 0..norm.num_groups {
        let range = group * group_size..(group + 1) * group_size;
        let whole = channels[range.clone()].iter().copied().fold(Spread::default(), Spread::merge);
        let deviation = (whole.variance() + f64::from(norm.eps)).sqrt();
        for c in range {
            let rounded = (f64::from(norm.weight[c]) / deviation) as f32;
            scale.push(rounded);
            // From the scale as it will be used, so that its rounding is not multiplied by the mean.
            shift.push((f64::from(norm.bias[c]) - whole.mean * f64::from(rounded)) as f32);
        }
    }
    (scale, shift)
}

impl RowSource for Normalised<'_> {
    /// `activation(x·scale[c] + shift[c])`: the second pass.
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, out: &'a mut [f32]) -> &'a [f32] {
        let (scale, shift) = &self.scale_and_shift[m / self.pixels];
        let mut first = 0;
        for x in self.pixel(m) {
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
