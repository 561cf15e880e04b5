//! The three tasks under one name, for callers that treat them alike.
//!
//! They differ in their first latents (text: `mod.rs`, image: `img2img.rs`, image and mask:
//! `inpaint.rs`); the loop and the decoding are the same. Several images of one task can be made
//! together: image i has the seed of the request plus i, and its own generator and sampler, so it
//! is the image that it would be alone, bit for bit. One call of the UNet then serves all of them,
//! and its weights are read once.

use super::callbacks::Callbacks;
use super::denoise::{DenoisingBatch, InitialLatents, InpaintMode, SampleState, first_call};
use super::img2img::ImageToImage;
use super::inpaint::Inpaint;
use super::pipeline::Pipeline;
use super::request::TextToImage;
use super::text_schedule::TextSchedule;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::image::metadata::Parameters;
use crate::rng::Generator;

/// A picture to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// From a text.
    TextToImage(TextToImage),
    /// From a text and a picture.
    ImageToImage(ImageToImage),
    /// A part of a picture anew.
    Inpaint(Inpaint),
}

impl Task {
    /// What all tasks have: texts, size, sampler, seed.
    pub fn text(&self) -> &TextToImage {
        match self {
            Self::TextToImage(text) => text,
            Self::ImageToImage(task) => &task.text,
            Self::Inpaint(task) => &task.text,
        }
    }

    /// The same, to be changed.
    pub fn text_mut(&mut self) -> &mut TextToImage {
        match self {
            Self::TextToImage(text) => text,
            Self::ImageToImage(task) => &mut task.text,
            Self::Inpaint(task) => &mut task.text,
        }
    }

    /// Refuses everything that can be refused before the first multiplication. Returns the
    /// sampler's call to begin with: 0, or a later one if the strength skips steps.
    pub(super) fn check(&self, pipeline: &Pipeline) -> Result<usize> {
        let request = self.text();
        request.check(pipeline)?;
        pipeline.check_refiner(request)?;
        let strength = match self {
            Self::TextToImage(_) => {
                pipeline.refuse_inpainting_model()?;
                None
            }
            Self::ImageToImage(task) => {
                request.check_size("picture", task.image.width(), task.image.height())?;
                pipeline.refuse_inpainting_model()?;
                Some(task.strength)
            }
            Self::Inpaint(task) => {
                task.check()?;
                Some(task.strength)
            }
        };
        if request.hires.is_some() && !matches!(self, Self::TextToImage(_)) {
            return Err(Error::request("only a picture from a text has a second pass that enlarges it"));
        }
        pipeline.second_pass(request)?;
        let sampler = pipeline.sampler(request)?;
        let Some(strength) = strength else { return Ok(0) };
        let first = first_call(sampler.as_ref(), request.steps, strength)?;
        pipeline.vae_encoder.check()?;
        Ok(first)
    }

    /// From the decoder's picture to the one that was asked for.
    pub(super) fn finish(&self, decoded: Image) -> Result<Image> {
        match self {
            Self::Inpaint(task) => task.composite(decoded),
            Self::TextToImage(_) | Self::ImageToImage(_) => Ok(decoded),
        }
    }
}

impl Pipeline {
    /// Makes a picture from a picture.
    ///
    /// # Errors
    /// See [`Pipeline::text_to_image`]; also if the picture does not have the request's size, or if
    /// the strength leaves no step.
    pub fn image_to_image(&self, request: &ImageToImage, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.one(Task::ImageToImage(request.clone()), callbacks)
    }

    /// Makes a part of a picture anew.
    ///
    /// # Errors
    /// See [`Pipeline::image_to_image`]; also if the mask does not have the picture's size, or
    /// nothing in it is white.
    pub fn inpaint(&self, request: &Inpaint, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.one(Task::Inpaint(request.clone()), callbacks)
    }

    /// A single image.
    pub(super) fn one(&self, task: Task, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.generate(&task, 1, callbacks).map(|mut images| images.remove(0))
    }

    /// Decodes image `i` of a batch, the `nth` of its task, and says in its parameters how it was
    /// made.
    pub(super) fn finish(
        &self,
        task: &Task,
        nth: usize,
        batch: &DenoisingBatch,
        i: usize,
        callbacks: &mut dyn Callbacks,
    ) -> Result<Image> {
        let state = &batch.states[i];
        let decoded = self.decode(batch.shape, state.latents.clone(), task.text().vae_tiling)?;
        callbacks.on_image(i, &state.latents, &decoded);
        let mut parameters = self.task_parameters(task)?.with_run(&state.digest, batch.stopped);
        parameters.set("Seed", task.text().seed_of(nth));
        Ok(task.finish(decoded)?.with_parameters(parameters))
    }

    /// What is written into the picture of a task, but for what only the run can tell.
    ///
    /// # Errors
    /// `Request` if the sampler lacks the schedule.
    pub fn task_parameters(&self, task: &Task) -> Result<Parameters> {
        let mut parameters = self.parameters(task.text())?;
        match task {
            Task::TextToImage(_) => {}
            Task::ImageToImage(task) => task.describe(&mut parameters),
            Task::Inpaint(task) => task.describe(&mut parameters),
        }
        Ok(parameters)
    }

    /// A sampler, a generator and the first latents for each image. The tasks are alike.
    pub(super) fn initial_batch(
        &self,
        tasks: &[(&Task, usize)],
        texts: Vec<(TextSchedule, usize)>,
        first: usize,
    ) -> Result<DenoisingBatch> {
        let request = tasks[0].0.text();
        let shape = self.latent_shape(request);
        let mut states = Vec::new();
        for &(task, count) in tasks {
            states.extend(self.initial_states(task, count, shape, first)?);
        }
        let calls = self.sampler(request)?.timesteps().len() - first;
        let calls_after = self.second_pass(request)?.map_or(0, |pass| pass.calls());
        Ok(DenoisingBatch {
            shape,
            texts,
            guidance_scale: request.guidance_scale,
            approximations: request.approximations,
            prediction: self.scheduler.prediction()?,
            first,
            calls,
            stopped: None,
            calls_before: 0,
            calls_after,
            states,
        })
    }

    fn initial_states(
        &self,
        task: &Task,
        count: usize,
        shape: [usize; 4],
        first: usize,
    ) -> Result<Vec<SampleState>> {
        let request = task.text();
        let initial_latents = match task {
            Task::TextToImage(_) => latents_from_noise(shape),
            Task::ImageToImage(task) => self.latents_from_image(task, first)?,
            Task::Inpaint(task) => self.latents_to_inpaint(task, first)?,
        };
        let state = |i| {
            let sampler = self.sampler(request)?;
            let mut generator = Generator::of(request.rng, request.seed_of(i));
            let (latents, inpaint) = initial_latents(sampler.as_ref(), &mut generator);
            Ok(SampleState { sampler, generator, latents, inpaint, digest: String::new() })
        };
        (0..count).map(state).collect()
    }
}

/// Pure noise at the sampler's scale.
fn latents_from_noise(shape: [usize; 4]) -> InitialLatents<'static> {
    Box::new(move |sampler, generator| {
        let mut latents = generator.randn(shape.iter().product());
        for x in &mut latents {
            *x *= sampler.init_noise_sigma();
        }
        (latents, InpaintMode::None)
    })
}
