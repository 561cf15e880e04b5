//! The tiny VAE, TAESD: the same latents as the VAE, with a fraction of the work.
//!
//! ```text
//! encode   latents = layers((image + 1) / 2)          3×3 convolutions and blocks, halving between levels
//! decode   image = 2·layers(3·tanh(latents / 3)) − 1  the same, doubling between levels
//! block    relu(conv.4(relu(conv.2(relu(conv.0(x))))) + x)
//! ```
//!
//! It has no norm and no attention, and 64 channels everywhere: 2.4 million weights where the VAE
//! has 84. What it loses are fine details, in faces most. Its encoder gives the latents themselves
//! and no distribution to draw from.
//!
//! Source: Ollin Boer Bohan, *TAESD* (2023, github.com/madebyollin/taesd); diffusers'
//! `AutoencoderTiny`, `EncoderTiny`, `DecoderTiny` and `AutoencoderTinyBlock`. Layers are numbered
//! as in the checkpoints, where activations and doublings have numbers, too.

use aquatint_kernels::Isa;
use aquatint_kernels::conv2d::Geometry;
use aquatint_tensor::{Tensor, View, f16};

use super::{TinyConfig, VaeConfig};
use crate::error::Result;
use crate::networks::layers::{Conv2d, Epilogue, FeatureMap, Stored, UpsampleConv2d};
use crate::networks::storage::{finite_or, is_half};
use crate::source::Weights;

/// `EncoderTiny`.
pub struct TinyEncoder {
    conv_in: Conv2d,
    levels: Vec<EncoderLevel>,
    conv_out: Conv2d,
    /// Whether it stores f16 between its layers.
    half: bool,
}

/// Blocks behind a convolution that halves the image; the first level has none.
struct EncoderLevel {
    halve: Option<Conv2d>,
    blocks: Vec<Block>,
}

impl TinyEncoder {
    pub(super) fn load(vae: &Weights<'_>, config: &TinyConfig, sizes: &VaeConfig) -> Result<Self> {
        let layers = &mut Layers::of(vae, "encoder");
        let channels = config.encoder_channels;
        let every_second = Geometry { stride: [2, 2], ..Geometry::same(3) };
        let conv_in = layers.border([channels, sizes.in_channels])?;
        let mut levels = Vec::new();
        for (level, &blocks) in config.num_encoder_blocks.iter().enumerate() {
            let halve = (level > 0)
                .then(|| Conv2d::load_without_bias(&layers.next(), [channels; 2], every_second))
                .transpose()?;
            levels.push(EncoderLevel { halve, blocks: layers.blocks(blocks, channels)? });
        }
        let conv_out = layers.border([sizes.latent_channels, channels])?;
        Ok(Self { conv_in, levels, conv_out, half: is_half(vae.precision()) })
    }

    /// `pictures: [n, h, w, in_channels]` in −1..1 → `[n, h/8, w/8, latent_channels]`.
    pub(super) fn forward(&self, isa: Isa, pictures: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let x = pictures.to_tensor().map(|x| (x + 1.0) / 2.0);
        let wide = || self.forward_stored::<f32>(isa, x.view());
        match self.half {
            true => finite_or(self.forward_stored::<f16>(isa, x.view()), wide),
            false => wide(),
        }
    }

    /// With what flows between the layers stored in this type.
    fn forward_stored<T: Stored>(&self, isa: Isa, x: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let mut x: FeatureMap<T> = self.conv_in.forward(isa, x);
        for level in &self.levels {
            if let Some(halve) = &level.halve {
                x = halve.forward(isa, T::view(x.view()));
            }
            x = level.blocks.iter().fold(x, |x, block| block.forward(isa, x));
        }
        last(isa, &self.conv_out, x)
    }
}

/// `DecoderTiny`.
pub struct TinyDecoder {
    conv_in: Conv2d,
    levels: Vec<DecoderLevel>,
    conv_out: Conv2d,
    /// Whether it stores f16 between its layers.
    half: bool,
}

/// Blocks in front of a convolution of the doubled image; the last level has none.
struct DecoderLevel {
    blocks: Vec<Block>,
    double: Option<UpsampleConv2d>,
}

