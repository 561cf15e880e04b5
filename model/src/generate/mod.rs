//! Text to image: this file is the algorithm.
//!
//! ```text
//! text    = text_encoder(tokenizer(prompt))
//! latents = noise · init_noise_sigma                          random, from the seed
//! for each timestep t:
//!     e_uncond, e_text = unet(scaled latents, t, [empty text, text])
//!     e       = e_uncond + guidance_scale · (e_text − e_uncond)
//!     latents = sampler.step(e, t, latents)
//! image   = vae.decode(latents / scaling_factor)
//! ```
//!
//! Two tasks have other first latents: `img2img.rs` starts from an image, `inpaint.rs` keeps a part
//! of it; `second_pass.rs` enlarges, `refiner.rs` leaves the last steps to a second model. Progress
//! and early stop: `callbacks.rs`; save and resume: `run_checkpoint.rs`. Steps and random draws
//! are in the order of diffusers' `StableDiffusionPipeline`, `...Img2ImgPipeline` and
//! `...InpaintPipeline`, and those for XL (`size_conditions.rs`): the same folder, seed and request
//! give the same image. Source of the guidance: Ho and Salimans, *Classifier-Free
//! Diffusion Guidance* (2022). Read next: [`crate::networks::clip`], [`crate::networks::unet`],
//! [`crate::samplers`], [`crate::networks::vae`].

mod adapters;
mod api_field;
pub mod api_request;
mod approximations;
mod aspect;
mod callbacks;
mod checks;
mod denoise;
mod described;
mod encode_text;
mod estimate;
mod hires;
pub mod image_input;
mod img2img;
pub mod infotext;
mod initial_noise;
mod inpaint;
mod latent_upscale;
mod latents;
mod load;
mod load_options;
pub mod mask_input;
pub mod partial;
mod pipeline;
mod predict;
pub mod presets;
mod refiner;
mod request;
mod run_checkpoint;
mod second_pass;
mod select_adapters;
pub mod settings;
mod size_conditions;
mod task;
mod text_schedule;
mod together;
mod tokens;
pub mod values;
mod wildcards;

use aquatint_kernels::elementwise;
use aquatint_tensor::{Recycling, Tensor};

pub(crate) use adapters::{AdapterSet, TextEncoderSource};
pub use api_field::ValueKind;
pub use api_request::ApiRequest;
pub use approximations::{Approximations, GuidanceInterval};
pub use aspect::Aspect;
pub use callbacks::{Callbacks, Interrupt, Progress, RunInfo, StepInfo};
pub use denoise::DIGITS_PER_STEP;
pub use estimate::Footprint;
pub use hires::{Hires, Upscaler};
pub use image_input::ImageInput;
pub use img2img::ImageToImage;
pub use inpaint::Inpaint;
pub use latent_upscale::LatentMode;
pub(crate) use load::{check, preset};
pub use load_options::LoadOptions;
pub use mask_input::MaskInput;
pub use partial::TaskImages;
pub use pipeline::Pipeline;
pub use presets::{PRESETS, Preset, Recognised};
pub use request::{LARGEST_SIDE, TextToImage};
pub use run_checkpoint::RunCheckpoint;
pub use settings::{PartialRequest, SETTINGS, Setting};
pub use size_conditions::SizeConditions;
pub use task::Task;
pub use together::Likeness;
pub use tokens::{PromptTokens, Token};
pub use values::{Seed, TaskKind};

#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::image::Image;
use crate::source::{UNET, VAE};
use denoise::{DenoisingBatch, RefinerPass};
use latents::channels_first;
use load::loaded;
use predict::NoisePredictor;

impl Pipeline {
    /// Makes an image from a text. A closure that takes a [`Progress`] hears of it between the
    /// steps, on this thread; other [`Callbacks`] can do more.
    ///
    /// # Errors
    /// [`Error::Request`] if the request cannot be met (nothing has been computed then),
    /// [`Error::NotFinite`] if a stage produced NaN.
    pub fn text_to_image(&self, request: &TextToImage, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.one(Task::TextToImage(request.clone()), callbacks)
    }

    /// Makes `count` images of one task together; image i has the seed of the request plus i.
    ///
    /// # Errors
    /// As for a single image.
    pub fn generate(&self, task: &Task, count: usize, callbacks: &mut dyn Callbacks) -> Result<Vec<Image>> {
        self.generate_together(&[(task, count)], callbacks)
    }

