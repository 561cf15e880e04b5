//! The images of a run between two steps, and what is remembered of each step. The loop over the
//! steps is in `mod.rs`.
//!
//! An image's parameters hold `Steps digest`: of the latents after each step the first four hex
//! digits of their SHA-256. Whoever makes the image again sees at which step two runs part. A
//! difference at step 1 means other first latents (text encoder, input image, generator), a later
//! one another UNet or arithmetic; equal digests and other pixels mean another VAE. Four digits
//! agree by chance once in 65,536 times, and the next step then shows it.

use aquatint_tensor::{Tensor, concat};
use sha2::{Digest, Sha256};

use super::approximations::Approximations;
use super::latents::channels_last;
use super::text_schedule::TextSchedule;
use crate::error::{Error, Result};
use crate::rng::Generator;
use crate::samplers::{Prediction, Sampler};
use crate::text::conditioning::TextConditioning;

/// Hex digits that a step leaves in the digest.
pub const DIGITS_PER_STEP: usize = 4;

/// Images that are denoised together: what stays the same from step to step, and the state of each.
pub(super) struct DenoisingBatch {
    /// Of the latents of one image, as torch has them: `[1, channels, height, width]`.
    pub(super) shape: [usize; 4],
    /// The texts of each task, and how many images are made of it.
    pub(super) texts: Vec<(TextSchedule, usize)>,
    pub(super) guidance_scale: f32,
    pub(super) approximations: Approximations,
    /// What the UNet's output means.
    pub(super) prediction: Prediction,
    /// The sampler's call to begin with; those before are skipped if the run starts from an image.
    pub(super) first: usize,
    /// Calls from there on; those behind are the refiner's.
    pub(super) calls: usize,
    /// Steps that were taken, if the run was ended early.
    pub(super) stopped: Option<usize>,
    /// Calls of the UNet before this pass, and of the pass behind it: a second one on the enlarged
    /// result, or the refiner's.
    pub(super) calls_before: usize,
    pub(super) calls_after: usize,
    pub(super) states: Vec<SampleState>,
}

/// What a refiner will do behind a model.
pub(super) struct RefinerPass {
    /// As those of the batch.
    pub(super) texts: Vec<(TextSchedule, usize)>,
    /// The call of its sampler with which it begins.
    pub(super) first: usize,
    pub(super) timesteps: Vec<f32>,
    /// The model itself takes the timesteps that are not below.
    pub(super) cutoff: f32,
}

/// An image that is being made.
pub(super) struct SampleState {
    pub(super) sampler: Box<dyn Sampler>,
    pub(super) generator: Generator,
    pub(super) latents: Vec<f32>,
    pub(super) inpaint: InpaintMode,
    /// Four hex digits for each step; see above.
    pub(super) digest: String,
}

/// How a task makes the first latents of an image, with its sampler and its generator.
pub(super) type InitialLatents<'a> =
    Box<dyn Fn(&dyn Sampler, &mut Generator) -> (Vec<f32>, InpaintMode) + 'a>;

impl DenoisingBatch {
    /// What a step sees of the texts.
    pub(super) fn texts_at(&self, step: usize) -> Vec<(TextConditioning, usize)> {
        self.texts.iter().map(|(texts, count)| (texts.at(step).clone(), *count)).collect()
    }

    /// Whether a step sees other texts than the one before.
    pub(super) fn changes_at(&self, step: usize) -> bool {
        self.texts.iter().any(|(texts, _)| texts.changes_at(step))
    }

    /// How strongly each part of the prompts counts, which all tasks have in common.
    pub(super) fn weights(&self) -> &[f32] {
        &self.texts[0].0.weights
    }

    /// The timesteps to go through.
    pub(super) fn timesteps(&self) -> &[f32] {
        &self.states[0].sampler.timesteps()[self.first..][..self.calls]
    }

    /// Leaves the calls to the refiner that are its.
    ///
    /// # Errors
    /// `Request` if none are left for the model itself, or for the refiner.
    pub(super) fn hand_over(&mut self, refining: &RefinerPass) -> Result<()> {
        self.calls = self.timesteps().iter().filter(|&&t| t >= refining.cutoff).count();
        self.calls_after = refining.timesteps.len();
        match (self.calls, self.calls_after) {
            (0, _) => Err(Error::request(
                "no step is left for the model before its refiner takes over; expected a later moment, more steps or \
                 a greater strength",
            )),
            (_, 0) => Err(Error::request(
                "no step is left for the refiner; expected that it takes over earlier, or more steps",
            )),
            _ => Ok(()),
        }
    }

