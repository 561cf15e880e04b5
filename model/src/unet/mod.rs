//! The UNet: given a noisy latent, the noise level and the text, it predicts the noise.
//!
//! ```text
//! temb = time_embedding(t)
//! x    = conv_in(latent)
//! x    = down_blocks(x)      64² → 32² → 16² → 8², keeping every result as a skip
//! x    = mid_block(x)
//! x    = up_blocks(x)        8² → 16² → 32² → 64², each layer also takes a skip
//!        conv_out(silu(conv_norm_out(x)))
//! ```
//!
//! Reading order: `config.rs` (the table of channels), `time_embedding.rs`, `resnet.rs`, `transformer.rs`, `sample.rs`
//! (halving and doubling), `blocks.rs`, then `forward` below.
//!
//! Source: Rombach et al., *High-Resolution Image Synthesis with Latent Diffusion Models* (2022); diffusers'
//! `UNet2DConditionModel`. Field names are those of its checkpoints.

pub mod blocks;
mod config;
pub mod resnet;
pub mod sample;
pub mod time_embedding;
pub mod transformer;

use aquatint_kernels::conv2d::Geometry;
use aquatint_kernels::{Isa, activation};
use aquatint_tensor::{Tensor, View};

pub use config::{BlockKind, UNetConfig};

use crate::checkpoint::Weights;
use crate::error::Result;
use crate::layers::{Conv2d, GroupNorm};
use blocks::{Conditioning, DownBlock, MidBlock, UpBlock};
use time_embedding::TimestepEmbedding;

/// The noise predictor of Stable Diffusion.
pub struct UNet2DConditionModel {
    time_embedding: TimestepEmbedding,
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    config: UNetConfig,
}

impl UNet2DConditionModel {
    /// Reads the UNet's weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says.
    pub fn load(w: &Weights<'_>, config: &UNetConfig) -> Result<Self> {
        let channels = config.block_out_channels[0];
        let levels = 0..config.block_out_channels.len();
        let conv = |name, channels| Conv2d::load(&w.at(name), channels, Geometry::same(3));
        Ok(Self {
            time_embedding: TimestepEmbedding::load(&w.at("time_embedding"), config)?,
            conv_in: conv("conv_in", [channels, config.in_channels])?,
            down_blocks: levels
                .clone()
                .map(|level| DownBlock::load(&w.at("down_blocks").at(level), config, level))
                .collect::<Result<_>>()?,
            mid_block: MidBlock::load(&w.at("mid_block"), config)?,
            up_blocks: levels
                .map(|index| UpBlock::load(&w.at("up_blocks").at(index), config, index))
                .collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(
                &w.at("conv_norm_out"),
                channels,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: conv("conv_out", [config.out_channels, channels])?,
            config: config.clone(),
        })
    }

    /// Sizes and switches.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The prediction for `n` latents at one timestep.
    ///
    /// `latents: [n, h, w, in_channels]`, `text: [n, tokens, cross_attention_dim]` → `[n, h, w, out_channels]`. Any `h` and `w` will do;
    /// multiples of 8 halve evenly on every level.
    pub fn forward(
        &self,
        isa: Isa,
        latents: View<'_, f32, 4>,
        timestep: f32,
        text: View<'_, f32, 3>,
    ) -> Tensor<f32, 4> {
        let mut silu_temb = self.time_embedding.forward(isa, timestep);
        activation::silu(isa, silu_temb.as_mut_slice());
        let told = Conditioning { silu_temb: silu_temb.view(), text };

        let x = match self.config.center_input_sample {
            true => self.conv_in.forward(isa, latents.to_tensor().map(|x| 2.0 * x - 1.0).view()),
            false => self.conv_in.forward(isa, latents),
        };
        let mut skips = vec![x];
        for block in &self.down_blocks {
            block.forward(isa, &mut skips, told);
        }
        let mut x = self.mid_block.forward(isa, &skips[skips.len() - 1], told);
        for block in &self.up_blocks {
            x = block.forward(isa, x, &mut skips, told);
        }
        x = self.conv_norm_out.forward_silu(isa, x.view());
        self.conv_out.forward(isa, x.view())
    }
}

#[cfg(test)]
mod tests;
