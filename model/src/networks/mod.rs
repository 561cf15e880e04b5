//! The three networks of Stable Diffusion, upscalers, and the layers that they are made of.

pub mod attention_maps;
pub mod clip;
pub mod layers;
mod storage;
pub mod trace;
pub mod unet;
pub mod upscaler;
pub mod vae;

use crate::error::{Error, Result};
use crate::source::config::ConfigFile;
use crate::source::{Component, TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE, Weights};
use clip::{ClipTextConfig, ClipTextModel};
use unet::{UNet2DConditionModel, UNetConfig};
use vae::{Decoder, Encoder, VaeClass, VaeConfig};

/// The settings of a network, as far as all networks are alike.
pub trait Architecture {
    /// Asks for every tensor that the network has.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    fn read(&self, w: &Weights<'_>) -> Result<()>;

    /// What is worth knowing about the settings: "12 layers of 768 channels".
    fn describe(&self) -> String;
}

/// The settings of the network that `component` is.
///
/// # Errors
/// If the config says what is not supported, or if the component is no network.
pub fn architecture(component: &Component, config: ConfigFile) -> Result<Box<dyn Architecture>> {
    Ok(match component {
        c if *c == TEXT_ENCODER => Box::new(ClipTextConfig::from_config(config)?),
        c if *c == TEXT_ENCODER_2 => Box::new(ClipTextConfig::with_projection(config)?),
        c if *c == UNET => Box::new(UNetConfig::from_config(config)?),
        c if *c == VAE => Box::new(VaeConfig::from_config(config)?),
        other => return Err(Error::model(format_args!("`{}` has no weights", other.name))),
    })
}

impl Architecture for ClipTextConfig {
    fn read(&self, w: &Weights<'_>) -> Result<()> {
        ClipTextModel::load(w, self).map(drop)
    }

    fn describe(&self) -> String {
        format!("{} layers of {} channels", self.num_hidden_layers, self.hidden_size)
    }
}

impl Architecture for UNetConfig {
    fn read(&self, w: &Weights<'_>) -> Result<()> {
        UNet2DConditionModel::load(w, self).map(drop)
    }

    fn describe(&self) -> String {
        let [height, width] = self.sample_size;
        format!(
            "latents of {height}×{width} with {} channels; levels of {:?} channels",
            self.in_channels, self.block_out_channels
        )
    }
}

impl Architecture for VaeConfig {
    fn read(&self, w: &Weights<'_>) -> Result<()> {
        Encoder::load(w, self)?;
        Decoder::load(w, self).map(drop)
    }

    fn describe(&self) -> String {
        let (factor, channels) = (self.scale_factor(), self.latent_channels);
        let class = match &self.class {
            VaeClass::Kl(_) => "",
            VaeClass::Tiny(_) => "TAESD, the tiny VAE: ",
        };
        format!("{class}pictures {factor} times larger than latents, which have {channels} channels")
    }
}
