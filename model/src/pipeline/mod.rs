//! Text to picture: this file is the algorithm.
//!
//! ```text
//! text     = text_encoder(tokenizer(prompt))
//! latents  = noise · init_noise_sigma                               random, from the seed
//! for each timestep t:
//!     e_uncond, e_text = unet(scaled latents, t, [empty text, text])
//!     e       = e_uncond + guidance_scale · (e_text − e_uncond)     away from the empty text, towards ours
//!     latents = sampler.step(e, t, latents)
//! picture  = vae.decode(latents / scaling_factor)
//! ```
//!
//! The order of every step, and of every random draw, is that of diffusers' `StableDiffusionPipeline`, so that the same folder,
//! seed and request give the same picture. Source for the guidance: Ho and Salimans, *Classifier-Free Diffusion
//! Guidance* (2022). Read next: [`crate::clip`], [`crate::unet`], [`crate::samplers`], [`crate::vae`], in the order of the loop.

mod load;
mod request;

use aquatint_kernels::{Isa, elementwise};
use aquatint_tensor::{Tensor, View, concat};

pub use load::LoadOptions;
pub use request::TextToImage;

use crate::clip::ClipTextModel;
use crate::error::{Error, Result};
use crate::parameters::{ModelId, Parameters};
use crate::picture::Picture;
use crate::rng::Generator;
use crate::samplers::{self, SchedulerConfig};
use crate::tokenizer::Tokenizer;
use crate::unet::UNet2DConditionModel;
use crate::vae::{Decoder, VaeConfig};

/// A loaded model, ready to make pictures.
///
/// ```no_run
/// use aquatint_model::{LoadOptions, Pipeline, TextToImage};
///
/// let pipeline = Pipeline::load("stable-diffusion-v1-5", &LoadOptions::default())?;
/// let request = TextToImage { prompt: "a fox in the snow".into(), seed: 7, ..pipeline.defaults() };
/// let picture = pipeline.text_to_image(&request, &mut |progress| eprintln!("{progress:?}"))?;
/// picture.save("fox.png")?;
/// # Ok::<(), aquatint_model::Error>(())
/// ```
pub struct Pipeline {
    tokenizer: Tokenizer,
    text_encoder: ClipTextModel,
    unet: UNet2DConditionModel,
    vae_decoder: Decoder,
    vae: VaeConfig,
    scheduler: SchedulerConfig,
    model: ModelId,
    isa: Isa,
    warnings: Vec<String>,
}

/// What a running request tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A text is longer than the model can read; the end of it is ignored.
    Truncated {
        /// "prompt" or "negative prompt".
        text: &'static str,
        /// What was cut off.
        cut: String,
    },
    /// So many calls of the UNet are done; the first report is 0.
    Step {
        /// Calls done.
        done: usize,
        /// Calls in all. PNDM needs one more than the steps that were asked for.
        total: usize,
    },
    /// The latents are finished and become a picture.
    Decoding,
}