    /// Calls of the UNet in all passes.
    pub(super) fn total(&self) -> usize {
        self.calls_before + self.timesteps().len() + self.calls_after
    }

    /// What the UNet takes at a step: `[n, h, w, in_channels]`.
    pub(super) fn model_input(&self, step: usize) -> Tensor<f32, 4> {
        let inputs = self.states.iter().map(|state| {
            let mut input = state.latents.clone();
            state.sampler.scale_model_input(&mut input, self.first + step);
            state.inpaint.model_input(channels_last(self.shape, input))
        });
        let inputs: Vec<_> = inputs.collect();
        concat(&inputs.iter().map(Tensor::view).collect::<Vec<_>>(), 0)
    }

    /// One step of every image with the model's outputs `[n, c, h, w]`; returns the latents from
    /// before.
    pub(super) fn step(&mut self, outputs: &[f32], step: usize) -> Vec<Vec<f32>> {
        let (call, count) = (self.first + step, self.shape.iter().product());
        let steps = self.states.iter_mut().zip(outputs.chunks_exact(count)).map(|(state, output)| {
            let before = state.latents.clone();
            state.sampler.step(output, call, &mut state.latents, &mut state.generator);
            state.inpaint.blend(&mut state.latents, state.sampler.as_ref(), call + 1);
            let digest = sha256([state.latents.as_slice()]);
            state.digest.push_str(&digest[..DIGITS_PER_STEP]);
            before
        });
        steps.collect()
    }
}

/// What is known of the picture while it is made.
pub(super) enum InpaintMode {
    /// Nothing: the task is no inpainting.
    None,
    /// The latents outside the mask, which are put back after each step.
    Blend {
        /// `[h, w]`: 1 is repainted.
        mask: Vec<f32>,
        /// `[c, h, w]`, clean.
        latents: Vec<f32>,
        /// `[c, h, w]`: the noise of the first latents.
        noise: Vec<f32>,
    },
    /// Mask and masked picture, `[1, h, w, 1 + c]`, which the UNet sees beside the latents.
    Concat(Tensor<f32, 4>),
}

impl InpaintMode {
    /// What the UNet sees. `latents: [1, h, w, c]` → `[1, h, w, in_channels]`.
    pub(super) fn model_input(&self, latents: Tensor<f32, 4>) -> Tensor<f32, 4> {
        match self {
            Self::Concat(more) => concat(&[latents.view(), more.view()], 3),
            Self::None | Self::Blend { .. } => latents,
        }
    }

    /// Puts the known latents back around the mask, as noisy as the sampler's `call` expects them;
    /// clean after the last.
    pub(super) fn blend(&self, latents: &mut [f32], sampler: &dyn Sampler, call: usize) {
        let Self::Blend { mask, latents: clean, noise } = self else { return };
        let mut outside = clean.clone();
        if call < sampler.timesteps().len() {
            sampler.add_noise(&mut outside, noise, call);
        }
        for ((x, outside), &mask) in latents.iter_mut().zip(outside).zip(mask.iter().cycle()) {
            *x = (1.0 - mask) * outside + mask * *x;
        }
    }
}

/// The call with which a run begins that takes ⌊steps · strength⌋ of all steps. In f64, as Python
/// computes it: 0.29 of 100 steps are 28.
pub(super) fn first_call(sampler: &dyn Sampler, steps: usize, strength: f64) -> Result<usize> {
    if !(0.0..=1.0).contains(&strength) {
        return Err(Error::request(format_args!(
            "the strength is {strength}; expected a number from 0 to 1"
        )));
    }
    let taken = ((steps as f64 * strength) as usize).min(steps);
    if taken == 0 {
        return Err(Error::request(format_args!(
            "a strength of {strength} leaves none of {steps} steps; expected at least {:.3}, or more steps",
            1.0 / steps as f64
        )));
    }
    Ok((steps - taken) * sampler.calls_per_step())
}

/// SHA-256 of numbers, in hex.
pub(super) fn sha256<'a>(parts: impl IntoIterator<Item = &'a [f32]>) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(bytemuck::cast_slice(part)); // little endian on every machine that this runs on
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
