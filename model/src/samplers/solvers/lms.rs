//! LMS: one cubic through the last four slopes, integrated over the step.
//!
//! ```text
//! d_i = (x − x_0) / σ_i                     dx/dσ
//! c_j = ∫ L_j(τ) dτ  from σ_i to σ_{i+1}    L_j(σ_{i−j}) = 1, 0 at the other three
//! x   ← x + Σ_j c_j·d_{i−j}
//! ```
//!
//! Adams–Bashforth for uneven steps: [`super::euler`] with a memory, at one call a step. The first
//! steps have fewer slopes and take a polynomial of lower degree.
//!
//! After k-diffusion's `sample_lms` and diffusers' `LMSDiscreteScheduler`. One habit of the latter
//! is kept so that pictures agree: a run that begins in the middle (a picture to start from) takes
//! at once the coefficients of four slopes, though it has fewer.

use std::collections::VecDeque;

use crate::samplers::noise_schedule::{NoiseSchedule, Prediction};
use crate::samplers::sigmas::{self, SigmaSchedule};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

const ORDER: usize = 4;

/// Linear multistep.
#[derive(Debug, Clone)]
pub(crate) struct Lms {
    prediction: Prediction,
    schedule: SigmaSchedule,
    /// The last slopes, the newest first.
    slopes: VecDeque<Vec<f32>>,
}

impl Lms {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let noise_schedule = NoiseSchedule::read(config)?;
        noise_schedule.check_steps(steps)?;
        let timestep_spacing = TimestepSpacing::read(config, &noise_schedule, Spacing::Linspace)?;
        let mut schedule =
            sigmas::euler_schedule(config, timestep_spacing, schedule, steps, &noise_schedule.sigmas())?;
        schedule.sigmas.push(0.0);
        Ok(Self { prediction: noise_schedule.prediction, schedule, slopes: VecDeque::new() })
    }

    /// c_j for the step of `call`, from `order` slopes.
    fn coefficient(&self, call: usize, order: usize, j: usize) -> f64 {
        let sigma = |i: usize| f64::from(self.schedule.sigmas[i]);
        let node = sigma(call - j);
        let lagrange = |tau: f64| -> f64 {
            let others = (0..order).filter(|&k| k != j).map(|k| sigma(call - k));
            others.map(|other| (tau - other) / (node - other)).product()
        };
        // Gauss's two points integrate every cubic exactly.
        let (from, to) = (sigma(call), sigma(call + 1));
        let (middle, half) = (f64::midpoint(from, to), (to - from) / 2.0);
        let offset = half / 3f64.sqrt();
        half * (lagrange(middle - offset) + lagrange(middle + offset))
    }
}

impl Sampler for Lms {
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
        let sigma = self.schedule.sigmas[call];
        let pairs = sample.iter().zip(model_output);
        let slope = pairs.map(|(&x, &output)| (x - self.prediction.denoised(output, x, sigma)) / sigma);
        self.slopes.push_front(slope.collect());
        self.slopes.truncate(ORDER);

        let order = ORDER.min(call + 1);
        let mut change = vec![0.0; sample.len()];
        for (j, slope) in self.slopes.iter().enumerate() {
            let coefficient = self.coefficient(call, order, j) as f32;
            change.iter_mut().zip(slope).for_each(|(sum, slope)| *sum += coefficient * slope);
        }
        sample.iter_mut().zip(&change).for_each(|(x, change)| *x += change);
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.schedule.add_noise(sample, noise, call);
    }
}
