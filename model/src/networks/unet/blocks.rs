//! The UNet's blocks: down, middle, up.
//!
//! ```text
//! down   [resnet → transformer] × layers, then halve the size     every result is also a skip
//! mid    resnet → transformer → resnet
//! up     [join a skip → resnet → transformer] × (layers + 1), then double the size
//! ```
//!
//! `DownBlock2D` and `UpBlock2D` are the same without transformers. Source: Ronneberger et al.,
//! *U-Net: Convolutional Networks for Biomedical Image Segmentation* (2015); diffusers' classes of
//! the same names.

use aquatint_kernels::Isa;

use super::conditioning::{BlockConditioning, BlockInputs, StepConditioning};
use super::resnet::{ResnetBlock2D, ResnetConfig};
use super::sample::{Downsample2D, Upsample2D};
use super::transformer::{Transformer2DModel, TransformerConfig};
use super::{BlockKind, MidBlockKind, UNetConfig};
use crate::error::Result;
use crate::networks::layers::{FeatureMap, Stored};
use crate::source::Weights;

/// `DownBlock2D` or `CrossAttnDownBlock2D`.
pub struct DownBlock {
    resnets: Vec<ResnetBlock2D>,
    /// One for each residual block, or none at all.
    attentions: Vec<Transformer2DModel>,
    downsampler: Option<Downsample2D>,
}

impl DownBlock {
    /// Block number `level`, counted from the outermost in.
    ///
    /// # Errors
    /// As for every `load` here: if a tensor is missing or has another shape.
    pub fn load(w: &Weights<'_>, config: &UNetConfig, level: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let layers = config.layers_per_block[level];
        let last = level + 1 == channels.len();
        Ok(Self {
            resnets: (0..layers)
                .map(|i| {
                    let in_channels =
                        if i == 0 { channels[level.saturating_sub(1)] } else { channels[level] };
                    let resnet = resnet(config, in_channels, channels[level]);
                    ResnetBlock2D::load(&w.at("resnets").at(i), resnet)
                })
                .collect::<Result<_>>()?,
            attentions: attentions(
                w,
                config,
                config.down_blocks[level],
                level,
                &config.transformer_depths.down[level],
            )?,
            downsampler: (!last)
                .then(|| {
                    // It computes the pixels that it leaves.
                    let w = w.at("downsamplers.0").halved(level + 1);
                    Downsample2D::load(&w, channels[level], config.downsample_padding)
                })
                .transpose()?,
        })
    }

    /// What this block needs besides the image.
    pub fn prepare(&self, isa: Isa, inputs: BlockInputs<'_>) -> BlockConditioning {
        BlockConditioning::new(isa, &self.resnets, &self.attentions, inputs)
    }

    /// Continues from the last of the `skips` and appends each result to them; the block's own
    /// result is the new last one.
    pub fn forward<T: Stored>(&self, isa: Isa, skips: &mut Vec<FeatureMap<T>>, cond: StepConditioning<'_>) {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let mut x = resnet.forward(isa, last(skips), Some(cond.time(i)));
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(isa, &x, cond.text(i));
            }
            skips.push(x);
        }
        if let Some(downsampler) = &self.downsampler {
            let x = downsampler.forward(isa, last(skips).view());
            skips.push(x);
        }
    }
}

/// `UNetMidBlock2DCrossAttn`, or `UNetMidBlock2D` of a single residual block.
pub struct MidBlock {
    resnets: Vec<ResnetBlock2D>,
    /// Between each residual block and the next.
    attentions: Vec<Transformer2DModel>,
}

impl MidBlock {
    /// Reads the weights.
    ///
    /// # Errors
    /// See [`DownBlock::load`].
    pub fn load(w: &Weights<'_>, config: &UNetConfig, kind: MidBlockKind) -> Result<Self> {
        let level = config.block_out_channels.len() - 1;
        let channels = config.block_out_channels[level];
        let resnet = ResnetConfig {
            output_scale_factor: config.mid_block_scale_factor,
            ..resnet(config, channels, channels)
        };
        let depths = match kind {
            MidBlockKind::Residual => &[][..],
            MidBlockKind::CrossAttention => &[config.transformer_depths.mid],
        };
        Ok(Self {
            resnets: (0..=depths.len())
                .map(|i| ResnetBlock2D::load(&w.at("resnets").at(i), resnet))
                .collect::<Result<_>>()?,
            attentions: depths
                .iter()
                .enumerate()
                .map(|(i, &layers)| {
                    let transformer = transformer(config, level, layers);
                    let transformer = TransformerConfig { only_cross_attention: false, ..transformer };
                    Transformer2DModel::load(&w.at("attentions").at(i), transformer)
                })
                .collect::<Result<_>>()?,
        })
    }

    /// What this block needs besides the image.
    pub fn prepare(&self, isa: Isa, inputs: BlockInputs<'_>) -> BlockConditioning {
        BlockConditioning::new(isa, &self.resnets, &self.attentions, inputs)
    }

    /// `x: [n, h, w, c]` → `[texts, h, w, c]`; without attention as many images as before.
    pub fn forward<T: Stored>(
        &self,
        isa: Isa,
        x: &FeatureMap<T>,
        cond: StepConditioning<'_>,
    ) -> FeatureMap<T> {
        let mut x = self.resnets[0].forward(isa, x, Some(cond.time(0)));
        for (i, (attention, resnet)) in self.attentions.iter().zip(&self.resnets[1..]).enumerate() {
            x = attention.forward(isa, &x, cond.text(i));
            x = resnet.forward(isa, &x, Some(cond.time(i + 1)));
        }
        x
    }
}