    /// The same for several tasks, as many images as stand beside each; see
    /// [`Pipeline::likeness`]. Each image is the one that it would be alone.
    ///
    /// # Errors
    /// As for a single image; also if the tasks are not alike.
    pub fn generate_together(
        &self,
        tasks: &[(&Task, usize)],
        callbacks: &mut dyn Callbacks,
    ) -> Result<Vec<Image>> {
        let with_words = tasks.iter().map(|&(task, count)| Ok((self.with_words_for(task, count)?, count)));
        let with_words = with_words.collect::<Result<Vec<_>>>()?;
        let tasks: Vec<_> = with_words.iter().map(|(task, count)| (task, *count)).collect();
        let first = self.check_together(&tasks)?;
        self.select_adapters(tasks[0].0.text())?;
        let text =
            |&(task, count): &(&Task, usize)| Ok((self.encode_text(task.text(), first, callbacks)?, count));
        let texts = tasks.iter().map(text).collect::<Result<_>>()?;
        let refining = self.refiner_pass(&tasks)?;
        let mut batch = self.initial_batch(&tasks, texts, first)?;
        if let Some(refining) = &refining {
            batch.hand_over(refining)?;
        }
        initial_noise::set(callbacks, &tasks, &mut batch)?;
        let denoised = self.denoise_passes(&tasks, &mut batch, refining.as_ref(), callbacks);
        self.unet.release();
        denoised?;
        if let (Some(refining), None) = (refining, batch.stopped) {
            self.refine(refining, tasks[0].0.text(), &mut batch, callbacks)?;
        }
        callbacks.progress(Progress::Decoding);
        let _decoder = loaded(&self.vae_decoder, &VAE, callbacks)?; // shared by all images
        let images = tasks.iter().flat_map(|&(task, count)| (0..count).map(move |nth| (task, nth)));
        let images = images.enumerate().map(|(i, (task, nth))| self.finish(task, nth, &batch, i, callbacks));
        images.collect()
    }

    /// The loop, and a second time on the enlarged result if the request says so.
    fn denoise_passes(
        &self,
        tasks: &[(&Task, usize)],
        batch: &mut DenoisingBatch,
        refining: Option<&RefinerPass>,
        callbacks: &mut dyn Callbacks,
    ) -> Result<()> {
        callbacks.on_run_start(&RunInfo::of(batch, refining))?;
        self.denoise(batch, callbacks)?;
        if tasks[0].0.text().hires.is_some() && batch.stopped.is_none() {
            callbacks.progress(Progress::Enlarging);
            self.begin_second_pass(tasks, batch)?;
            callbacks.on_run_start(&RunInfo::of(batch, None))?;
            self.denoise(batch, callbacks)?;
        }
        Ok(())
    }

    /// The loop: from noisy latents to clean ones.
    fn denoise(&self, batch: &mut DenoisingBatch, callbacks: &mut dyn Callbacks) -> Result<()> {
        let unet = loaded(&self.unet, &UNET, callbacks)?;
        let _recycling = Recycling::start(); // the buffers of one step serve the next
        let mut predictor = NoisePredictor::new(self.isa, &unet, batch)?;
        let (before, total) = (batch.calls_before, batch.total());
        let decoding_percent = self.decoding_percent(batch.shape, batch.texts[0].0.at(before));
        callbacks.progress(Progress::Denoising { decoding_percent });
        callbacks.progress(Progress::Step { done: before, total });
        for step in 0..batch.timesteps().len() {
            predictor.follow(batch, step);
            let output = match callbacks.known_output(before + step) {
                Some(known) => {
                    let is_known = |next| callbacks.known_output(before + next).is_some();
                    if predictor.leaves_for_unknown(step, is_known) {
                        predictor.predict(batch.model_input(step).view(), step);
                    }
                    known
                }
                None => {
                    let predictions = predictor.predict(batch.model_input(step).view(), step);
                    callbacks.on_predictions(predictions.view());
                    let noise = self.guided(predictions, batch);
                    self.check_finite(&noise, || {
                        format!("the UNet at step {} of {total}", before + step + 1)
                    })?;
                    channels_first(noise)
                }
            };
            let latents = batch.step(&output, step);
            if callbacks::end_of_step(callbacks, batch, &latents, &output, step)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// `e_uncond + guidance_scale · Σ weightᵢ · (eᵢ − e_uncond)`, with a weight of 1 unless the
    /// prompt has others: `[texts, h, w, c]` → `[n, h, w, c]`. Without guidance there is one text
    /// for each of the n images, and nothing to do.
    fn guided(&self, predictions: Tensor<f32, 4>, batch: &DenoisingBatch) -> Tensor<f32, 4> {
        let (images, [texts, height, width, channels]) = (batch.states.len(), predictions.shape());
        if texts == images {
            return predictions;
        }
        let weights = batch.weights();
        let (uncond, parts) = predictions.as_slice().split_at(predictions.len() / (weights.len() + 1));
        let mut parts =
            parts.chunks_exact(uncond.len()).zip(weights.iter().map(|w| w * batch.guidance_scale));
        let mut guided = match parts.next() {
            Some((part, scale)) => elementwise::guide(self.isa, uncond, part, scale),
            None => uncond.to_vec(),
        };
        for (part, scale) in parts {
            for ((x, part), uncond) in guided.iter_mut().zip(part).zip(uncond) {
                *x += scale * (part - uncond);
            }
        }
        Tensor::from_vec([images, height, width, channels], guided)
    }
}
