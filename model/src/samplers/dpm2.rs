//! DPM2: try half a step, and take the whole one along the slope found there.
//!
//! ```text
//! σ'  = √(σ_i·σ_{i+1})                                        the middle, in ln σ
//! x'  = x + (x − x_0(x, σ_i))/σ_i·(σ' − σ_i)                  first call
//! x   ← x + (x' − x_0(x', σ'))/σ'·(σ_{i+1} − σ_i)             second call
//! ```
//!
//! The midpoint method, two calls of the UNet a step; the last step, to σ = 0, is Euler's. Calls 2i and 2i + 1 belong to
//! step i.
//!
//! Inspired by DPM-Solver-2 (Lu et al. 2022, arXiv:2206.00927) and algorithm 2 of Karras et al. 2022 (arXiv:2206.00364);
//! k-diffusion's `sample_dpm_2`, diffusers' `KDPM2DiscreteScheduler`. Next: [`super::dpm2_ancestral`].

use super::sigmas::{self, SigmaSchedule};
use super::training::{Betas, Prediction, Training};
use super::visits::{Spacing, Visits};
use super::{NoiseLevel, Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// The midpoint method in σ.
#[derive(Debug, Clone)]
pub(super) struct Dpm2 {
    prediction: Prediction,
    walk: MidpointWalk,
    /// Where the step began.
    start: Vec<f32>,
}

/// A walk with a second call in the middle of each step but the last.
#[derive(Debug, Clone)]
pub(super) struct MidpointWalk {
    /// The timestep of each call.
    pub(super) timesteps: Vec<f32>,
    /// The noise level before each step, and 0 after the last.
    pub(super) sigmas: Vec<f32>,
    /// The noise level in the middle of each step; 0 for the last.
    pub(super) middles: Vec<f32>,
    pub(super) init_noise_sigma: f32,
}

impl Dpm2 {
    pub(super) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let training = Training::read_with(config, Betas::LATENT_LINEAR)?;
        training.refuse_sample_prediction("DPM2")?;
        let walk = MidpointWalk::new(config, &training, schedule, steps, |_, sigma_next| sigma_next)?;
        let walk = walk.whole_if_karras(schedule);
        Ok(Self { prediction: training.prediction, walk, start: Vec::new() })
    }
}

impl MidpointWalk {
    /// `target(σ_i, σ_{i+1})` is the noise level to which the deterministic part of step i goes.
    pub(super) fn new(
        config: &SchedulerConfig,
        training: &Training,
        schedule: Schedule,
        steps: usize,
        target: impl Fn(f32, f32) -> f32,
    ) -> Result<Self> {
        training.check_steps(steps)?;
        let trained = training.sigmas();
        let visits = Visits::read(config, training, Spacing::Linspace)?;
        let SigmaSchedule { timesteps, mut sigmas, init_noise_sigma } =
            sigmas::euler_schedule(config, visits, schedule, steps, &trained)?;
        sigmas.push(0.0);
        let middle = |pair: &[f32]| {
            let (from, to) = (pair[0].ln(), target(pair[0], pair[1]).ln());
            if to.is_finite() { (from - (from - to) * 0.5).exp() } else { 0.0 }
        };
        let middles: Vec<f32> = sigmas.windows(2).map(middle).collect();
        // The call in the middle of a step stands between the step's own and the next.
        let between = middles.iter().map(|&sigma| sigmas::timestep_at_f32(sigma, &trained));
        let mut calls = vec![timesteps[0]];
        calls.extend(between.zip(&timesteps[1..]).flat_map(|(middle, &next)| [middle, next]));
        Ok(Self { timesteps: calls, sigmas, middles, init_noise_sigma })
    }

    /// With the Karras schedule DPM2's steps, but not their middles, are at whole timesteps.
    pub(super) fn whole_if_karras(mut self, schedule: Schedule) -> Self {
        if schedule == Schedule::Karras {
            self.timesteps.iter_mut().step_by(2).for_each(|t| *t = t.round_ties_even());
        }
        self
    }

    /// The noise level at which the UNet sees the sample of a call.
    pub(super) fn seen(&self, call: usize) -> f32 {
        if call.is_multiple_of(2) { self.sigmas[call / 2] } else { self.middles[call / 2] }
    }

    /// The same for [`Sampler::noise_level`].
    pub(super) fn noise_level(&self, call: usize) -> NoiseLevel {
        NoiseLevel { signal: 1.0, noise: self.seen(call) }
    }

    /// dx/dσ at every value of a sample.
    pub(super) fn slope(
        &self,
        prediction: Prediction,
        model_output: &[f32],
        sample: &[f32],
        call: usize,
    ) -> Vec<f32> {
        let sigma = self.seen(call);
        let pairs = sample.iter().zip(model_output);
        pairs.map(|(&x, &output)| (x - prediction.denoised(output, x, sigma)) / sigma).collect()
    }

    pub(super) fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        let sigma = self.seen(call);
        let scale = (sigma * sigma + 1.0).sqrt();
        sample.iter_mut().for_each(|x| *x /= scale);
    }

    pub(super) fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        // In diffusers a walk that begins between two calls of a step begins at its end.
        let sigma = self.sigmas[call.div_ceil(2)];
        sample.iter_mut().zip(noise).for_each(|(x, noise)| *x += noise * sigma);
    }
}

impl Sampler for Dpm2 {
    fn timesteps(&self) -> &[f32] {
        &self.walk.timesteps
    }

    fn calls_per_step(&self) -> usize {
        2
    }

    fn init_noise_sigma(&self) -> f32 {
        self.walk.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        self.walk.scale_model_input(sample, call);
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let slope = self.walk.slope(self.prediction, model_output, sample, call);
        let (sigma, middle) = (self.walk.sigmas[call / 2], self.walk.middles[call / 2]);
        if call.is_multiple_of(2) {
            self.start = sample.to_vec();
            sample.iter_mut().zip(&slope).for_each(|(x, slope)| *x += slope * (middle - sigma));
        } else {
            let sigma_next = self.walk.sigmas[call / 2 + 1];
            for ((x, start), slope) in sample.iter_mut().zip(&self.start).zip(&slope) {
                *x = start + slope * (sigma_next - sigma);
            }
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.walk.add_noise(sample, noise, call);
    }

    fn noise_level(&self, call: usize) -> NoiseLevel {
        self.walk.noise_level(call)
    }
}
