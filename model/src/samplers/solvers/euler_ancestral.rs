//! Euler ancestral: step below the next noise level, then climb back to it with fresh noise.
//!
//! ```text
//! σ_up²   = σ_{i+1}²·(σ_i² − σ_{i+1}²)/σ_i²          variance of the fresh noise
//! σ_down² = σ_{i+1}² − σ_up²                          how far the Euler step goes
//! x       ← x + (x − x_0)/σ_i·(σ_down − σ_i) + σ_up·noise
//! ```
//!
//! With σ_up so, each step is one of DDPM's (Ho et al. 2020, arXiv:2006.11239) in terms of σ; after
//! k-diffusion's `sample_euler_ancestral` and diffusers' `EulerAncestralDiscreteScheduler`. The
//! last step draws noise too, and multiplies it by 0: the generator must move on as diffusers'
//! does.

use crate::samplers::noise_schedule::Prediction;
use crate::samplers::sigmas::{self, SigmaSchedule};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// Euler's method with fresh noise at each step.
#[derive(Debug, Clone)]
pub(crate) struct EulerAncestral {
    prediction: Prediction,
    schedule: SigmaSchedule,
}

impl EulerAncestral {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let (noise_schedule, trained) = sigmas::read_noise_schedule(config)?;
        noise_schedule.check_steps(steps)?;
        let timestep_spacing = TimestepSpacing::read(config, &noise_schedule, Spacing::Linspace)?;
        let mut schedule = sigmas::euler_schedule(config, timestep_spacing, schedule, steps, &trained)?;
        schedule.sigmas.push(0.0);
        Ok(Self { prediction: noise_schedule.prediction, schedule })
    }
}

impl Sampler for EulerAncestral {
    fn timesteps(&self) -> &[f32] {
        &self.schedule.timesteps
    }

    fn init_noise_sigma(&self) -> f32 {
        self.schedule.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        self.schedule.scale_model_input(sample, call);
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let (sigma, sigma_next) = (self.schedule.sigmas[call], self.schedule.sigmas[call + 1]);
        let split = sigmas::ancestral(sigma, sigma_next);

        let fresh = rng.randn(sample.len());
        for ((x, &output), &noise) in sample.iter_mut().zip(model_output).zip(&fresh) {
            let x_0 = self.prediction.denoised(output, *x, sigma);
            let derivative = (*x - x_0) / sigma;
            *x = *x + derivative * (split.down - sigma) + noise * split.up;
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.schedule.add_noise(sample, noise, call);
    }
}
