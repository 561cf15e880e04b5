//! Group normalisation: `y = (x − mean) / √(variance + eps) · weight[c] + bias[c]`, where mean and
//! variance are those of one image's pixels over a group of neighbouring channels (32 groups
//! everywhere in Stable Diffusion).
//!
//! Why groups? *Batch* norm takes its statistics over all images of a batch: what one image becomes
//! then depends on which others are computed with it, and batches of one or two (all that fit while
//! training on large pictures) give noise instead of statistics. *Layer* norm over all channels
//! forces features that live on different scales under one; *instance* norm over single channels
//! wipes out how strongly a feature is present. Groups are between the two, need no running
//! averages, and do the same in training as in use.
//!
//! | step | idea |
//! |---|---|
//! | [`mod@reference`] | mean, then variance, then the formula, in `f64` |
//! | [`streaming`] | statistics in one reading pass; scale, shift and SiLU in one writing pass |
//!
//! The layer before may have taken the statistics ([`stats`](crate::norm::stats)): then an image is
//! read once. Source: Wu & He 2018, [arXiv:1803.08494](https://arxiv.org/abs/1803.08494).

use std::borrow::Cow;

use aquatint_tensor::{Tensor, View};

use crate::Isa;
use crate::cpu::stored::Stored;
use crate::gemm::ChannelStats;
use crate::norm::stats::channel_stats;
use crate::packed_input::{ALayout, Activations};

pub mod reference;
pub mod streaming;

/// What is done to the normalised number before it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x·σ(x)`: nearly every group norm in Stable Diffusion is followed by it, and a pass over
    /// memory is saved.
    Silu,
}

/// The settings and weights of a group norm.
#[derive(Clone, Copy)]
pub struct GroupNorm<'a> {
    /// Neighbouring channels are cut into this many groups of equal size.
    pub num_groups: usize,
    /// Added to the variance, so that a constant group does not divide by zero.
    pub eps: f32,
    /// One factor for each channel.
    pub weight: &'a [f32],
    /// One summand for each channel.
    pub bias: &'a [f32],
    /// What follows.
    pub activation: Activation,
}

/// A part of the channels of images.
#[derive(Clone, Copy)]
pub struct NormInput<'a, T = f32> {
    /// `[n, h, w, c]`
    pub pixels: View<'a, T, 4>,
    /// Their statistics, if the layer that made them took them.
    pub stats: Option<&'a ChannelStats>,
}

impl<'a, T: Stored> From<View<'a, T, 4>> for NormInput<'a, T> {
    fn from(pixels: View<'a, T, 4>) -> Self {
        Self { pixels, stats: None }
    }
}

impl<'a, T: Stored> NormInput<'a, T> {
    /// Those that came along, or of the pixels.
    fn stats(&self, isa: Isa) -> Cow<'a, ChannelStats> {
        match self.stats {
            Some(stats) => {
                let shape = self.pixels.shape();
                assert!(stats.match_shape(shape), "these are moments of other images than of {shape:?}");
                Cow::Borrowed(stats)
            }
            None => Cow::Owned(channel_stats(isa, self.pixels)),
        }
    }
}

impl GroupNorm<'_> {
    fn check(&self, channels: usize) {
        let groups = self.num_groups;
        assert!(
            groups > 0 && channels.is_multiple_of(groups),
            "{channels} channels cannot be cut into {groups} equal groups"
        );
        assert!(
            self.weight.len() == channels && self.bias.len() == channels,
            "the input has {channels} channels, the weight {}, the bias {}",
            self.weight.len(),
            self.bias.len()
        );
    }
}

/// `y = activation((x − mean) / √(variance + eps) · weight[c] + bias[c])`
///
/// `x: [n, h, w, c]` → the same shape.
///
/// ```
/// # use aquatint_kernels::{Isa, norm::group::{Activation, GroupNorm, group_norm}};
/// # use aquatint_tensor::Tensor;
/// // Channel 0 is 1 and 3, channel 1 is 30 and 10.
/// let x = Tensor::from_vec([1, 1, 2, 2], vec![1.0, 30.0, 3.0, 10.0]);
/// let (weight, bias) = (&[1.0, 5.0], &[0.0, 2.0]);
/// let norm = GroupNorm { num_groups: 2, eps: 0.0, weight, bias, activation: Activation::None };
/// assert_eq!(group_norm(Isa::best(), x.view(), norm).as_slice(), [-1.0, 7.0, 1.0, -3.0]);
/// ```
///
/// # Panics
/// If the channels cannot be cut into equal groups, or weight or bias are of another length.
pub fn group_norm(isa: Isa, x: View<'_, f32, 4>, norm: GroupNorm<'_>) -> Tensor<f32, 4> {
    streaming::group_norm(isa, &[x.into()], norm)
}

/// [`group_norm`] of images that are joined channel by channel, without joining them: `[n, h, w,
/// c₀]`, `[n, h, w, c₁]`, … → `[n, h, w, c₀ + c₁ + …]`. A group may span the border between two. Of
/// images that come in smaller batches, image i is number i mod n.
///
/// ```
/// # use aquatint_kernels::{Isa, norm::group::{Activation, GroupNorm, group_norm_concat}};
/// # use aquatint_tensor::Tensor;
/// let [a, b] = [1.0, 3.0].map(|x| Tensor::from_vec([1, 1, 1, 1], vec![x]));
/// let (weight, bias, activation) = (&[1.0; 2], &[0.0; 2], Activation::None);
/// let norm = GroupNorm { num_groups: 1, eps: 0.0, weight, bias, activation };
/// assert_eq!(group_norm_concat(Isa::best(), &[a.view(), b.view()], norm).as_slice(), [-1.0, 1.0]);
/// ```
///
/// # Panics
/// If there is no image, or they differ in size, or as [`group_norm`].
pub fn group_norm_concat(isa: Isa, inputs: &[View<'_, f32, 4>], norm: GroupNorm<'_>) -> Tensor<f32, 4> {
    let inputs: Vec<_> = inputs.iter().map(|&input| input.into()).collect();
    streaming::group_norm(isa, &inputs, norm)
}

/// [`group_norm_concat`] as the left operand of a product: f32, or rounded with a border, as `form`
/// says. Pieces whose moments come along are read once.
///
/// # Panics
/// As [`group_norm_concat`].
pub fn group_norm_packed<T: Stored>(
    isa: Isa,
    inputs: &[NormInput<'_, T>],
    norm: GroupNorm<'_>,
    layout: ALayout,
) -> Activations<4> {
    streaming::group_norm_packed(isa, inputs, norm, layout)
}

/// The shape of all pieces joined.
fn concat_shape<T: Stored>(inputs: &[NormInput<'_, T>]) -> [usize; 4] {
    let shapes = || inputs.iter().map(|input| input.pixels.shape());
    let [_, height, width, _] = shapes().next().expect("at least one image to normalise");
    let images = shapes().map(|[n, ..]| n).max().unwrap_or(0);
    for shape in shapes() {
        let [n, h, w, _] = shape;
        assert!(
            [h, w] == [height, width] && (images == 0 || n > 0 && images.is_multiple_of(n)),
            "{shape:?} cannot be joined to {images} images of {height} × {width}",
        );
    }
    [images, height, width, shapes().map(|[.., c]| c).sum()]
}

#[cfg(test)]
mod tests;
