//! The UNet: given a noisy latent, the noise level and the text, it predicts the noise.
//!
//! ```text
//! temb = time_embedding(t)     for all steps at once, as keys and values of the text: `prepare`
//! x    = conv_in(latent)       the rest is `forward`
//! x    = down_blocks(x)      64² → 32² → 16² → 8², keeping every result as a skip
//! x    = mid_block(x)
//! x    = up_blocks(x)        8² → 16² → 32² → 64², each layer also takes a skip
//!        conv_out(silu(conv_norm_out(x)))
//! ```
//!
//! Reading order: `config.rs` (the table of channels), `depths.rs`, `time_embedding.rs`,
//! `addition_embedding.rs` (SDXL), `resnet.rs`, `transformer.rs`, `sample.rs` (halving and
//! doubling), `conditioning.rs`, `blocks.rs`, then `prepare` and `forward` below.
//!
//! Source: Rombach et al., *High-Resolution Image Synthesis with Latent Diffusion Models* (2022);
//! diffusers' `UNet2DConditionModel`. Field names are those of its checkpoints.

pub mod addition_embedding;
pub mod blocks;
pub mod conditioning;
mod config;
pub mod deep_cache;
pub mod depths;
pub mod resnet;
pub mod sample;
pub mod time_embedding;
pub mod token_merge;
pub mod transformer;

use aquatint_kernels::conv2d::Geometry;
use aquatint_kernels::{Isa, activation};
use aquatint_tensor::{Tensor, View, concat, f16};

pub use addition_embedding::Addition;
pub use conditioning::{Conditioning, Conditions, Residuals};
pub use config::{AdditionConfig, BlockKind, MidBlockKind, UNetConfig};
pub use depths::TransformerDepths;

use crate::error::Result;
use crate::networks::layers::{Conv2d, FeatureMap, GroupNorm, Stored};
use crate::networks::storage::{finite_or, is_half};
use crate::source::{Role, Weights};
use addition_embedding::AdditionEmbedding;
use blocks::{DownBlock, MidBlock, UpBlock};
use conditioning::BlockInputs;
use deep_cache::CacheUse;
use time_embedding::TimestepEmbedding;

/// The noise predictor of Stable Diffusion.
pub struct UNet2DConditionModel {
    time_embedding: TimestepEmbedding,
    add_embedding: Option<AdditionEmbedding>,
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    config: UNetConfig,
    /// Whether it stores f16 between its layers.
    half: bool,
}