/// `UpBlock2D` or `CrossAttnUpBlock2D`.
pub struct UpBlock {
    resnets: Vec<ResnetBlock2D>,
    /// One for each residual block, or none at all.
    attentions: Vec<Transformer2DModel>,
    upsampler: Option<Upsample2D>,
}

impl UpBlock {
    /// Block number `index`, counted from the innermost out.
    ///
    /// # Errors
    /// See [`DownBlock::load`].
    pub fn load(w: &Weights<'_>, config: &UNetConfig, index: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let innermost = channels.len() - 1;
        let level = innermost - index;
        let layers = config.layers_per_block[level] + 1;
        Ok(Self {
            resnets: (0..layers)
                .map(|i| {
                    // The first block takes the result of the level below; the last skip comes from
                    // the level above.
                    let from = if i == 0 { channels[(level + 1).min(innermost)] } else { channels[level] };
                    let skip =
                        if i + 1 == layers { channels[level.saturating_sub(1)] } else { channels[level] };
                    let joined = resnet(config, from + skip, channels[level]);
                    let joined = ResnetConfig { segment_len: gcd(from, skip), ..joined };
                    ResnetBlock2D::load(&w.at("resnets").at(i), joined)
                })
                .collect::<Result<_>>()?,
            attentions: attentions(
                w,
                config,
                config.up_blocks[index],
                level,
                &config.transformer_depths.up[index],
            )?,
            upsampler: (level > 0)
                .then(|| {
                    // It computes the pixels of the level above.
                    Upsample2D::load(&w.at("upsamplers.0").halved(level - 1), channels[level])
                })
                .transpose()?,
        })
    }

    /// What this block needs besides the image.
    pub fn prepare(&self, isa: Isa, inputs: BlockInputs<'_>) -> BlockConditioning {
        BlockConditioning::new(isa, &self.resnets, &self.attentions, inputs)
    }

    /// Joins one skip after the other to `x`, the youngest first, and ends at the size of the skip
    /// that the next block will take.
    ///
    /// Skips computed before the first cross-attention have batch n, not texts·n, and are
    /// broadcast.
    pub fn forward<T: Stored>(
        &self,
        isa: Isa,
        mut x: FeatureMap<T>,
        skips: &mut Vec<FeatureMap<T>>,
        cond: StepConditioning<'_>,
        before_last: &mut dyn FnMut(&FeatureMap<T>),
    ) -> FeatureMap<T> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            if i + 1 == self.resnets.len() {
                before_last(&x);
            }
            let skip = skips.pop().expect("the down path left a skip for each residual block");
            x = resnet.forward_concat(isa, &[&x, &skip], Some(cond.time(i)));
            drop(skip);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(isa, &x, cond.text(i));
            }
        }
        if let Some(upsampler) = &self.upsampler {
            let [_, height, width, _] = last(skips).shape();
            x = upsampler.forward_to(isa, x.view(), [height, width]);
        }
        x
    }
}

impl UpBlock {
    /// Its last layer alone: `x` is what [`forward`](Self::forward) shows to `before_last`.
    pub fn last_layer<T: Stored>(
        &self,
        isa: Isa,
        x: FeatureMap<T>,
        skip: &FeatureMap<T>,
        cond: StepConditioning<'_>,
    ) -> FeatureMap<T> {
        let last = self.resnets.len() - 1;
        let x = self.resnets[last].forward_concat(isa, &[&x, skip], Some(cond.time(last)));
        match self.attentions.get(last) {
            Some(attention) => attention.forward(isa, &x, cond.text(last)),
            None => x,
        }
    }
}

fn last<T: Stored>(skips: &[FeatureMap<T>]) -> &FeatureMap<T> {
    skips.last().expect("the result of conv_in is the first skip")
}

/// The greatest common divisor.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn resnet(config: &UNetConfig, in_channels: usize, out_channels: usize) -> ResnetConfig {
    ResnetConfig {
        in_channels,
        segment_len: in_channels,
        out_channels,
        temb_channels: Some(config.time_embed_dim()),
        num_groups: config.norm_num_groups,
        eps: config.norm_eps,
        output_scale_factor: 1.0,
    }
}

fn transformer(config: &UNetConfig, level: usize, layers: usize) -> TransformerConfig {
    TransformerConfig {
        channels: config.block_out_channels[level],
        heads: config.heads[level],
        cross_attention_dim: config.cross_attention_dim[level],
        layers,
        num_groups: config.norm_num_groups,
        only_cross_attention: config.only_cross_attention[level],
        use_linear_projection: config.use_linear_projection,
    }
}

/// The transformers of a block, one of each depth; none if it has no attention.
fn attentions(
    w: &Weights<'_>,
    config: &UNetConfig,
    kind: BlockKind,
    level: usize,
    depths: &[usize],
) -> Result<Vec<Transformer2DModel>> {
    let depths = if kind == BlockKind::CrossAttention { depths } else { &[] };
    let w = w.at("attentions");
    let transformer = |(i, &layers)| Transformer2DModel::load(&w.at(i), transformer(config, level, layers));
    depths.iter().enumerate().map(transformer).collect()
}
