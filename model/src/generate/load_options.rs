//! How a model is loaded, and what it recommends for requests.

use std::path::Path;

use aquatint_kernels::Isa;

use super::request::TextToImage;
use crate::error::Result;
use crate::networks::unet::UNetConfig;
use crate::networks::vae::VaeConfig;
use crate::precisions::Precisions;
use crate::source::config::ConfigFile;
use crate::source::files;

/// How a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// The precision of the large products in UNet and VAE; of the text encoder's see
    /// [`Precisions::for_text`].
    pub precision: Precisions,
    /// Whether text encoder, UNet and VAE stay in memory for the next picture. Otherwise each is
    /// loaded when a picture comes to it and freed when it leaves it, so that memory is needed for
    /// the largest and not for all.
    pub keep: bool,
}

impl Default for LoadOptions {
    /// The best instruction set that this CPU has, f32, and everything is kept.
    fn default() -> Self {
        Self { isa: Isa::best(), precision: Precisions::default(), keep: true }
    }
}

/// What a request asks for unless it says otherwise: the size for which the model was trained, and
/// what its folder recommends.
pub(super) fn defaults(folder: &Path, unet: &UNetConfig, vae: &VaeConfig) -> Result<TextToImage> {
    let [height, width] = unet.sample_size.map(|side| side * vae.scale_factor());
    let mut defaults = TextToImage { width, height, ..TextToImage::default() };
    let path = folder.join("generation_config.json");
    if files::is_file(&path) {
        let file = ConfigFile::open(&path)?;
        defaults.steps = file.count("num_inference_steps", defaults.steps, 1..=1000)?;
        let scale = file.number("guidance_scale", defaults.guidance_scale.into(), 0.0..=1000.0)?;
        defaults.guidance_scale = scale as f32;
    }
    Ok(defaults)
}
