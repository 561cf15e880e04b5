//! A second model for the last steps: Stable Diffusion XL's refiner.
//!
//! ```text
//! cutoff   = T − round(T · refiner_at)                    of the T noise levels of the training
//! model    the timesteps from its first on that are ≥ cutoff
//! refiner  those of its own sampler that are < cutoff, from the model's latents on
//! ```
//!
//! The refiner was trained on the last fifth of the noise levels, where details appear. It has its
//! own texts and sampler, which knows nothing of the steps before; noise goes on to be drawn from
//! the same generator. Source: Podell et al., *SDXL* (2023), section 2.5; diffusers'
//! `denoising_end` of `StableDiffusionXLPipeline` and `denoising_start` of `...Img2ImgPipeline`.

use super::callbacks::Callbacks;
use super::denoise::{DenoisingBatch, InpaintMode, RefinerPass};
use super::pipeline::Pipeline;
use super::request::{REFINER_AT, TextToImage};
use super::task::Task;
use crate::error::{Error, Result};
use crate::samplers::Sampler;

impl Pipeline {
    /// Whether the refiner that is there, or is not, fits the request.
    pub(super) fn check_refiner(&self, request: &TextToImage) -> Result<()> {
        match (&self.refiner, request.refiner_at) {
            (None, None) => Ok(()),
            (None, Some(at)) => Err(Error::request(format_args!(
                "a refiner is to take over at {at}, but there is none; give a refiner as well"
            ))),
            (Some(_), Some(at)) if !(at > 0.0 && at < 1.0) => Err(Error::request(format_args!(
                "the refiner is to take over at {at}; expected a number between 0 and 1"
            ))),
            (Some(_), _) if request.hires.is_some() => Err(Error::request(
                "there are a refiner and a second pass on the enlarged picture; expected one of them",
            )),
            (Some(refiner), _) => request.check(refiner),
        }
    }

    /// What the refiner, if there is one, will do for tasks that are alike.
    pub(super) fn refiner_pass(&self, tasks: &[(&Task, usize)]) -> Result<Option<RefinerPass>> {
        let Some(model) = &self.refiner else { return Ok(None) };
        let request = tasks[0].0.text();
        let at = request.refiner_at.unwrap_or(REFINER_AT);
        let levels = self.scheduler.num_train_timesteps()? as f64;
        let cutoff = (levels - at * levels).round_ties_even() as f32;
        // The model itself has reported the texts. The refiner's calls are numbered behind the
        // model's, and see what these would have seen.
        let text =
            |&(task, count): &(&Task, usize)| Ok((model.encode_text(task.text(), 0, &mut |_| {})?, count));
        let texts = tasks.iter().map(text).collect::<Result<_>>()?;
        let sampler = model.sampler(request)?;
        let first = first_below(sampler.as_ref(), cutoff);
        let timesteps = sampler.timesteps()[first..].to_vec();
        Ok(Some(RefinerPass { texts, first, timesteps, cutoff }))
    }

    /// Has the refiner take the images on to the end.
    pub(super) fn refine(
        &self,
        pass: RefinerPass,
        request: &TextToImage,
        batch: &mut DenoisingBatch,
        callbacks: &mut dyn Callbacks,
    ) -> Result<()> {
        let Some(model) = &self.refiner else { return Ok(()) };
        batch.calls_before += batch.calls;
        batch.calls_after = 0;
        batch.calls = pass.timesteps.len();
        batch.first = pass.first;
        batch.texts = pass.texts;
        batch.prediction = model.scheduler.prediction()?;
        for state in &mut batch.states {
            state.sampler = model.sampler(request)?;
            if let InpaintMode::Concat(_) = state.inpaint {
                state.inpaint = InpaintMode::None; // the refiner has no channels for it
            }
        }
        let denoised = model.denoise(batch, callbacks);
        model.unet.release();
        denoised
    }
}

/// The call with which a refiner begins. Samplers of two calls a step begin with the first of both.
fn first_below(sampler: &dyn Sampler, cutoff: f32) -> usize {
    let timesteps = sampler.timesteps();
    let mut left = timesteps.iter().filter(|&&t| t < cutoff).count();
    if sampler.calls_per_step() == 2 && left.is_multiple_of(2) {
        left += 1;
    }
    timesteps.len() - left.min(timesteps.len())
}
