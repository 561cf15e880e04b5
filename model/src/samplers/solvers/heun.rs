//! Heun's method: try Euler's step, look at the slope where it ends, and go again with the mean of
//! both slopes.
//!
//! ```text
//! d   = (x − x_0(x, σ_i)) / σ_i
//! x'  = x + d·(σ_{i+1} − σ_i)                                 first call
//! d'  = (x' − x_0(x', σ_{i+1})) / σ_{i+1}
//! x   ← x + (d + d')/2·(σ_{i+1} − σ_i)                        second call
//! ```
//!
//! Two calls of the UNet a step; the last step, to σ = 0, is Euler's alone. Calls 2i and 2i + 1
//! belong to step i.
//!
//! Karras et al. 2022 (arXiv:2206.00364), algorithm 1 without churn; diffusers'
//! `HeunDiscreteScheduler`. Next: [`super::dpm2`], which looks in the middle of the step instead.

use crate::samplers::noise_schedule::{Betas, NoiseSchedule, Prediction};
use crate::samplers::sigmas::{self, SigmaSchedule};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// Heun's method.
#[derive(Debug, Clone)]
pub(crate) struct Heun {
    prediction: Prediction,
    /// Bound of |x_0|, if it is clipped.
    clip_sample: Option<f32>,
    /// An entry for each call.
    schedule: SigmaSchedule,
    /// Where the step began, and the slope there.
    start: Vec<f32>,
    slope: Vec<f32>,
}

impl Heun {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let noise_schedule = NoiseSchedule::read_with(config, Betas::LATENT_LINEAR)?;
        noise_schedule.check_steps(steps)?;
        let timestep_spacing = TimestepSpacing::read(config, &noise_schedule, Spacing::Linspace)?;
        let grid =
            sigmas::euler_schedule(config, timestep_spacing, schedule, steps, &noise_schedule.sigmas())?;
        let clip_range = config.number("clip_sample_range", 1.0, (0.0, f64::INFINITY))? as f32;
        Ok(Self {
            prediction: noise_schedule.prediction,
            clip_sample: config.flag("clip_sample", false)?.then_some(clip_range),
            schedule: grid.with_two_calls_a_step(),
            start: Vec::new(),
            slope: Vec::new(),
        })
    }

    /// dx/dσ at every value of a sample.
    fn slope(&self, model_output: &[f32], sample: &[f32], sigma: f32) -> Vec<f32> {
        let slope = |(&x, &output): (&f32, &f32)| {
            let mut x_0 = self.prediction.denoised(output, x, sigma);
            if let Some(bound) = self.clip_sample {
                x_0 = x_0.clamp(-bound, bound);
            }
            (x - x_0) / sigma
        };
        sample.iter().zip(model_output).map(slope).collect()
    }
}

impl Sampler for Heun {
    fn timesteps(&self) -> &[f32] {
        &self.schedule.timesteps
    }

    fn calls_per_step(&self) -> usize {
        2
    }

    fn init_noise_sigma(&self) -> f32 {
        self.schedule.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        self.schedule.scale_model_input(sample, call);
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let sigmas = &self.schedule.sigmas;
        if call.is_multiple_of(2) {
            let (sigma, sigma_next) = (sigmas[call], sigmas[call + 1]);
            self.slope = self.slope(model_output, sample, sigma);
            self.start = sample.to_vec();
            sample.iter_mut().zip(&self.slope).for_each(|(x, slope)| *x += slope * (sigma_next - sigma));
        } else {
            let (sigma, sigma_next) = (sigmas[call - 1], sigmas[call]);
            let at_end = self.slope(model_output, sample, sigma_next);
            for (i, x) in sample.iter_mut().enumerate() {
                let mean = (self.slope[i] + at_end[i]) / 2.0;
                *x = self.start[i] + mean * (sigma_next - sigma);
            }
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.schedule.add_noise(sample, noise, call);
    }
}
