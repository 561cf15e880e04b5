//! Euler's method: follow the slope of the probability-flow ODE in a straight line to the next
//! noise level.
//!
//! ```text
//! x_0     = denoised(x, σ_i)
//! d       = (x − x_0) / σ_i                 dx/dσ
//! x       ← x + d·(σ_{i+1} − σ_i)
//! ```
//!
//! Karras et al. 2022 (arXiv:2206.00364), algorithm 1 without the second-order correction;
//! diffusers' `EulerDiscreteScheduler` with s_churn = 0. Next: [`super::euler_ancestral`].

use serde_json::Value;

use crate::samplers::noise_schedule::Prediction;
use crate::samplers::sigmas::{self, FinalSigma, SigmaSchedule};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// Euler's method.
#[derive(Debug, Clone)]
pub(crate) struct Euler {
    prediction: Prediction,
    schedule: SigmaSchedule,
}

impl Euler {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let (noise_schedule, trained) = sigmas::read_noise_schedule(config)?;
        noise_schedule.check_steps(steps)?;
        config.neutral("interpolation_type", &[Value::from("linear")])?;
        config.neutral("timestep_type", &[Value::from("discrete")])?;
        config.neutral("sigma_min", &[])?;
        config.neutral("sigma_max", &[])?;
        let timestep_spacing = TimestepSpacing::read(config, &noise_schedule, Spacing::Linspace)?;
        let mut schedule = sigmas::euler_schedule(config, timestep_spacing, schedule, steps, &trained)?;
        schedule.sigmas.push(FinalSigma::read(config)?.value(trained[0]));
        Ok(Self { prediction: noise_schedule.prediction, schedule })
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f32] {
        &self.schedule.timesteps
    }

    fn init_noise_sigma(&self) -> f32 {
        self.schedule.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        self.schedule.scale_model_input(sample, call);
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let (sigma, sigma_next) = (self.schedule.sigmas[call], self.schedule.sigmas[call + 1]);
        for (x, &output) in sample.iter_mut().zip(model_output) {
            let x_0 = self.prediction.denoised(output, *x, sigma);
            let derivative = (*x - x_0) / sigma;
            *x += derivative * (sigma_next - sigma);
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.schedule.add_noise(sample, noise, call);
    }
}
