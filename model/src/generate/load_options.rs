//! How a model is loaded, and what it recommends for requests.

use aquatint_kernels::Isa;

use super::presets::{Recognised, recognise};
use super::request::TextToImage;
use crate::error::Result;
use crate::networks::unet::UNetConfig;
use crate::networks::vae::VaeConfig;
use crate::precisions::Precisions;
use crate::samplers::SchedulerConfig;
use crate::source::config::ConfigFile;
use crate::source::{ModelSource, SCHEDULER, files};

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

/// The default of diffusers' pipeline for Stable Diffusion XL.
const GUIDANCE_OF_XL: f32 = 5.0;

/// What a request asks for unless it says otherwise.
pub(super) struct Defaults {
    pub(super) request: TextToImage,
    /// The preset in it, if one was recognised.
    pub(super) preset: Option<Recognised>,
}

impl Defaults {
    /// The size for which the model was trained, and what its folder recommends, or else the preset
    /// that suits it.
    pub(super) fn of(
        source: &ModelSource,
        unet: &UNetConfig,
        vae: &VaeConfig,
        scheduler: &SchedulerConfig,
    ) -> Result<Self> {
        let [height, width] = unet.sample_size.map(|side| side * vae.scale_factor());
        let mut request = TextToImage { width, height, ..TextToImage::default() };
        if unet.addition.is_some() {
            request.guidance_scale = GUIDANCE_OF_XL;
        }
        let path = source.settings().join("generation_config.json");
        if files::is_file(&path) {
            let file = ConfigFile::open(&path)?;
            request.steps = file.count("num_inference_steps", request.steps, 1..=1000)?;
            let scale = file.number("guidance_scale", request.guidance_scale.into(), 0.0..=1000.0)?;
            request.guidance_scale = scale as f32;
            return Ok(Self { request, preset: None });
        }
        let preset = recognise(source, unet, scheduler);
        if let Some(preset) = &preset {
            preset.apply(&mut request);
        }
        Ok(Self { request, preset })
    }
}

/// The settings of a model's sampler, of Stable Diffusion XL or not.
pub(super) fn scheduler_of(source: &ModelSource, xl: bool) -> Result<SchedulerConfig> {
    let mut scheduler = SchedulerConfig::load(SCHEDULER.config_path(source.settings()))?;
    if !xl {
        // diffusers' StableDiffusionPipeline overrides these two in every folder, as corrections of
        // early files.
        scheduler = scheduler.with("steps_offset", 1).with("clip_sample", false);
    }
    for (key, value) in source.overrides(&SCHEDULER) {
        scheduler = scheduler.with(key, value.clone());
    }
    Ok(scheduler)
}