impl Pipeline {
    /// Makes a picture. `progress` is called between the steps, on this thread.
    ///
    /// # Errors
    /// [`Error::Request`] if the request cannot be met (nothing has been computed then), [`Error::NotFinite`] if a stage produced NaN.
    pub fn text_to_image(
        &self,
        request: &TextToImage,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Picture> {
        request.check(self)?;
        let mut sampler = samplers::build(&self.scheduler, request.sampler, request.steps)?;
        let text = self.encode_text(request, progress)?;

        let mut generator = Generator::of(request.rng, request.seed);
        let factor = self.vae.scale_factor();
        let shape = [1, self.vae.latent_channels, request.height / factor, request.width / factor]; // as torch draws
        let mut latents = generator.randn(shape.iter().product());
        for x in &mut latents {
            *x *= sampler.init_noise_sigma();
        }

        let timesteps = sampler.timesteps().to_vec();
        for (step, &timestep) in timesteps.iter().enumerate() {
            progress(Progress::Step { done: step, total: timesteps.len() });
            let mut input = latents.clone();
            sampler.scale_model_input(&mut input, step);
            let noise = self.predict(&channels_last(shape, input), timestep, &text, request.guidance_scale);
            self.check_finite(&noise, || format!("the UNet at step {} of {}", step + 1, timesteps.len()))?;
            sampler.step(&channels_first(noise), step, &mut latents, &mut generator);
        }
        progress(Progress::Step { done: timesteps.len(), total: timesteps.len() });

        progress(Progress::Decoding);
        for x in &mut latents {
            *x /= self.vae.scaling_factor;
        }
        let decoded = self.vae_decoder.forward(self.isa, channels_last(shape, latents).view());
        self.check_finite(&decoded, || "the VAE decoder".into())?;
        let picture = Picture::from_signed(decoded.view().select(0, 0));
        Ok(picture.with_parameters(self.parameters(request)?.to_string()))
    }

    /// The embeddings that the UNet attends to: `[2, 77, c]`, the negative prompt first; without guidance `[1, 77, c]`.
    fn encode_text(
        &self,
        request: &TextToImage,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tensor<f32, 3>> {
        let texts = [("negative prompt", &request.negative_prompt), ("prompt", &request.prompt)];
        let needed = if request.guided() { &texts[..] } else { &texts[1..] };
        let mut prompts = Vec::new();
        for &(name, text) in needed {
            let encoded = self.tokenizer.encode(text)?;
            if let Some(cut) = encoded.cut {
                progress(Progress::Truncated { text: name, cut });
            }
            prompts.push(encoded.ids);
        }
        let ids: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let embeddings = self.text_encoder.forward(self.isa, &ids);
        self.check_finite(&embeddings, || "the text encoder".into())?;
        Ok(embeddings)
    }

    /// The UNet's prediction, guided if `text` holds two prompts. `latents: [1, h, w, c]` → the same shape.
    fn predict(
        &self,
        latents: &Tensor<f32, 4>,
        timestep: f32,
        text: &Tensor<f32, 3>,
        guidance_scale: f32,
    ) -> Tensor<f32, 4> {
        let [prompts, ..] = text.shape();
        let batch = concat(&vec![latents.view(); prompts], 0);
        let predictions = self.unet.forward(self.isa, batch.view(), timestep, text.view());
        if prompts == 1 {
            return predictions;
        }
        let (uncond, text) = predictions.as_slice().split_at(latents.len());
        Tensor::from_vec(latents.shape(), elementwise::guide(self.isa, uncond, text, guidance_scale))
    }

    /// A NaN spreads to the whole picture and makes it black; better to stop where it appears.
    fn check_finite<const N: usize>(&self, x: &Tensor<f32, N>, stage: impl FnOnce() -> String) -> Result<()> {
        match elementwise::all_finite(self.isa, x.as_slice()) {
            true => Ok(()),
            false => Err(Error::not_finite(stage())),
        }
    }

    /// The model's own settings: the size for which it was trained, 20 steps, guidance 7.5, seed 0, no prompt.
    pub fn defaults(&self) -> TextToImage {
        let factor = self.vae.scale_factor();
        let [height, width] = self.unet.config().sample_size.map(|side| side * factor);
        TextToImage { width, height, ..TextToImage::default() }
    }

    /// What is written into a picture of `request`.
    ///
    /// # Errors
    /// [`Error::Request`] if the sampler lacks the schedule.
    pub fn parameters(&self, request: &TextToImage) -> Result<Parameters> {
        let (kind, _) = self.scheduler.resolve(request.sampler)?;
        Ok(Parameters::of(request, kind, &self.model))
    }

    /// By which name and hash the model goes.
    pub fn model(&self) -> &ModelId {
        &self.model
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
}

/// From torch's order `[n, c, h, w]`, in which noise is drawn, to `[n, h, w, c]`, in which we compute.
fn channels_last(shape: [usize; 4], data: Vec<f32>) -> Tensor<f32, 4> {
    View::from_slice(shape, &data).permute([0, 2, 3, 1]).to_tensor()
}

/// The way back.
fn channels_first(x: Tensor<f32, 4>) -> Vec<f32> {
    x.view().permute([0, 3, 1, 2]).to_tensor().into_vec()
}
