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
//! Two more tasks begin otherwise and share the loop: `img2img.rs` starts from a picture, `inpaint.rs` also holds a part
//! of it fast. `callbacks.rs` says who may look on, `run_checkpoint.rs` how a walk is put into a file. Steps and random draws are in the order of diffusers' `StableDiffusionPipeline`, `...Img2ImgPipeline` and
//! `...InpaintPipeline`: the same folder, seed and request give the same picture. Source for the guidance: Ho and Salimans,
//! *Classifier-Free Diffusion Guidance* (2022). Read next: [`crate::networks::clip`], [`crate::networks::unet`], [`crate::samplers`], [`crate::networks::vae`].

pub mod api_request;
mod callbacks;
mod denoise;
mod estimate;
pub mod image_input;
mod img2img;
pub mod infotext;
mod inpaint;
mod latents;
mod load;
pub mod partial;
mod request;
mod run_checkpoint;
pub mod settings;
mod task;

use std::ops::ControlFlow;
use std::time::Instant;

use aquatint_kernels::{Isa, elementwise};
use aquatint_tensor::{Recycling, Tensor, View};

pub use api_request::ApiRequest;
pub use callbacks::{Callbacks, Interrupt, Progress, RunInfo, StepInfo};
pub use denoise::DIGITS_PER_STEP;
pub use estimate::Footprint;
pub use image_input::ImageInput;
pub use img2img::ImageToImage;
pub use inpaint::Inpaint;
pub use load::LoadOptions;
pub(crate) use load::check;
pub use partial::{Seed, TaskImages, TaskKind};
pub use request::{LARGEST_SIDE, TextToImage};
pub use run_checkpoint::RunCheckpoint;
pub use settings::{PartialRequest, SETTINGS, Setting};
pub use task::Task;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::metadata::Parameters;
use crate::networks::clip::{ClipTextConfig, ClipTextModel};
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::networks::vae::{Decoder, Encoder, VaeConfig};
use crate::precisions::Precisions;
use crate::rng::Generator;
use crate::samplers::{Prediction, Sampler, SchedulerConfig};
use crate::source::ModelId;
use crate::source::lazy::LazyNetwork;
use crate::text::prompt::PromptEncoder;
use crate::text::tokenizer::Tokenizer;
use estimate::Arithmetic;
use inpaint::InpaintMode;

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
    text_encoder: LazyNetwork<ClipTextModel>,
    text_config: ClipTextConfig,
    unet: LazyNetwork<UNet2DConditionModel>,
    unet_config: UNetConfig,
    vae_decoder: LazyNetwork<Decoder>,
    vae_encoder: LazyNetwork<Encoder>,
    vae: VaeConfig,
    pub(crate) scheduler: SchedulerConfig,
    defaults: TextToImage,
    arithmetic: Arithmetic,
    model: ModelId,
    isa: Isa,
    precision: Precisions,
    warnings: Vec<String>,
}

/// A walk: what stays the same from step to step, and the pictures that are on it.
struct DenoisingBatch {
    /// Of the latents of one picture, as torch has them: `[1, channels, height, width]`.
    shape: [usize; 4],
    /// See `Pipeline::encode_text`.
    text: Tensor<f32, 3>,
    guidance_scale: f32,
    /// What the UNet's output means.
    prediction: Prediction,
    /// The call of the sampler to begin with; those before are skipped if the walk starts from a picture.
    first: usize,
    /// Steps that were taken, if the walk was ended early.
    stopped: Option<usize>,
    states: Vec<SampleState>,
}

/// A picture that is being made.
struct SampleState {
    sampler: Box<dyn Sampler>,
    generator: Generator,
    latents: Vec<f32>,
    /// What inpainting knows about the picture.
    inpaint: InpaintMode,
    /// Four hex digits for each step; see `denoise.rs`.
    digest: String,
}

impl Pipeline {
    /// Makes a picture. A closure that takes a [`Progress`] is told of it between the steps, on this thread; another
    /// [`Callbacks`] can do more.
    ///
    /// # Errors
    /// [`Error::Request`] if the request cannot be met (nothing has been computed then), [`Error::NotFinite`] if a stage produced NaN.
    pub fn text_to_image(&self, request: &TextToImage, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.one(Task::TextToImage(request.clone()), callbacks)
    }

    /// Makes `count` pictures of one task, in one walk; picture i has the seed of the request plus i.
    ///
    /// # Errors
    /// As for a single picture.
    pub fn make(&self, task: &Task, count: usize, callbacks: &mut dyn Callbacks) -> Result<Vec<Image>> {
        task.check(self)?;
        let mut batch = match task {
            Task::TextToImage(request) => self.start_from_noise(request, count, callbacks)?,
            Task::ImageToImage(request) => self.start_from_image(request, count, callbacks)?,
            Task::Inpaint(request) => self.start_inpainting(request, count, callbacks)?,
        };
        let denoised = self.denoise(&mut batch, callbacks);
        self.unet.release();
        denoised?;
        callbacks.progress(Progress::Decoding);
        let mut pictures = Vec::with_capacity(count);
        for (i, state) in batch.states.into_iter().enumerate() {
            let mut task = task.clone();
            task.text_mut().seed = task.text().seed_of(i);
            let picture = self.decode(batch.shape, state.latents.clone())?;
            callbacks.on_image(i, &state.latents, &picture);
            let parameters = self.task_parameters(&task)?.with_run(&state.digest, batch.stopped);
            pictures.push(task.finish(picture).with_parameters(parameters.to_string()));
        }
        Ok(pictures)
    }

    fn one(&self, task: Task, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.make(&task, 1, callbacks).map(|mut pictures| pictures.remove(0))
    }

