//! The three tasks under one name, for callers that treat them alike.
//!
//! They differ in their first latents (text: `mod.rs`, image: `img2img.rs`, image and mask:
//! `inpaint.rs`); the loop and the decoding are the same. Several images of one task can be made
//! together: image i has the seed of the request plus i, and its own generator and sampler, so it
//! is the image that it would be alone, bit for bit. One call of the UNet then serves all of them,
//! and its weights are read once.

use super::denoise::DenoisingBatch;
use super::img2img::first_call;
use super::{Callbacks, ImageToImage, Inpaint, Pipeline, TextToImage};
use crate::error::Result;
use crate::image::Image;
use crate::image::metadata::Parameters;

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
    /// A single image.
    pub(super) fn one(&self, task: Task, callbacks: &mut dyn Callbacks) -> Result<Image> {
        self.generate(&task, 1, callbacks).map(|mut images| images.remove(0))
    }

    /// Decodes image `i` and says in its parameters how it was made.
    pub(super) fn finish(
        &self,
        task: &Task,
        batch: &DenoisingBatch,
        i: usize,
        callbacks: &mut dyn Callbacks,
    ) -> Result<Image> {
        let state = &batch.states[i];
        let decoded = self.decode(batch.shape, state.latents.clone())?;
        callbacks.on_image(i, &state.latents, &decoded);
        let mut parameters = self.task_parameters(task)?.with_run(&state.digest, batch.stopped);
        parameters.set("Seed", task.text().seed_of(i));
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
}
