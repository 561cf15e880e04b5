//! One step of a walk, and what is remembered of it.
//!
//! A picture's text holds `Steps digest`: of the latents after each step the first four hex digits of their SHA-256. Who makes
//! the picture again can say at which step the two walks part: a difference at step 1 means another start (text encoder, picture,
//! generator), one later means another UNet or arithmetic; no difference at all, and other pixels, means another VAE. Four digits agree
//! by chance once in 65,536 times, and the next step then shows it.

use aquatint_tensor::{Tensor, concat};
use sha2::{Digest, Sha256};

use super::callbacks::RunInfo;
use super::inpaint::InpaintMode;
use super::{DenoisingBatch, channels_last};

/// Hex digits that a step leaves in the digest.
pub const DIGITS_PER_STEP: usize = 4;

impl DenoisingBatch {
    /// The timesteps that are walked through.
    pub(super) fn timesteps(&self) -> &[f32] {
        &self.states[0].sampler.timesteps()[self.first..]
    }

    /// The text for every picture: `[prompts · n, tokens, c]`, each prompt n times.
    pub(super) fn text_for_all(&self) -> Tensor<f32, 3> {
        let [prompts, ..] = self.text.shape();
        let n = self.states.len();
        let views: Vec<_> = (0..prompts * n).map(|i| self.text.view().slice(0, i / n..i / n + 1)).collect();
        concat(&views, 0)
    }

    /// What the UNet sees at a call: `[n, h, w, in_channels]`.
    pub(super) fn input(&self, call: usize) -> Tensor<f32, 4> {
        let inputs = self.states.iter().map(|state| {
            let mut input = state.latents.clone();
            state.sampler.scale_model_input(&mut input, call);
            state.inpaint.model_input(channels_last(self.shape, input))
        });
        let inputs: Vec<_> = inputs.collect();
        concat(&inputs.iter().map(Tensor::view).collect::<Vec<_>>(), 0)
    }

    /// One step of every picture, along the UNet's outputs `[n, c, h, w]`; returns the samples from before.
    pub(super) fn step(&mut self, outputs: &[f32], call: usize) -> Vec<Vec<f32>> {
        let count = self.shape.iter().product();
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

    /// Ends the walk with guesses in place of what it has not reached.
    pub(super) fn stop_at(&mut self, done: usize, x0s: Vec<Vec<f32>>) {
        for (state, x0) in self.states.iter_mut().zip(x0s) {
            state.latents = x0;
        }
        self.stopped = Some(done);
    }

    /// Everything that the steps depend on but the UNet.
    pub(super) fn run_info(&self) -> RunInfo {
        let [_, channels, height, width] = self.shape;
        let shape = [self.states.len(), channels, height, width];
        let sizes = shape.map(|side| side as f32);
        let scale = [self.guidance_scale, self.first as f32];
        let mut parts = vec![&sizes[..], &scale, self.timesteps(), self.text.as_slice()];
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
