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
//! Two more tasks begin otherwise and share the loop: `image_to_image.rs` starts from a picture, `inpaint.rs` also holds a part
//! of it fast. Steps and random draws are in the order of diffusers' `StableDiffusionPipeline`, `...Img2ImgPipeline` and
//! `...InpaintPipeline`: the same folder, seed and request give the same picture. Source for the guidance: Ho and Salimans,
//! *Classifier-Free Diffusion Guidance* (2022). Read next: [`crate::clip`], [`crate::unet`], [`crate::samplers`], [`crate::vae`].

mod image_to_image;
mod inpaint;
mod latents;
mod load;
mod noise;
mod request;

use std::sync::OnceLock;

use aquatint_kernels::{Isa, elementwise};
use aquatint_tensor::{Recycling, Tensor, View};

pub use image_to_image::ImageToImage;
pub use inpaint::Inpaint;
pub use load::LoadOptions;
pub(crate) use load::read_index;
pub use request::TextToImage;

use crate::checkpoint::Checkpoint;
use crate::clip::ClipTextModel;
use crate::error::{Error, Result};
use crate::parameters::{ModelId, Parameters};
use crate::picture::Picture;
use crate::prompt::Reader;
use crate::rng::Generator;
use crate::samplers::{self, Sampler, SchedulerConfig};
use crate::tokenizer::Tokenizer;
use crate::unet::{Conditioning, UNet2DConditionModel};
use crate::vae::{Decoder, Encoder, VaeConfig};
use inpaint::Known;

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
    /// Read from `vae_files` when the first picture has to be encoded.
    vae_encoder: OnceLock<Encoder>,
    vae_files: Checkpoint,
    vae: VaeConfig,
    scheduler: SchedulerConfig,
    defaults: TextToImage,
    model: ModelId,
    isa: Isa,
    warnings: Vec<String>,
}

/// What stays the same from step to step.
struct Walk {
    /// Of the latents, as torch has them: `[1, channels, height, width]`.
    shape: [usize; 4],
    /// See `Pipeline::encode_text`.
    text: Tensor<f32, 3>,
    guidance_scale: f32,
    /// The call of the sampler to begin with; those before are skipped if the walk starts from a picture.
    first: usize,
    /// What inpainting knows about the picture.
    known: Known,
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
        self.refuse_inpainting_model()?;
        let sampler = samplers::build(&self.scheduler, request.sampler, request.steps)?;
        let text = self.encode_text(request, progress)?;

        let mut generator = Generator::of(request.rng, request.seed);
        let shape = self.latent_shape(request);
        let mut latents = generator.randn(shape.iter().product());
        for x in &mut latents {
            *x *= sampler.init_noise_sigma();
        }

        let walk =
            Walk { shape, text, guidance_scale: request.guidance_scale, first: 0, known: Known::Nothing };
        latents = self.denoise(&walk, sampler, latents, &mut generator, progress)?;
        progress(Progress::Decoding);
        Ok(self.decode(shape, latents)?.with_parameters(self.parameters(request)?.to_string()))
    }

    /// The loop: from noisy latents at call `walk.first` to clean ones.
    fn denoise(
        &self,
        walk: &Walk,
        mut sampler: Box<dyn Sampler>,
        mut latents: Vec<f32>,
        generator: &mut Generator,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<f32>> {
        let timesteps = sampler.timesteps()[walk.first..].to_vec();
        let _recycling = Recycling::start(); // the buffers of one step serve the next
        let told = self.unet.prepare(self.isa, walk.text.view(), &timesteps);
        for step in 0..timesteps.len() {
            progress(Progress::Step { done: step, total: timesteps.len() });
            let call = walk.first + step;
            let mut input = latents.clone();
            sampler.scale_model_input(&mut input, call);
            let input = walk.known.beside(channels_last(walk.shape, input));
            let noise = self.predict(&input, step, &told, walk.guidance_scale);
            self.check_finite(&noise, || format!("the UNet at step {} of {}", step + 1, timesteps.len()))?;
            sampler.step(&channels_first(noise), call, &mut latents, generator);
            walk.known.restore(&mut latents, sampler.as_ref(), call + 1);
        }
        progress(Progress::Step { done: timesteps.len(), total: timesteps.len() });
        Ok(latents)
    }

    /// The embeddings that the UNet attends to: `[2, tokens, c]`, the negative prompt first; without guidance `[1, tokens, c]`.
    /// There are 77 tokens; of long prompts in A1111's syntax a multiple of 77.
    fn encode_text(
        &self,
        request: &TextToImage,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Tensor<f32, 3>> {
        let texts = [("negative prompt", &request.negative_prompt), ("prompt", &request.prompt)];
        let needed = if request.guided() { &texts[..] } else { &texts[1..] };
        let reader = self.reader(request);
        let mut prompts = Vec::new();
        for &(name, text) in needed {
            let (chunks, cut) = reader.chunks(text)?;
            if let Some(cut) = cut {
                progress(Progress::Truncated { text: name, cut });
            }
            prompts.push(chunks);
        }
        let embeddings = reader.embed(self.isa, &prompts);
        self.check_finite(&embeddings, || "the text encoder".into())?;
        Ok(embeddings)
    }

    /// How the request wants its texts to be read.
    fn reader(&self, request: &TextToImage) -> Reader<'_> {
        Reader {
            tokenizer: &self.tokenizer,
            text_encoder: &self.text_encoder,
            syntax: request.prompt_syntax,
            clip_skip: request.clip_skip,
        }
    }

    /// The UNet's prediction, guided if there are two prompts. `input: [1, h, w, in_channels]` → `[1, h, w, out_channels]`.
    fn predict(
        &self,
        input: &Tensor<f32, 4>,
        step: usize,
        told: &Conditioning,
        guidance_scale: f32,
    ) -> Tensor<f32, 4> {
        let predictions = self.unet.forward(self.isa, input.view(), step, told);
        let [prompts, height, width, channels] = predictions.shape();
        if prompts == 1 {
            return predictions;
        }
        let (uncond, text) = predictions.as_slice().split_at(predictions.len() / 2);
        Tensor::from_vec(
            [1, height, width, channels],
            elementwise::guide(self.isa, uncond, text, guidance_scale),
        )
    }

    /// A NaN spreads to the whole picture and makes it black; better to stop where it appears.
    fn check_finite<const N: usize>(&self, x: &Tensor<f32, N>, stage: impl FnOnce() -> String) -> Result<()> {
        match elementwise::all_finite(self.isa, x.as_slice()) {
            true => Ok(()),
            false => Err(Error::not_finite(stage())),
        }
    }

    /// The model's own settings: the size for which it was trained, the steps and guidance that its folder recommends (else
    /// 20 and 7.5), seed 0, no prompt.
    pub fn defaults(&self) -> TextToImage {
        self.defaults.clone()
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
