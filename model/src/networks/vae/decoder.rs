//! The decoder: from a latent to a picture.
//!
//! ```text
//! z = post_quant_conv(latent)
//! x = mid_block(conv_in(z))              64², 512 channels
//! x = up_blocks(x)                       each: layers + 1 residual blocks, then doubling
//!     conv_out(silu(conv_norm_out(x)))   512², 3 channels in −1..1
//! ```
//!
//! diffusers' `Decoder` and `UpDecoderBlock2D`.

use aquatint_kernels::Isa;
use aquatint_kernels::conv2d::Geometry;
use aquatint_tensor::{Tensor, View, f16};

use super::mid::MidBlock;
use super::strips::{RowMap, Strips};
use super::{KlConfig, NORM_EPS, VaeConfig};
use crate::error::Result;
use crate::networks::layers::{Conv2d, FeatureMap, GroupNorm, Linear, Stored};
use crate::networks::storage::{finite_or, is_half};
use crate::networks::unet::resnet::ResnetBlock2D;
use crate::networks::unet::sample::Upsample2D;
use crate::source::Weights;

/// The decoder of `AutoencoderKL`.
pub struct KlDecoder {
    post_quant_conv: Option<Linear>,
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<UpDecoderBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    out_channels: usize,
    /// Whether it stores f16 between its layers.
    half: bool,
}

impl KlDecoder {
    /// Reads the decoder's weights from the VAE's.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the settings say.
    pub fn load(vae: &Weights<'_>, config: &KlConfig, sizes: &VaeConfig) -> Result<Self> {
        let w = vae.at("decoder");
        let channels = &config.block_out_channels;
        let innermost = channels.len() - 1;
        let conv = |name, channels| Conv2d::load_in_f32(&w.at(name), channels, Geometry::same(3));
        Ok(Self {
            post_quant_conv: config
                .use_post_quant_conv
                .then(|| {
                    Linear::load_pointwise(&vae.at("post_quant_conv").in_f32(), [sizes.latent_channels; 2])
                })
                .transpose()?,
            conv_in: conv("conv_in", [channels[innermost], sizes.latent_channels])?,
            mid_block: MidBlock::load(&w.at("mid_block").halved(innermost), config)?,
            up_blocks: (0..=innermost)
                .map(|index| {
                    let (w, level) = (w.at("up_blocks").at(index), innermost - index);
                    UpDecoderBlock::load(&w.halved(level), config, level)
                })
                .collect::<Result<_>>()?,
            conv_norm_out: GroupNorm::load(
                &w.at("conv_norm_out").in_f32(),
                channels[0],
                config.norm_num_groups,
                NORM_EPS,
            )?,
            conv_out: conv("conv_out", [sizes.out_channels, channels[0]])?,
            out_channels: sizes.out_channels,
            half: is_half(w.precision()),
        })
    }

    /// `latents: [n, h, w, latent_channels]`, already divided by the scaling factor → `[n, 8h, 8w,
    /// out_channels]`, about −1..1.
    pub fn forward(&self, isa: Isa, latents: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let wide = || self.forward_stored::<f32>(isa, latents);
        match self.half {
            true => finite_or(self.forward_stored::<f16>(isa, latents), wide),
            false => wide(),
        }
    }

    /// The same for one latent, a strip of rows at a time: in less memory, in about twice the time,
    /// and with the same result but for last digits.
    ///
    /// # Panics
    /// If there are several latents.
    pub fn forward_in_strips(&self, isa: Isa, latents: View<'_, f32, 4>, strips: Strips) -> Tensor<f32, 4> {
        assert_eq!(latents.shape()[0], 1, "one latent at a time");
        let x: FeatureMap<f32> = self.enter(isa, latents);
        let x = self.mid_block.forward(isa, &x);
        let (mut x, mut upsampler) = (RowMap::whole(isa, x.into_tensor()), None);
        for block in &self.up_blocks {
            for resnet in &block.resnets {
                x = strips.resnet(isa, resnet, x, upsampler.take());
            }
            upsampler = block.upsampler.as_ref();
        }
        let last = strips.conv(isa, x, self.out_channels, |rows, whole| {
            let normed = self.conv_norm_out.forward_silu(isa, &FeatureMap::of_rows(rows, whole));
            self.conv_out.forward_last(isa, &normed)
        });
        last.into_whole()
    }

    /// Up to the middle block.
    fn enter<T: Stored>(&self, isa: Isa, latents: View<'_, f32, 4>) -> FeatureMap<T> {
        match &self.post_quant_conv {
            Some(conv) => self.conv_in.forward(isa, conv.forward(isa, latents).view()),
            None => self.conv_in.forward(isa, latents),
        }
    }

    /// With what flows between the layers stored in this type.
    fn forward_stored<T: Stored>(&self, isa: Isa, latents: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let mut x: FeatureMap<T> = self.enter(isa, latents);
        x = self.mid_block.forward(isa, &x);
        for block in &self.up_blocks {
            x = block.forward(isa, x);
        }
        let normed = self.conv_norm_out.forward_silu(isa, &x);
        drop(x);
        self.conv_out.forward_last(isa, &normed)
    }
}

struct UpDecoderBlock {
    resnets: Vec<ResnetBlock2D>,
    upsampler: Option<Upsample2D>,
}

impl UpDecoderBlock {
    /// The block of `level`, counted from the picture in.
    fn load(w: &Weights<'_>, config: &KlConfig, level: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let below = channels[(level + 1).min(channels.len() - 1)];
        Ok(Self {
            resnets: (0..=config.layers_per_block)
                .map(|i| {
                    let in_channels = if i == 0 { below } else { channels[level] };
                    let resnet = super::resnet(config, in_channels, channels[level]);
                    ResnetBlock2D::load(&w.at("resnets").at(i), resnet)
                })
                .collect::<Result<_>>()?,
            upsampler: (level > 0)
                .then(|| Upsample2D::load(&w.at("upsamplers.0").halved(level - 1), channels[level]))
                .transpose()?,
        })
    }

    fn forward<T: Stored>(&self, isa: Isa, mut x: FeatureMap<T>) -> FeatureMap<T> {
        for resnet in &self.resnets {
            x = resnet.forward(isa, &x, None);
        }
        match &self.upsampler {
            Some(upsampler) => upsampler.forward(isa, x.view()),
            None => x,
        }
    }
}