impl UNet2DConditionModel {
    /// Reads the UNet's weights.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says.
    pub fn load(w: &Weights<'_>, config: &UNetConfig) -> Result<Self> {
        let channels = config.block_out_channels[0];
        let levels = 0..config.block_out_channels.len();
        let conv = |name, channels| Conv2d::load_in_f32(&w.at(name), channels, Geometry::same(3));
        Ok(Self {
            time_embedding: TimestepEmbedding::load(
                &w.at("time_embedding").role(Role::Once).in_f32(),
                config,
            )?,
            add_embedding: config
                .addition
                .map(|addition| {
                    let w = w.at("add_embedding").role(Role::Once).in_f32();
                    AdditionEmbedding::load(&w, config, addition)
                })
                .transpose()?,
            conv_in: conv("conv_in", [channels, config.in_channels])?,
            down_blocks: levels
                .clone()
                .map(|level| DownBlock::load(&w.at("down_blocks").at(level).halved(level), config, level))
                .collect::<Result<_>>()?,
            mid_block: config
                .mid_block
                .map(|kind| MidBlock::load(&w.at("mid_block").halved(levels.end - 1), config, kind))
                .transpose()?,
            up_blocks: levels
                .clone()
                .map(|index| {
                    let w = w.at("up_blocks").at(index).halved(levels.end - 1 - index);
                    UpBlock::load(&w, config, index)
                })
                .collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(
                &w.at("conv_norm_out").in_f32(),
                channels,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: conv("conv_out", [config.out_channels, channels])?,
            config: config.clone(),
            half: is_half(w.precision()),
        })
    }

    /// Sizes and switches.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// Computes what does not depend on the latents, for all steps of a picture.
    ///
    /// `text: [texts, tokens, cross_attention_dim]`; `timesteps` are those of the calls of
    /// `forward` to come.
    pub fn prepare(&self, isa: Isa, text: View<'_, f32, 3>, timesteps: &[f32]) -> Conditioning {
        let conditions =
            Conditions { text, timesteps, guidance_scale: 1.0, token_merging: 0.0, addition: None };
        self.prepare_with(isa, conditions)
    }

    /// The same, also for models that take the guidance scale, a pooled text or sizes as inputs.
    ///
    /// # Panics
    /// If the config has an `addition` and the conditions have none, or if it is not of as many
    /// texts.
    pub fn prepare_with(&self, isa: Isa, conditions: Conditions<'_>) -> Conditioning {
        let Conditions { text, timesteps, guidance_scale, token_merging, addition } = conditions;
        let temb = self.time_embedding.forward(isa, timesteps, guidance_scale);
        let (mut silu_temb, rows) = match &self.add_embedding {
            None => (temb, 1),
            Some(add_embedding) => {
                let addition = addition.expect("this UNet takes a pooled text and sizes");
                assert_eq!(addition.pooled.shape()[0], text.shape()[0], "a pooled text for each text");
                let aug_emb = add_embedding.forward(isa, addition);
                (sums(&temb, &aug_emb), aug_emb.shape()[0])
            }
        };
        activation::silu(isa, silu_temb.as_mut_slice());
        let inputs = BlockInputs { silu_temb: silu_temb.view(), rows, text, token_merging: 0.0 };
        let outermost = BlockInputs { token_merging, ..inputs };
        let last = self.up_blocks.len().saturating_sub(1);
        let at = |is_outermost| if is_outermost { outermost } else { inputs };
        let down = self.down_blocks.iter().enumerate();
        let up = self.up_blocks.iter().enumerate();
        Conditioning {
            texts: text.shape()[0],
            time_per_text: self.add_embedding.is_some(),
            down_blocks: down.map(|(i, block)| block.prepare(isa, at(i == 0))).collect(),
            mid_block: self.mid_block.as_ref().map(|block| block.prepare(isa, inputs)),
            up_blocks: up.map(|(i, block)| block.prepare(isa, at(i == last))).collect(),
        }
    }

    /// The prediction for each text at step number `step` of the prepared ones.
    ///
    /// `latents: [n, h, w, in_channels]` → `[texts, h, w, out_channels]`; text i looks at latent i
    /// mod n. With guidance two texts look at each latent, and what comes before the first
    /// cross-attention is computed once for both, unless the time embedding depends on the text.
    /// Any `h` and `w` will do; multiples of 8 halve evenly on every level.
    ///
    /// # Panics
    /// If the latents cannot be shared evenly, or there is no such step.
    pub fn forward(
        &self,
        isa: Isa,
        latents: View<'_, f32, 4>,
        step: usize,
        cond: &Conditioning,
    ) -> Tensor<f32, 4> {
        self.forward_with(isa, latents, step, cond, Residuals::default())
    }

    /// The same with residuals: each skip, and the result of the middle block, is added to before
    /// the up blocks read it.
    ///
    /// # Panics
    /// Also if there are other than one residual for each skip, or if their sizes do not fit.
    pub fn forward_with(
        &self,
        isa: Isa,
        latents: View<'_, f32, 4>,
        step: usize,
        cond: &Conditioning,
        residuals: Residuals<'_>,
    ) -> Tensor<f32, 4> {
        self.forward_cached(isa, latents, step, cond, residuals, &mut CacheUse::None)
    }

    /// The same with what an earlier step left, or leaving something for the next; see
    /// [`deep_cache`].
    ///
    /// # Panics
    /// Also if a cache is used that was not filled for as many texts.
    pub fn forward_cached(
        &self,
        isa: Isa,
        latents: View<'_, f32, 4>,
        step: usize,
        cond: &Conditioning,
        residuals: Residuals<'_>,
        cache: &mut CacheUse<'_>,
    ) -> Tensor<f32, 4> {
        let ([images, ..], texts) = (latents.shape(), cond.texts);
        assert!(
            images > 0 && texts.is_multiple_of(images),
            "{images} latents cannot be shared among {texts} texts"
        );
        let repeated = concat(&vec![latents; if cond.time_per_text { texts / images } else { 1 }], 0);
        let latents = repeated.view();
        match self.half {
            true => {
                let half = self.forward_stored::<f16>(isa, latents, step, cond, residuals, cache);
                finite_or(half, || self.forward_stored::<f32>(isa, latents, step, cond, residuals, cache))
            }
            false => self.forward_stored::<f32>(isa, latents, step, cond, residuals, cache),
        }
    }

    /// With what flows between the layers stored in this type.
    fn forward_stored<T: Stored>(
        &self,
        isa: Isa,
        latents: View<'_, f32, 4>,
        step: usize,
        cond: &Conditioning,
        residuals: Residuals<'_>,
        cache: &mut CacheUse<'_>,
    ) -> Tensor<f32, 4> {
        let x: FeatureMap<T> = match self.config.center_input_sample {
            true => self.conv_in.forward(isa, latents.to_tensor().map(|x| 2.0 * x - 1.0).view()),
            false => self.conv_in.forward(isa, latents),
        };
        let mut skips = vec![x];
        if let CacheUse::Reuse(cache) = cache {
            return self.last_layer(isa, cache.kept(), &skips[0], cond, step);
        }
        for (block, cond) in self.down_blocks.iter().zip(&cond.down_blocks) {
            block.forward(isa, &mut skips, cond.at(step));
        }
        let last = &skips[skips.len() - 1];
        let mut x = match (&self.mid_block, &cond.mid_block) {
            (Some(block), Some(cond)) => block.forward(isa, last, cond.at(step)),
            _ => last.clone(),
        };
        if !residuals.down_blocks.is_empty() {
            assert_eq!(residuals.down_blocks.len(), skips.len(), "a residual for each skip");
            skips =
                skips.iter().zip(residuals.down_blocks).map(|(skip, r)| skip.plus(isa, r.view())).collect();
        }
        if let Some(residual) = residuals.mid_block {
            x = x.plus(isa, residual.view());
        }
        for (i, (block, cond)) in self.up_blocks.iter().zip(&cond.up_blocks).enumerate() {
            let mut keep = |x: &FeatureMap<T>| match cache {
                CacheUse::Fill(cache) if i + 1 == self.up_blocks.len() => cache.keep(isa, x),
                _ => {}
            };
            x = block.forward(isa, x, &mut skips, cond.at(step), &mut keep);
        }
        self.leave(isa, x)
    }

    /// The last layer of the last up block, and what is behind it.
    fn last_layer<T: Stored>(
        &self,
        isa: Isa,
        x: FeatureMap<T>,
        skip: &FeatureMap<T>,
        cond: &Conditioning,
        step: usize,
    ) -> Tensor<f32, 4> {
        let last = self.up_blocks.last().zip(cond.up_blocks.last());
        let (block, cond) = last.expect("a UNet has blocks");
        self.leave(isa, block.last_layer(isa, x, skip, cond.at(step)))
    }

    fn leave<T: Stored>(&self, isa: Isa, x: FeatureMap<T>) -> Tensor<f32, 4> {
        let normed = self.conv_norm_out.forward_silu(isa, &x);
        drop(x);
        self.conv_out.forward_last(isa, &normed)
    }
}

/// Each row of `a` plus each of `b`: `[n, c]`, `[m, c]` → `[n · m, c]`, those of a's first row
/// first.
fn sums(a: &Tensor<f32, 2>, b: &Tensor<f32, 2>) -> Tensor<f32, 2> {
    let ([n, channels], [m, _]) = (a.shape(), b.shape());
    let rows = a.as_slice().chunks(channels);
    let sums = rows.flat_map(|row| {
        let others = b.as_slice().chunks(channels);
        others.flat_map(move |other| row.iter().zip(other).map(|(a, b)| a + b))
    });
    Tensor::from_vec([n * m, channels], sums.collect())
}

#[cfg(test)]
mod tests;
