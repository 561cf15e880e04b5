//! The images of a run between two steps, and what is remembered of each step.
//!
//! An image's parameters hold `Steps digest`: of the latents after each step the first four hex
//! digits of their SHA-256. Whoever makes the image again sees at which step two runs part. A
//! difference at step 1 means other first latents (text encoder, input image, generator), a later
//! one another UNet or arithmetic; equal digests and other pixels mean another VAE. Four digits
//! agree by chance once in 65,536 times, and the next step then shows it.

use std::ops::ControlFlow;

use aquatint_tensor::{Tensor, concat};
use sha2::{Digest, Sha256};

use super::callbacks::{Callbacks, Interrupt, RunInfo, StepInfo};
use super::inpaint::InpaintMode;
use super::latents::channels_last;
use crate::error::{Error, Result};
use crate::rng::Generator;
use crate::samplers::{Prediction, Sampler};
use crate::text::encode::TextConditioning;

/// Hex digits that a step leaves in the digest.
pub const DIGITS_PER_STEP: usize = 4;

/// Images that are denoised together: what stays the same from step to step, and the state of each.
pub(super) struct DenoisingBatch {
    /// Of the latents of one image, as torch has them: `[1, channels, height, width]`.
    pub(super) shape: [usize; 4],
    /// The negative prompt's first if there is guidance by a second text.
    pub(super) text: TextConditioning,
    pub(super) guidance_scale: f32,
    /// What the UNet's output means.
    pub(super) prediction: Prediction,
    /// The sampler's call to begin with; those before are skipped if the run starts from an image.
    pub(super) first: usize,
    /// Steps that were taken, if the run was ended early.
    pub(super) stopped: Option<usize>,
    pub(super) states: Vec<SampleState>,
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
    /// The timesteps to go through.
    pub(super) fn timesteps(&self) -> &[f32] {
        &self.states[0].sampler.timesteps()[self.first..]
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

    /// One step of every image with the model's outputs `[n, c, h, w]`. `Break` if the caller ends
    /// the run here, with predictions of x_0 in place of the latents.
    pub(super) fn step(
        &mut self,
        outputs: &[f32],
        step: usize,
        callbacks: &mut dyn Callbacks,
    ) -> Result<ControlFlow<()>> {
        let (call, count) = (self.first + step, self.shape.iter().product());
        let before: Vec<_> = self.states.iter().map(|state| state.latents.clone()).collect();
        for (state, output) in self.states.iter_mut().zip(outputs.chunks_exact(count)) {
            state.sampler.step(output, call, &mut state.latents, &mut state.generator);
            state.inpaint.blend(&mut state.latents, state.sampler.as_ref(), call + 1);
            let digest = sha256([state.latents.as_slice()]);
            state.digest.push_str(&digest[..DIGITS_PER_STEP]);
        }
        let (done, total) = (step + 1, self.timesteps().len());
        let info = StepInfo { batch: self, before: &before, outputs, call, done, total };
        match callbacks.on_step_end(&info)? {
            ControlFlow::Break(Interrupt::Discard) => Err(Error::Interrupted),
            ControlFlow::Break(Interrupt::Decode) if done < total => {
                let x0s: Vec<_> = (0..before.len()).map(|i| info.pred_original_sample(i)).collect();
                for (state, x0) in self.states.iter_mut().zip(x0s) {
                    state.latents = x0;
                }
                self.stopped = Some(done);
                Ok(ControlFlow::Break(()))
            }
            ControlFlow::Break(Interrupt::Decode) | ControlFlow::Continue(()) => {
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    /// Everything that the steps depend on but the UNet.
    pub(super) fn run_info(&self) -> RunInfo {
        let [_, channels, height, width] = self.shape;
        let shape = [self.states.len(), channels, height, width];
        let sizes = shape.map(|side| side as f32);
        let scale = [self.guidance_scale, self.first as f32];
        let mut parts = vec![&sizes[..], &scale, self.timesteps(), self.text.hidden.as_slice()];
        for state in &self.states {
            parts.push(&state.latents);
            match &state.inpaint {
                InpaintMode::None => {}
                InpaintMode::Blend { mask, latents, noise } => parts.extend([&mask[..], latents, noise]),
                InpaintMode::Concat(more) => parts.push(more.as_slice()),
            }
        }
        RunInfo { digest: sha256(parts), shape, total: self.timesteps().len() }
    }
}

/// SHA-256 of numbers, in hex.
fn sha256<'a>(parts: impl IntoIterator<Item = &'a [f32]>) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(bytemuck::cast_slice(part)); // little endian on every machine that this runs on
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
