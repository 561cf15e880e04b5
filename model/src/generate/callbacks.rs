//! Who follows a walk: told of progress, shown every step, free to end it.
//!
//! ```text
//! begin(start)          once, when it is known what is walked from; here an earlier walk can be compared
//! output(step)          what the UNet said at this step of an earlier walk, if that is known: then it is not asked
//! step(moment) → stop?  after each call of the UNet
//! finished(…)           once for each picture, when its latents are decoded
//! ```
//!
//! A closure that takes a [`Progress`] is an observer that listens and no more. [`super::RunCheckpoint`] is the memory of one
//! that writes checkpoints.

use std::ops::ControlFlow;
use std::time::Duration;

use super::denoise::{DenoisingBatch, SampleState};
use crate::error::Result;
use crate::image::Image;
use crate::samplers;

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
    /// About how long a call of the UNet will take for one picture, judged by its arithmetic and the speed of the text encoder.
    Expected {
        /// Within a factor of two, mostly.
        step: Duration,
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

/// How a walk ends before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// With [`Error::Interrupted`](crate::Error::Interrupted).
    Discard,
    /// With a picture all the same: that of the guess at which the walk has arrived.
    Decode,
}

/// Who follows a walk. All methods but the first do nothing unless they are written.
pub trait Callbacks {
    /// Something happened.
    fn progress(&mut self, event: Progress);

    /// The walk is about to begin.
    ///
    /// # Errors
    /// What is returned here and below ends the walk.
    fn on_run_start(&mut self, _run: &RunInfo) -> Result<()> {
        Ok(())
    }

    /// The outputs of the UNet at this step, `[n, channels, height, width]` for `n` pictures, if an earlier walk knows them.
    fn known_output(&mut self, _step: usize) -> Option<Vec<f32>> {
        None
    }

    /// A step was taken. `Break` ends the walk.
    ///
    /// # Errors
    /// See [`Callbacks::on_run_start`].
    fn on_step_end(&mut self, _info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>> {
        Ok(ControlFlow::Continue(()))
    }

    /// Image `index` of the walk is decoded from `latents`, `[channels, height, width]`, and not yet laid into another one.
    fn on_image(&mut self, _index: usize, _latents: &[f32], _picture: &Image) {}
}

impl<F: FnMut(Progress)> Callbacks for F {
    fn progress(&mut self, event: Progress) {
        self(event);
    }
}

/// From where a walk begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// SHA-256, in hex, of everything that the steps depend on but the UNet: embeddings, first latents, timesteps, known parts.
    pub digest: String,
    /// `[n, channels, height, width]` of the latents of all pictures of the walk.
    pub shape: [usize; 4],
    /// Calls of the UNet.
    pub total: usize,
}

/// A walk between two steps.
pub struct StepInfo<'a> {
    pub(super) batch: &'a DenoisingBatch,
    /// The samples before the step.
    pub(super) before: &'a [Vec<f32>],
    /// What the UNet said, of all pictures.
    pub(super) outputs: &'a [f32],
    /// The call of the sampler that was made.
    pub(super) call: usize,
    /// Steps done.
    pub done: usize,
    /// Steps in all.
    pub total: usize,
}

impl StepInfo<'_> {
    /// How many pictures are made together.
    pub fn pictures(&self) -> usize {
        self.batch.states.len()
    }

    /// The timestep at which the model was evaluated.
    pub fn timestep(&self) -> f32 {
        self.batch.states[0].sampler.timesteps()[self.call]
    }

    /// `[channels, height, width]` of the latents of one picture.
    pub fn shape(&self) -> [usize; 3] {
        let [_, channels, height, width] = self.batch.shape;
        [channels, height, width]
    }

    /// What the UNet said at this step, guidance included: `[n, channels, height, width]`.
    pub fn outputs(&self) -> &[f32] {
        self.outputs
    }

    /// The latents of picture `index` after the step, on the sampler's own scale.
    pub fn latents(&self, index: usize) -> &[f32] {
        &self.batch.states[index].latents
    }

    /// x_t before the step, with variance 1: what the UNet saw of picture `index`.
    pub fn model_input(&self, index: usize) -> Vec<f32> {
        let mut input = self.before[index].clone();
        self.batch.states[index].sampler.scale_model_input(&mut input, self.call);
        input
    }

    /// x_0 as the UNet's output at this step has it, for picture `index`.
    pub fn pred_original_sample(&self, index: usize) -> Vec<f32> {
        let SampleState { sampler, inpaint, .. } = &self.batch.states[index];
        let count = self.before[index].len();
        let output = &self.outputs[index * count..][..count];
        let level = sampler.noise_level(self.call);
        let mut x0 =
            samplers::pred_original_sample(self.batch.prediction, level, &self.before[index], output);
        inpaint.blend(&mut x0, sampler.as_ref(), sampler.timesteps().len());
        x0
    }
}
