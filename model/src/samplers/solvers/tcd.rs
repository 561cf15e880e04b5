//! TCD: a distilled model jumps to a cleaner timestep than wanted, and fresh noise leads back up.
//!
//! ```text
//! s = ⌊(1 − η)·t'⌋                            t' is the next timestep; η = 0 jumps straight to it
//! y = √ᾱ_s·x_0 + √(1 − ᾱ_s)·ε                 DDIM's step to s
//! x ← √(ᾱ_t'/ᾱ_s)·y + √(1 − ᾱ_t'/ᾱ_s)·noise   y itself after the last one
//! ```
//!
//! Only for models that were distilled for it: 1 to 8 steps. η (the paper's γ, the setting `eta`)
//! is 0.3 by default: a little more with many steps. diffusers' class has the same default, but its
//! pipeline passes 0 by default.
//!
//! Zheng et al. 2024 (arXiv:2402.19159), algorithm 2; diffusers' `TCDScheduler`. See
//! [`super::lcm`].

use serde_json::Value;

use crate::samplers::noise_schedule::{Betas, NoiseSchedule, Prediction};
use crate::samplers::timestep_spacing::distilled_timesteps;
use crate::samplers::{Sampler, SchedulerConfig};
use crate::{Generator, Result};

/// Trajectory consistency distillation.
#[derive(Debug, Clone)]
pub(crate) struct Tcd {
    noise_schedule: NoiseSchedule,
    eta: f32,
    timestep_spacing: Vec<usize>,
    timesteps: Vec<f32>,
}

impl Tcd {
    pub(crate) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut noise_schedule = NoiseSchedule::read_with(config, Betas::LATENT)?;
        if config.flag("rescale_betas_zero_snr", false)? {
            noise_schedule.rescale_to_zero_terminal_snr();
        }
        config.neutral("thresholding", &[Value::Bool(false)])?;
        let timestep_spacing = distilled_timesteps(config, &noise_schedule, steps)?;
        Ok(Self {
            noise_schedule,
            eta: config.eta(0.3)?,
            timesteps: timestep_spacing.iter().map(|&t| t as f32).collect(),
            timestep_spacing,
        })
    }
}

impl Sampler for Tcd {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let next = self.timestep_spacing.get(call + 1).copied();
        let below = ((1.0 - self.eta) * next.unwrap_or(0) as f32).floor() as usize;
        let alpha = self.noise_schedule.alphas_cumprod[self.timestep_spacing[call]];
        let alpha_below = self.noise_schedule.alphas_cumprod[below];
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let (signal_below, noise_below) = (alpha_below.sqrt(), (1.0 - alpha_below).sqrt());

        for (x, &output) in sample.iter_mut().zip(model_output) {
            let (x_0, epsilon) = match self.noise_schedule.prediction {
                Prediction::Epsilon => ((*x - noise * output) / signal, output),
                Prediction::Sample => (output, (*x - signal * output) / noise),
                Prediction::Velocity => (signal * *x - noise * output, signal * output + noise * *x),
            };
            *x = signal_below * x_0 + noise_below * epsilon;
        }
        if let Some(next) = next.filter(|_| self.eta > 0.0) {
            let kept = self.noise_schedule.alphas_cumprod[next] / alpha_below;
            let (scale, deviation) = (kept.sqrt(), (1.0 - kept).sqrt());
            let fresh = rng.randn(sample.len());
            sample.iter_mut().zip(&fresh).for_each(|(x, fresh)| *x = scale * *x + deviation * fresh);
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.noise_schedule.add_noise(sample, noise, self.timestep_spacing[call]);
    }
}