    /// The walk of text to image: from noise alone.
    fn start_from_noise(
        &self,
        request: &TextToImage,
        count: usize,
        callbacks: &mut dyn Callbacks,
    ) -> Result<DenoisingBatch> {
        let sampler = || self.sampler(request);
        sampler()?;
        let text = self.encode_text(request, callbacks)?;
        let state = |i| {
            let (sampler, mut generator) = (sampler()?, Generator::of(request.rng, request.seed_of(i)));
            let mut latents = generator.randn(self.latent_shape(request).iter().product());
            for x in &mut latents {
                *x *= sampler.init_noise_sigma();
            }
            Ok(SampleState { sampler, generator, latents, inpaint: InpaintMode::None, digest: String::new() })
        };
        self.batch(request, text, 0, (0..count).map(state).collect::<Result<_>>()?)
    }

    fn batch(
        &self,
        request: &TextToImage,
        text: Tensor<f32, 3>,
        first: usize,
        states: Vec<SampleState>,
    ) -> Result<DenoisingBatch> {
        let (shape, guidance_scale) = (self.latent_shape(request), request.guidance_scale);
        let prediction = self.scheduler.prediction()?;
        Ok(DenoisingBatch { shape, text, guidance_scale, prediction, first, stopped: None, states })
    }

    /// The loop: from noisy latents at call `walk.first` to clean ones.
    fn denoise(&self, batch: &mut DenoisingBatch, callbacks: &mut dyn Callbacks) -> Result<()> {
        let timesteps = batch.timesteps().to_vec();
        let total = timesteps.len();
        callbacks.on_run_start(&batch.run_info())?;
        let unet = self.unet.get()?;
        let _recycling = Recycling::start(); // the buffers of one step serve the next
        let told = unet.prepare(self.isa, batch.text_for_all().view(), &timesteps);
        for step in 0..total {
            callbacks.progress(Progress::Step { done: step, total });
            let call = batch.first + step;
            let outputs = match callbacks.known_output(step) {
                Some(known) => known,
                None => {
                    let predictions = unet.forward(self.isa, batch.input(call).view(), step, &told);
                    let noise = self.guided(predictions, batch);
                    self.check_finite(&noise, || format!("the UNet at step {} of {total}", step + 1))?;
                    channels_first(noise)
                }
            };
            let before = batch.step(&outputs, call);
            let info =
                StepInfo { batch: &*batch, before: &before, outputs: &outputs, call, done: step + 1, total };
            match callbacks.on_step_end(&info)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Interrupt::Discard) => return Err(Error::Interrupted),
                ControlFlow::Break(Interrupt::Decode) if step + 1 < total => {
                    let x0s: Vec<_> = (0..batch.states.len()).map(|i| info.pred_original_sample(i)).collect();
                    batch.stop_at(step + 1, x0s);
                    return Ok(());
                }
                ControlFlow::Break(Interrupt::Decode) => {}
            }
        }
        callbacks.progress(Progress::Step { done: total, total });
        Ok(())
    }

    /// The embeddings that the UNet attends to: `[2, tokens, c]`, the negative prompt first; without guidance `[1, tokens, c]`.
    /// There are 77 tokens; of long prompts in A1111's syntax a multiple of 77.
    fn encode_text(&self, request: &TextToImage, callbacks: &mut dyn Callbacks) -> Result<Tensor<f32, 3>> {
        let texts = [("negative prompt", &request.negative_prompt), ("prompt", &request.prompt)];
        let needed = if request.guided() { &texts[..] } else { &texts[1..] };
        let text_encoder = self.text_encoder.get()?;
        let prompt_encoder = self.prompt_encoder(request, &text_encoder);
        let mut prompts = Vec::new();
        for &(name, text) in needed {
            let (chunks, cut) = prompt_encoder.chunks(text)?;
            if let Some(cut) = cut {
                callbacks.progress(Progress::Truncated { text: name, cut });
            }
            prompts.push(chunks);
        }
        let start = Instant::now();
        let embeddings = prompt_encoder.embed(self.isa, &prompts);
        let taken = start.elapsed();
        drop(text_encoder);
        self.text_encoder.release();
        let [texts, tokens, _] = embeddings.shape();
        let [.., height, width] = self.latent_shape(request);
        let step = self.arithmetic.step(height * width, texts, tokens);
        if let Some(step) = self.arithmetic.expected(step, texts * tokens, taken) {
            callbacks.progress(Progress::Expected { step });
        }
        self.check_finite(&embeddings, || "the text encoder".into())?;
        Ok(embeddings)
    }

    /// How the request wants its texts to be read.
    fn prompt_encoder<'a>(
        &'a self,
        request: &TextToImage,
        text_encoder: &'a ClipTextModel,
    ) -> PromptEncoder<'a> {
        PromptEncoder {
            tokenizer: &self.tokenizer,
            text_encoder,
            syntax: request.prompt_syntax,
            clip_skip: request.clip_skip,
        }
    }

    /// The UNet's predictions for n pictures, guided if there are two prompts for each of them: `[texts, h, w, c]` → `[n, h, w, c]`.
    fn guided(&self, predictions: Tensor<f32, 4>, batch: &DenoisingBatch) -> Tensor<f32, 4> {
        let (pictures, [texts, height, width, channels]) = (batch.states.len(), predictions.shape());
        let prompts = texts / pictures;
        if prompts == 1 {
            return predictions;
        }
        let (uncond, text) = predictions.as_slice().split_at(predictions.len() / 2);
        Tensor::from_vec(
            [pictures, height, width, channels],
            elementwise::guide(self.isa, uncond, text, batch.guidance_scale),
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
        Ok(Parameters::of(request, kind, &self.model).with_precision(self.precision))
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
