//! Samplers with a second evaluation in the middle of each step: what DPM2, DPM2 a, DPM++ 2S a
//! and DPM++ SDE share.
//!
//! ```text
//! call 2i       at σ_i,                       leads to the middle
//! call 2i + 1   at σ' = √(σ_i·target),        leads from where the step began to its end
//! last call     at the last σ,                leads to 0: one call only
//! ```
//!
//! The middle is one in ln σ. `target` is σ_{i+1}, or for the ancestral samplers the lower level
//! from which fresh noise leads back up to it. A sampler of this kind is a `Midpoint`: it says how
//! a step is taken, and all else follows here.

use crate::samplers::noise_schedule::{Betas, NoiseSchedule, Prediction};
use crate::samplers::sigmas::{self, SigmaSchedule};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{NoiseLevel, Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// A sampler on a [`MidpointGrid`].
pub(crate) trait Midpoint: Send {
    fn grid(&self) -> &MidpointGrid;

    /// [`Sampler::step`].
    fn advance(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator);
}

/// Noise levels with a second evaluation in the middle of each step but the last.
#[derive(Debug, Clone)]
pub(crate) struct MidpointGrid {
    pub(crate) prediction: Prediction,
    /// The timestep of each call.
    pub(crate) timesteps: Vec<f32>,
    /// The noise level before each step, and 0 after the last.
    pub(crate) sigmas: Vec<f32>,
    /// The noise level in the middle of each step; 0 for the last.
    pub(crate) middles: Vec<f32>,
    pub(crate) init_noise_sigma: f32,
}

impl MidpointGrid {
    /// `target(σ_i, σ_{i+1})` is the noise level to which the deterministic part of step i goes;
    /// `sampler` is for messages.
    ///
    /// # Errors
    /// `Request` if that number of steps is not possible, `Model` if the model predicts samples,
    /// which no class of these supports.
    pub(crate) fn new(
        config: &SchedulerConfig,
        schedule: Schedule,
        steps: usize,
        sampler: &str,
        target: impl Fn(f32, f32) -> f32,
    ) -> Result<Self> {
        let noise_schedule = NoiseSchedule::read_with(config, Betas::LATENT_LINEAR)?;
        noise_schedule.refuse_sample_prediction(sampler)?;
        noise_schedule.check_steps(steps)?;
        let trained = noise_schedule.sigmas();
        let timestep_spacing = TimestepSpacing::read(config, &noise_schedule, Spacing::Linspace)?;
        let SigmaSchedule { timesteps, mut sigmas, init_noise_sigma } =
            sigmas::euler_schedule(config, timestep_spacing, schedule, steps, &trained)?;
        sigmas.push(0.0);
        let middle = |pair: &[f32]| {
            let (from, to) = (pair[0].ln(), target(pair[0], pair[1]).ln());
            if to.is_finite() { (from - (from - to) * 0.5).exp() } else { 0.0 }
        };
        let middles: Vec<f32> = sigmas.windows(2).map(middle).collect();
        // The call in the middle of a step lies between the step's own and the next.
        let between = middles.iter().map(|&sigma| sigmas::timestep_at_f32(sigma, &trained));
        let mut calls = vec![timesteps[0]];
        calls.extend(between.zip(&timesteps[1..]).flat_map(|(middle, &next)| [middle, next]));
        Ok(Self {
            prediction: noise_schedule.prediction,
            timesteps: calls,
            sigmas,
            middles,
            init_noise_sigma,
        })
    }

    /// With the Karras schedule DPM2's steps, but not their middles, are at whole timesteps.
    pub(crate) fn whole_if_karras(mut self, schedule: Schedule) -> Self {
        if schedule == Schedule::Karras {
            self.timesteps.iter_mut().step_by(2).for_each(|t| *t = t.round_ties_even());
        }
        self
    }

    /// The noise level at which the UNet sees the sample of a call.
    pub(crate) fn input_sigma(&self, call: usize) -> f32 {
        if call.is_multiple_of(2) { self.sigmas[call / 2] } else { self.middles[call / 2] }
    }

    /// x_0 at every value of a sample.
    pub(crate) fn denoised(&self, model_output: &[f32], sample: &[f32], call: usize) -> Vec<f32> {
        let sigma = self.input_sigma(call);
        let pairs = sample.iter().zip(model_output);
        pairs.map(|(&x, &output)| self.prediction.denoised(output, x, sigma)).collect()
    }

    /// dx/dσ at every value of a sample.
    pub(crate) fn slope(&self, model_output: &[f32], sample: &[f32], call: usize) -> Vec<f32> {
        let (sigma, x0) = (self.input_sigma(call), self.denoised(model_output, sample, call));
        sample.iter().zip(x0).map(|(x, x_0)| (x - x_0) / sigma).collect()
    }
}

impl<S: Midpoint> Sampler for S {
    fn timesteps(&self) -> &[f32] {
        &self.grid().timesteps
    }

    fn calls_per_step(&self) -> usize {
        2
    }

    fn init_noise_sigma(&self) -> f32 {
        self.grid().init_noise_sigma
    }

    fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        let sigma = self.grid().input_sigma(call);
        let scale = (sigma * sigma + 1.0).sqrt();
        sample.iter_mut().for_each(|x| *x /= scale);
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        self.advance(model_output, call, sample, rng);
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        // In diffusers a run that begins between two calls of a step begins at its end.
        let sigma = self.grid().sigmas[call.div_ceil(2)];
        sample.iter_mut().zip(noise).for_each(|(x, noise)| *x += noise * sigma);
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel { signal: 1.0, noise: self.grid().input_sigma(call) }
    }
}
