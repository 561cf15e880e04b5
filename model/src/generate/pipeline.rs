//! A loaded model: its networks, settings and names.

use std::path::PathBuf;

use aquatint_kernels::{Isa, elementwise};
use aquatint_tensor::Tensor;

use super::adapters::AdapterSet;
use super::estimate::Arithmetic;
use super::presets::Recognised;
use super::request::{REFINER_AT, TextToImage};
use super::size_conditions::XlSettings;
use crate::error::{Error, Result};
use crate::generate::infotext::VAE_KEY;
use crate::image::metadata::Parameters;
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::networks::vae::{Decoder, Encoder, VaeConfig};
use crate::precisions::Precisions;
use crate::samplers::SchedulerConfig;
use crate::source::ModelId;
use crate::source::lazy::LazyNetwork;
use crate::text::encode::TextEncoder;

/// A loaded model, ready to make pictures.
///
/// ```no_run
/// use aquatint_model::{LoadOptions, Pipeline, TextToImage};
///
/// let pipeline = Pipeline::load("stable-diffusion-v1-5", &LoadOptions::default())?;
/// let prompt = "a fox in the snow".into();
/// let request = TextToImage { prompt, seed: 7, ..pipeline.defaults() };
/// let picture = pipeline.text_to_image(&request, &mut |progress| eprintln!("{progress:?}"))?;
/// picture.save("fox.png")?;
/// # Ok::<(), aquatint_model::Error>(())
/// ```
pub struct Pipeline {
    /// Stable Diffusion 1 and 2 have one, XL has two.
    pub(super) text_encoders: Vec<TextEncoder>,
    pub(super) unet: LazyNetwork<UNet2DConditionModel>,
    pub(crate) unet_config: UNetConfig,
    pub(super) vae_decoder: LazyNetwork<Decoder>,
    pub(super) vae_encoder: LazyNetwork<Encoder>,
    pub(super) vae: VaeConfig,
    /// The VAE for previews, if it is another than the one for pictures.
    pub(super) preview: Option<(LazyNetwork<Decoder>, VaeConfig)>,
    /// The name of the VAE that replaces the model's, if there is one.
    pub(super) other_vae: Option<String>,
    pub(crate) scheduler: SchedulerConfig,
    pub(super) defaults: TextToImage,
    /// The preset in the defaults, if one was recognised.
    pub(super) preset: Option<Recognised>,
    pub(super) arithmetic: Arithmetic,
    pub(super) model: ModelId,
    pub(super) adapters: AdapterSet,
    /// Where `__name__` in a prompt finds its file.
    pub(super) wildcards: Option<PathBuf>,
    /// Of Stable Diffusion XL.
    pub(super) xl: Option<XlSettings>,
    /// A second model for the last steps.
    pub(super) refiner: Option<Box<Pipeline>>,
    pub(super) isa: Isa,
    pub(super) precision: Precisions,
    pub(super) warnings: Vec<String>,
}

impl Pipeline {
    /// The model's own settings: the size for which it was trained, the steps and guidance that its
    /// folder recommends, or the preset that suits it (else 20 and 7.5), seed 0, no prompt.
    pub fn defaults(&self) -> TextToImage {
        self.defaults.clone()
    }

    /// The preset in [`Pipeline::defaults`], if one was recognised.
    pub fn preset(&self) -> Option<&Recognised> {
        self.preset.as_ref()
    }

    /// What is written into a picture of `request`.
    ///
    /// # Errors
    /// [`Error::Request`] if the sampler lacks the schedule.
    pub fn parameters(&self, request: &TextToImage) -> Result<Parameters> {
        let (kind, _) = self.scheduler.resolve(request.sampler)?;
        let mut parameters = Parameters::of(request, kind, &self.model).with_precision(self.precision);
        if let Some(name) = &self.other_vae {
            parameters.insert_after("Model", VAE_KEY, name);
        }
        self.adapters.describe(request, &mut parameters)?;
        if let Some(refiner) = &self.refiner {
            let hash = refiner.model.hash().map_or(String::new(), |hash| format!(" [{hash}]"));
            parameters.insert_after("Model", "Refiner", format_args!("{}{hash}", refiner.model.name()));
            parameters.set("Refiner switch at", request.refiner_at.unwrap_or(REFINER_AT));
        }
        Ok(parameters)
    }

    /// By which name and hash the model goes.
    pub fn model(&self) -> &ModelId {
        &self.model
    }

    /// The name of the VAE that replaces the model's own, if there is one.
    pub fn other_vae(&self) -> Option<&str> {
        self.other_vae.as_deref()
    }

    /// How the folder configures its sampler.
    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// Replaces the folder's sampler configuration, to the letter.
    pub fn set_scheduler(&mut self, config: SchedulerConfig) {
        self.scheduler = config;
    }

    /// What was odd about the folder, but did not prevent loading: one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A NaN spreads to the whole picture and makes it black; better to stop where it appears.
    pub(super) fn check_finite<const N: usize>(
        &self,
        x: &Tensor<f32, N>,
        stage: impl FnOnce() -> String,
    ) -> Result<()> {
        match elementwise::all_finite(self.isa, x.as_slice()) {
            true => Ok(()),
            false => Err(Error::not_finite(stage())),
        }
    }
}
