//! The VAE: pictures to latents and back, 8 times smaller in height and width.
//!
//! ```text
//! encode   image  [n, 512, 512, 3] → mean and log-variance of each of 64×64×4 numbers
//! decode   latent [n, 64, 64, 4]   → image [n, 512, 512, 3] in −1..1
//! ```
//!
//! Encoder and decoder are loaded apart, because making a picture from text needs the decoder
//! only; a program that also reads pictures loads both. Reading order: `config.rs`, `mid.rs` (with
//! the one attention layer), `decoder.rs`, `encoder.rs`; `strips.rs` does both in less memory,
//! `tiny.rs` the same with a fraction of the work, and `autoencoder.rs` is whichever of the two
//! classes a model has; `projection.rs` is the cheap look at latents.
//!
//! Source: Kingma and Welling, *Auto-Encoding Variational Bayes* (2013); Esser et al., *Taming
//! Transformers for High-Resolution Image Synthesis* (2021); diffusers' `AutoencoderKL`. Field
//! names are those of its checkpoints.

mod autoencoder;
mod config;
mod decoder;
mod encoder;
mod latents_file;
mod mid;
mod projection;
mod strips;
mod tiny;

pub use autoencoder::{Decoder, Encoder, Moments};
pub use config::{KlConfig, TinyConfig, VaeClass, VaeConfig};
pub use decoder::KlDecoder;
pub use encoder::KlEncoder;
pub use latents_file::{latents_to_bytes, open_latents, save_latents};
pub use projection::Projection;
pub use strips::Strips;
pub use tiny::{TinyDecoder, TinyEncoder};

use crate::networks::unet::resnet::ResnetConfig;

/// The small number under the root of every norm in the VAE; fixed in diffusers.
const NORM_EPS: f32 = 1e-6;

/// A residual block without a time.
fn resnet(config: &KlConfig, in_channels: usize, out_channels: usize) -> ResnetConfig {
    ResnetConfig {
        in_channels,
        segment_len: in_channels,
        out_channels,
        temb_channels: None,
        num_groups: config.norm_num_groups,
        eps: NORM_EPS,
        output_scale_factor: 1.0,
    }
}

#[cfg(test)]
mod tests;
