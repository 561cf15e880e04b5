//! One pass that writes the result, after one that only reads the inputs whose statistics are not
//! known ([`norm::stats`](crate::norm::stats)).
//!
//! ```text
//! mean, variance of each group            f64, merged from those of its channels
//! scale = weight / √(variance + eps)      shift = bias − mean·scale
//! y = activation(x·scale[c] + shift[c])
//! ```

use std::borrow::Cow;

use aquatint_tensor::Tensor;
use rayon::prelude::*;

use super::{Activation, GroupNorm, NormInput, concat_shape};
use crate::Isa;
use crate::cpu::partition::row_major;
use crate::cpu::simd::Simd;
use crate::cpu::simd::pointwise::Silu;
use crate::cpu::stored::Stored;
use crate::gemm::RowSource;
use crate::gemm::Welford;
use crate::packed_input::{ALayout, Activations, tensor_of_rows};

/// See [`group_norm_concat`](super::group_norm_concat()).
///
/// # Panics
/// As [`group_norm_concat`](super::group_norm_concat()).
pub fn group_norm<T: Stored>(isa: Isa, inputs: &[NormInput<'_, T>], norm: GroupNorm<'_>) -> Tensor<f32, 4> {
    tensor_of_rows(isa, concat_shape(inputs), &Normalised::new(isa, inputs, norm))
}

/// See [`group_norm_packed`](super::group_norm_packed).
pub(super) fn group_norm_packed<T: Stored>(
    isa: Isa,
    inputs: &[NormInput<'_, T>],
    norm: GroupNorm<'_>,
    layout: ALayout,
) -> Activations<4> {
    Activations::from_rows(isa, layout, concat_shape(inputs), &Normalised::new(isa, inputs, norm))
}

/// Pixels as they will be: the statistics are known.
struct Normalised<'a, T: Stored> {
    /// Those of each piece, one image behind the other.
    inputs: Vec<Cow<'a, [T]>>,
    /// Channels of each piece.
    channels: Vec<usize>,
    /// Pixels of an image.
    pixels: usize,
    /// Of each image: with these two vectors, `x·scale + shift` is the normalised x.
    scale_and_shift: Vec<(Vec<f32>, Vec<f32>)>,
    activation: Activation,
}

impl<'a, T: Stored> Normalised<'a, T> {
    fn new(isa: Isa, inputs: &[NormInput<'a, T>], norm: GroupNorm<'_>) -> Self {
        let [images, height, width, channels] = concat_shape(inputs);
        norm.check(channels);
        let stats: Vec<_> = inputs.iter().map(|input| input.stats(isa)).collect();
        let scale_and_shift = |image: usize| {
            let all: Vec<_> = stats.iter().flat_map(|stats| stats.of_image(image)).collect();
            scale_and_shift(&all, norm)
        };
        Self {
            inputs: inputs.iter().map(|input| row_major(input.pixels)).collect(),
            channels: inputs.iter().map(|input| input.pixels.shape()[3]).collect(),
            pixels: height * width,
            scale_and_shift: (0..images).into_par_iter().map(scale_and_shift).collect(),
            activation: norm.activation,
        }
    }

    /// The numbers of a pixel, piece by piece; pixels are counted through all images, and a piece
    /// with fewer images begins again at its end.
    #[inline(always)]
    fn pixel(&self, m: usize) -> impl Iterator<Item = &[T]> {
        let inputs = self.inputs.iter().zip(&self.channels).filter(|(_, channels)| **channels > 0);
        inputs.map(move |(input, &channels)| {
            let m = if m * channels < input.len() { m } else { m % (input.len() / channels) };
            &input[m * channels..][..channels]
        })
    }
}

/// The two vectors with which `x·scale + shift` is the normalised x.
fn scale_and_shift(channels: &[Welford], norm: GroupNorm<'_>) -> (Vec<f32>, Vec<f32>) {
    let group_size = norm.weight.len() / norm.num_groups;
    let (mut scale, mut shift) = (Vec::new(), Vec::new());
    for group in 0..norm.num_groups {
        let range = group * group_size..(group + 1) * group_size;
        let whole = channels[range.clone()].iter().copied().fold(Welford::default(), Welford::merge);
        let deviation = (whole.variance() + f64::from(norm.eps)).sqrt();
        for c in range {
            let rounded = (f64::from(norm.weight[c]) / deviation) as f32;
            scale.push(rounded);
            // From the scale as it will be used, so that its rounding is not multiplied by the
            // mean.
            shift.push((f64::from(norm.bias[c]) - whole.mean * f64::from(rounded)) as f32);
        }
    }
    (scale, shift)
}

impl<T: Stored> RowSource for Normalised<'_, T> {
    /// `activation(x·scale[c] + shift[c])`: the second pass.
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, out: &'a mut [f32]) -> &'a [f32] {
        let (scale, shift) = &self.scale_and_shift[m / self.pixels];
        let mut first = 0;
        for x in self.pixel(m) {
            let input = first..first + x.len();
            first = input.end;
            let (scale, shift, out) = (&scale[input.clone()], &shift[input.clone()], &mut out[input]);
            let whole = x.len() / S::LANES * S::LANES;
            for c in (0..whole).step_by(S::LANES) {
                let y = s.mul_add(T::load(s, &x[c..]), s.load(&scale[c..]), s.load(&shift[c..]));
                s.store(y, &mut out[c..]);
            }
            if whole < x.len() {
                let tail = |x: &[f32]| s.load_or(&x[whole..], 0.0);
                let x = T::load_or(s, &x[whole..], 0.0);
                s.store_part(s.mul_add(x, tail(scale), tail(shift)), &mut out[whole..]);
            }
        }
        if self.activation == Activation::Silu {
            s.map_in_place(out, Silu); // the pixel is still in the L1 cache
        }
        out
    }
}
