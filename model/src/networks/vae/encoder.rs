//! The encoder: from a picture to the distribution of its latent.
//!
//! ```text
//! x = down_blocks(conv_in(image))     each: residual blocks, then halving
//! x = mid_block(x)
//! mean, logvar = split(quant_conv(conv_out(silu(conv_norm_out(x)))))
//! latent = mean + exp(logvar / 2) · noise
//! ```
//!
//! diffusers' `Encoder`, `DownEncoderBlock2D` and `DiagonalGaussianDistribution`.

use aquatint_kernels::Isa;
use aquatint_kernels::conv2d::Geometry;
use aquatint_tensor::{Tensor, View, f16};

use super::mid::MidBlock;
use super::strips::{RowMap, Strips};
use super::{KlConfig, Moments, NORM_EPS, VaeConfig};
use crate::error::Result;
use crate::networks::layers::{Conv2d, FeatureMap, GroupNorm, Linear, Stored};
use crate::networks::storage::{finite_or, is_half};
use crate::networks::unet::resnet::ResnetBlock2D;
use crate::networks::unet::sample::Downsample2D;
use crate::source::Weights;

/// The encoder of `AutoencoderKL`.
pub struct KlEncoder {
    conv_in: Conv2d,
    /// Of the first level.
    channels: usize,
    down_blocks: Vec<DownEncoderBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    quant_conv: Option<Linear>,
    /// Whether it stores f16 between its layers.
    half: bool,
}

impl KlEncoder {
    /// Reads the encoder's weights from the VAE's.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the settings say.
    pub fn load(vae: &Weights<'_>, config: &KlConfig, sizes: &VaeConfig) -> Result<Self> {
        let w = vae.at("encoder");
        let channels = &config.block_out_channels;
        let innermost = channels[channels.len() - 1];
        let moments = 2 * sizes.latent_channels;
        let conv = |name, channels| Conv2d::load_in_f32(&w.at(name), channels, Geometry::same(3));
        Ok(Self {
            conv_in: conv("conv_in", [channels[0], sizes.in_channels])?,
            channels: channels[0],
            down_blocks: (0..channels.len())
                .map(|level| DownEncoderBlock::load(&w.at("down_blocks").at(level), config, level))
                .collect::<Result<_>>()?,
            mid_block: MidBlock::load(&w.at("mid_block"), config)?,
            conv_norm_out: GroupNorm::load(
                &w.at("conv_norm_out").in_f32(),
                innermost,
                config.norm_num_groups,
                NORM_EPS,
            )?,
            conv_out: conv("conv_out", [moments, innermost])?,
            quant_conv: config
                .use_quant_conv
                .then(|| Linear::load_pointwise(&vae.at("quant_conv").in_f32(), [moments; 2]))
                .transpose()?,
            half: is_half(w.precision()),
        })
    }

    /// `pictures: [n, h, w, in_channels]` in −1..1 → the distribution of their latents, `[n, h/8,
    /// w/8, latent_channels]`.
    pub fn forward(&self, isa: Isa, pictures: View<'_, f32, 4>) -> Moments {
        let wide = || self.forward_stored::<f32>(isa, pictures);
        self.moments(
            isa,
            match self.half {
                true => finite_or(self.forward_stored::<f16>(isa, pictures), wide),
                false => wide(),
            },
        )
    }

    /// The same for one picture, a strip of rows at a time; see
    /// [`Decoder::forward_in_strips`](super::Decoder::forward_in_strips).
    ///
    /// # Panics
    /// If there are several pictures.
    pub fn forward_in_strips(&self, isa: Isa, picture: View<'_, f32, 4>, strips: Strips) -> Moments {
        assert_eq!(picture.shape()[0], 1, "one picture at a time");
        let picture = RowMap::whole(isa, picture.to_tensor());
        let mut x = strips.conv(isa, picture, self.channels, |rows, _| {
            self.conv_in.forward::<f32>(isa, rows.view()).into_tensor()
        });
        for block in &self.down_blocks {
            for resnet in &block.resnets {
                x = strips.resnet(isa, resnet, x, None);
            }
            if let Some(downsampler) = &block.downsampler {
                x = strips.halve(isa, downsampler, x);
            }
        }
        let x = self.mid_block.forward(isa, &FeatureMap::of_pixels(x.into_whole()));
        self.moments(isa, self.conv_out.forward_last(isa, &self.conv_norm_out.forward_silu(isa, &x)))
    }

    /// What is behind `conv_out`.
    fn moments(&self, isa: Isa, mut x: Tensor<f32, 4>) -> Moments {
        if let Some(conv) = &self.quant_conv {
            x = conv.forward(isa, x.view());
        }
        let latent_channels = x.shape()[3] / 2;
        Moments {
            mean: x.view().slice(3, 0..latent_channels).to_tensor(),
            logvar: Some(
                x.view()
                    .slice(3, latent_channels..2 * latent_channels)
                    .to_tensor()
                    .map(|x| x.clamp(-30.0, 20.0)),
            ),
        }
    }
}

impl KlEncoder {
    /// Up to `conv_out`, with what flows between the layers stored in this type.
    fn forward_stored<T: Stored>(&self, isa: Isa, pictures: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let mut x: FeatureMap<T> = self.conv_in.forward(isa, pictures);
        for block in &self.down_blocks {
            x = block.forward(isa, x);
        }
        x = self.mid_block.forward(isa, &x);
        self.conv_out.forward_last(isa, &self.conv_norm_out.forward_silu(isa, &x))
    }
}

struct DownEncoderBlock {
    resnets: Vec<ResnetBlock2D>,
    downsampler: Option<Downsample2D>,
}

impl DownEncoderBlock {
    fn load(w: &Weights<'_>, config: &KlConfig, level: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let above = channels[level.saturating_sub(1)];
        let last = level + 1 == channels.len();
        Ok(Self {
            resnets: (0..config.layers_per_block)
                .map(|i| {
                    let in_channels = if i == 0 { above } else { channels[level] };
                    let resnet = super::resnet(config, in_channels, channels[level]);
                    ResnetBlock2D::load(&w.at("resnets").at(i), resnet)
                })
                .collect::<Result<_>>()?,
            downsampler: (!last)
                .then(|| Downsample2D::load(&w.at("downsamplers.0"), channels[level], 0))
                .transpose()?,
        })
    }

    fn forward<T: Stored>(&self, isa: Isa, mut x: FeatureMap<T>) -> FeatureMap<T> {
        for resnet in &self.resnets {
            x = resnet.forward(isa, &x, None);
        }
        match &self.downsampler {
            Some(downsampler) => downsampler.forward(isa, x.view()),
            None => x,
        }
    }
}
