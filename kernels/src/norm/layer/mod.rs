//! Layer normalisation: `y = (x − mean) / √(variance + eps) · weight + bias` over the channels of
//! each token.
//!
//! Each token is normalised on its own, so neither the batch nor the length of the text matters:
//! that is why transformers use it. In Stable Diffusion it comes before each attention and
//! feed-forward layer, in the text encoder as in the UNet.
//!
//! | step | idea |
//! |---|---|
//! | [`mod@reference`] | mean, then variance, then the formula, in `f64` |
//! | [`two_pass`] | the same in f32 on vectors, with the mean's rounding error taken out again |
//!
//! Source: Ba, Kiros & Hinton 2016, [arXiv:1607.06450](https://arxiv.org/abs/1607.06450);
//! `torch.nn.LayerNorm`.

use aquatint_tensor::{Tensor, View};

use crate::cpu::stored::Stored;
use crate::packed_input::{ALayout, Activations};
use crate::{Isa, Precision};

pub mod reference;
pub mod two_pass;

/// `y = (x − mean) / √(variance + eps) · weight + bias`, mean and variance over the last axis.
///
/// `x: [.., c]` → the same shape; `weight` and `bias` have c numbers.
///
/// ```
/// # use aquatint_kernels::{Isa, norm::layer::layer_norm};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([2, 2], vec![1.0, 3.0, 40.0, 20.0]);
/// let y = layer_norm(Isa::best(), x.view(), &[1.0, 5.0], &[0.0, 2.0], 0.0);
/// assert_eq!(y.as_slice(), [-1.0, 7.0, 1.0, -3.0]);
/// ```
///
/// # Panics
/// If weight or bias are not as long as the last axis, or the rank is 0.
pub fn layer_norm<const N: usize>(
    isa: Isa,
    x: View<'_, f32, N>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) -> Tensor<f32, N> {
    two_pass::layer_norm(isa, x, weight, bias, eps)
}

/// [`layer_norm`] as the left operand of a linear layer of this precision.
///
/// # Panics
/// As [`layer_norm`].
pub fn layer_norm_packed<T: Stored, const N: usize>(
    isa: Isa,
    x: View<'_, T, N>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    precision: Precision,
) -> Activations<N> {
    two_pass::layer_norm_packed(isa, x, weight, bias, eps, ALayout::rows(precision))
}

/// The length of the last axis, once it is known that the weights fit it.
fn check<const N: usize>(shape: [usize; N], weight: &[f32], bias: &[f32]) -> usize {
    let channels = *shape.last().expect("layer norm needs a tensor of rank 1 or more");
    assert!(
        weight.len() == channels && bias.len() == channels,
        "the input has {channels} channels, the weight {}, the bias {}",
        weight.len(),
        bias.len()
    );
    channels
}

#[cfg(test)]
mod tests;
