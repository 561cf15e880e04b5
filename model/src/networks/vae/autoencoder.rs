//! Encoder and decoder of either class, as the rest of the program uses them.

use aquatint_kernels::Isa;
use aquatint_tensor::{Tensor, View};

use super::decoder::KlDecoder;
use super::encoder::KlEncoder;
use super::tiny::{TinyDecoder, TinyEncoder};
use super::{Strips, VaeClass, VaeConfig};
use crate::error::Result;
use crate::source::Weights;

/// The half of the VAE that makes pictures.
pub enum Decoder {
    /// Of `AutoencoderKL`.
    Kl(Box<KlDecoder>),
    /// Of `AutoencoderTiny`.
    Tiny(Box<TinyDecoder>),
}

impl Decoder {
    /// Reads the decoder's weights from the VAE's.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says.
    pub fn load(vae: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        Ok(match &config.class {
            VaeClass::Kl(kl) => Self::Kl(Box::new(KlDecoder::load(vae, kl, config)?)),
            VaeClass::Tiny(tiny) => Self::Tiny(Box::new(TinyDecoder::load(vae, tiny, config)?)),
        })
    }

    /// `latents: [n, h, w, latent_channels]`, already divided by the scaling factor → `[n, 8h, 8w,
    /// out_channels]`, about −1..1.
    pub fn forward(&self, isa: Isa, latents: View<'_, f32, 4>) -> Tensor<f32, 4> {
        match self {
            Self::Kl(decoder) => decoder.forward(isa, latents),
            Self::Tiny(decoder) => decoder.forward(isa, latents),
        }
    }

    /// The same for one latent, a strip of rows at a time: in less memory and more time, with the
    /// same result but for last digits. The tiny decoder needs little memory, and works at once.
    ///
    /// # Panics
    /// If there are several latents.
    pub fn forward_in_strips(&self, isa: Isa, latents: View<'_, f32, 4>, strips: Strips) -> Tensor<f32, 4> {
        match self {
            Self::Kl(decoder) => decoder.forward_in_strips(isa, latents, strips),
            Self::Tiny(decoder) => decoder.forward(isa, latents),
        }
    }
}

/// The half of the VAE that reads pictures.
pub enum Encoder {
    /// Of `AutoencoderKL`.
    Kl(Box<KlEncoder>),
    /// Of `AutoencoderTiny`.
    Tiny(Box<TinyEncoder>),
}

/// A normal distribution for each number of a latent: `[n, h, w, latent_channels]` each.
pub struct Moments {
    /// Its mean.
    pub mean: Tensor<f32, 4>,
    /// The logarithm of its variance, clamped to −30..20; `None` where the latents are known, and
    /// nothing is drawn.
    pub logvar: Option<Tensor<f32, 4>>,
}

impl Encoder {
    /// Reads the encoder's weights from the VAE's.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than `config` says.
    pub fn load(vae: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        Ok(match &config.class {
            VaeClass::Kl(kl) => Self::Kl(Box::new(KlEncoder::load(vae, kl, config)?)),
            VaeClass::Tiny(tiny) => Self::Tiny(Box::new(TinyEncoder::load(vae, tiny, config)?)),
        })
    }

    /// `pictures: [n, h, w, in_channels]` in −1..1 → the distribution of their latents, `[n, h/8,
    /// w/8, latent_channels]`.
    pub fn forward(&self, isa: Isa, pictures: View<'_, f32, 4>) -> Moments {
        match self {
            Self::Kl(encoder) => encoder.forward(isa, pictures),
            Self::Tiny(encoder) => Moments { mean: encoder.forward(isa, pictures), logvar: None },
        }
    }

    /// The same for one picture, a strip of rows at a time; see [`Decoder::forward_in_strips`].
    ///
    /// # Panics
    /// If there are several pictures.
    pub fn forward_in_strips(&self, isa: Isa, picture: View<'_, f32, 4>, strips: Strips) -> Moments {
        match self {
            Self::Kl(encoder) => encoder.forward_in_strips(isa, picture, strips),
            Self::Tiny(_) => self.forward(isa, picture),
        }
    }
}
