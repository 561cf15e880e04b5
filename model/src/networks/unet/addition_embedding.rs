//! Stable Diffusion XL's second embedding: what the UNet takes besides time and text.
//!
//! ```text
//! time_ids  = [original height, width, crop top, left, target height, width]     base
//!             [original height, width, crop top, left, aesthetic score]          refiner
//! aug_emb   = linear_2(silu(linear_1([pooled text, sinusoidal(each of time_ids)])))
//! temb     += aug_emb
//! ```
//!
//! Training pictures have many sizes and are cropped; a UNet that knows both can leave their traces
//! out. The embedding differs from text to text, and so does everything that the time enters.
//!
//! Source: Podell et al., *SDXL: Improving Latent Diffusion Models for High-Resolution Image
//! Synthesis* (2023), section 2.2; diffusers' `add_time_proj` and `add_embedding`.

use aquatint_kernels::{Isa, activation};
use aquatint_tensor::{Tensor, View};

use super::UNetConfig;
use super::config::AdditionConfig;
use super::time_embedding::sinusoidal;
use crate::error::Result;
use crate::networks::layers::Linear;
use crate::source::Weights;

/// What the embedding is made of, for each text.
#[derive(Clone, Copy)]
pub struct Addition<'a> {
    /// The pooled texts: `[texts, c]`.
    pub pooled: View<'a, f32, 2>,
    /// Sizes, and crops or scores: `[texts, numbers]`.
    pub time_ids: View<'a, f32, 2>,
}

/// From pooled texts and numbers to what is added to the time embedding.
pub struct AdditionEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    config: AdditionConfig,
    flip_sin_to_cos: bool,
    freq_shift: f32,
}

impl AdditionEmbedding {
    /// Reads `linear_1` and `linear_2`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, unet: &UNetConfig, config: AdditionConfig) -> Result<Self> {
        let out_channels = unet.time_embed_dim();
        Ok(Self {
            linear_1: Linear::load(&w.at("linear_1"), [out_channels, config.in_channels])?,
            linear_2: Linear::load(&w.at("linear_2"), [out_channels, out_channels])?,
            config,
            flip_sin_to_cos: unet.flip_sin_to_cos,
            freq_shift: unet.freq_shift,
        })
    }

    /// A row for each text → `[texts, time_embed_dim]`.
    ///
    /// # Panics
    /// If texts and numbers do not have the channels that the config says.
    pub fn forward(&self, isa: Isa, Addition { pooled, time_ids }: Addition<'_>) -> Tensor<f32, 2> {
        let AdditionConfig { time_embed_dim, in_channels } = self.config;
        let ([texts, channels], [_, numbers]) = (pooled.shape(), time_ids.shape());
        assert_eq!(
            channels + numbers * time_embed_dim,
            in_channels,
            "{channels} channels of the text and {numbers} numbers do not fit the embedding"
        );
        let (pooled, time_ids) = (pooled.to_tensor(), time_ids.to_tensor());
        let rows = pooled.as_slice().chunks(channels).zip(time_ids.as_slice().chunks(numbers));
        let inputs = rows.flat_map(|(pooled, time_ids)| {
            let waves = |&x| sinusoidal(x, time_embed_dim, self.flip_sin_to_cos, self.freq_shift).into_iter();
            pooled.iter().copied().chain(time_ids.iter().flat_map(waves))
        });
        let inputs = Tensor::from_vec([texts, in_channels], inputs.collect());
        let mut hidden = self.linear_1.forward(isa, inputs.view());
        activation::silu(isa, hidden.as_mut_slice());
        self.linear_2.forward(isa, hidden.view())
    }
}