impl TinyDecoder {
    pub(super) fn load(vae: &Weights<'_>, config: &TinyConfig, sizes: &VaeConfig) -> Result<Self> {
        let layers = &mut Layers::of(vae, "decoder");
        let channels = config.decoder_channels;
        let conv_in = layers.border([channels, sizes.latent_channels])?;
        layers.skip(); // the activation
        let last = config.num_decoder_blocks.len() - 1;
        let mut levels = Vec::new();
        for (level, &blocks) in config.num_decoder_blocks.iter().enumerate() {
            let blocks = layers.blocks(blocks, channels)?;
            let double = (level < last).then(|| {
                layers.skip(); // the doubling
                UpsampleConv2d::load_without_bias(&layers.next(), channels)
            });
            levels.push(DecoderLevel { blocks, double: double.transpose()? });
        }
        let conv_out = layers.border([sizes.out_channels, channels])?;
        Ok(Self { conv_in, levels, conv_out, half: is_half(vae.precision()) })
    }

    /// `latents: [n, h, w, latent_channels]` → `[n, 8h, 8w, out_channels]`, about −1..1.
    pub(super) fn forward(&self, isa: Isa, latents: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let x = latents.to_tensor().map(|x| (x / 3.0).tanh() * 3.0);
        let wide = || self.forward_stored::<f32>(isa, x.view());
        let y = match self.half {
            true => finite_or(self.forward_stored::<f16>(isa, x.view()), wide),
            false => wide(),
        };
        y.map(|y| 2.0 * y - 1.0)
    }

    /// With what flows between the layers stored in this type.
    fn forward_stored<T: Stored>(&self, isa: Isa, x: View<'_, f32, 4>) -> Tensor<f32, 4> {
        let mut x: FeatureMap<T> = self.conv_in.forward_with(isa, x, relu());
        for level in &self.levels {
            x = level.blocks.iter().fold(x, |x, block| block.forward(isa, x));
            if let Some(double) = &level.double {
                x = double.forward(isa, x.view());
            }
        }
        last(isa, &self.conv_out, x)
    }
}

/// The last convolution, which takes f32.
fn last<T: Stored>(isa: Isa, conv_out: &Conv2d, x: FeatureMap<T>) -> Tensor<f32, 4> {
    let shape = x.shape();
    let wide = T::widen_all(isa, x.into_tensor().into_vec().into());
    conv_out.forward_last(isa, View::from_slice(shape, &wide))
}

/// `AutoencoderTinyBlock`, of as many channels in as out.
struct Block {
    conv: [Conv2d; 3],
}

/// Done to each result before it is stored.
fn relu<'a, T: Stored>() -> Epilogue<'a, T> {
    Epilogue { floor: 0.0, ..Epilogue::none() }
}

impl Block {
    fn load(w: &Weights<'_>, channels: usize) -> Result<Self> {
        let conv = |i: usize| Conv2d::load(&w.at("conv").at(i), [channels; 2], Geometry::same(3));
        Ok(Self { conv: [conv(0)?, conv(2)?, conv(4)?] })
    }

    /// `x: [n, h, w, c]` → the same shape.
    fn forward<T: Stored>(&self, isa: Isa, x: FeatureMap<T>) -> FeatureMap<T> {
        let [first, second, third] = &self.conv;
        let inner: FeatureMap<T> = first.forward_with(isa, T::view(x.view()), relu());
        let h: FeatureMap<T> = second.forward_with(isa, T::view(inner.view()), relu());
        drop(inner);
        let residual = Some(x.pixels().as_slice());
        third.forward_with(isa, T::view(h.view()), Epilogue { residual, ..relu() })
    }
}

/// The layers of a `torch.nn.Sequential` in turn, by their numbers.
struct Layers<'a> {
    w: Weights<'a>,
    next: usize,
}

impl<'a> Layers<'a> {
    fn of(vae: &Weights<'a>, half: &str) -> Self {
        Self { w: vae.at(half).at("layers"), next: 0 }
    }

    fn skip(&mut self) {
        self.next += 1;
    }

    fn next(&mut self) -> Weights<'a> {
        self.skip();
        self.w.at(self.next - 1)
    }

    /// The first or last convolution; `channels`: `[out_channels, in_channels]`.
    fn border(&mut self, channels: [usize; 2]) -> Result<Conv2d> {
        Conv2d::load_in_f32(&self.next(), channels, Geometry::same(3))
    }

    fn blocks(&mut self, count: usize, channels: usize) -> Result<Vec<Block>> {
        (0..count).map(|_| Block::load(&self.next(), channels)).collect()
    }
}
