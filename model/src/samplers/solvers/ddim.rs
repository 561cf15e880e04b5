//! DDIM: from x_t predict the clean picture, then go back to a little less noise along the same
//! direction.
//!
//! ```text
//! x_0     = (x_t − √(1 − ᾱ_t)·ε) / √ᾱ_t                      optionally clipped
//! x_{t−1} = √ᾱ_{t−1}·x_0 + √(1 − ᾱ_{t−1} − σ²)·ε + σ·noise   the same noise, less of it
//! σ²      = η²·(1 − ᾱ_{t−1})/(1 − ᾱ_t)·(1 − ᾱ_t/ᾱ_{t−1})     fresh noise: DDPM's at η = 1
//! ```
//!
//! Song et al. 2020 (arXiv:2010.02502), equations 12 and 16; diffusers' `DDIMScheduler`. η is the
//! setting `eta`, 0 by default. Next: [`super::euler`], the same step seen from x/√ᾱ.

use serde_json::Value;

use crate::samplers::noise_schedule::{NoiseSchedule, Prediction};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, SchedulerConfig};
use crate::{Generator, Result};

/// Denoising diffusion implicit models.
#[derive(Debug, Clone)]
pub(crate) struct Ddim {
    noise_schedule: NoiseSchedule,
    /// ᾱ after the last step.
    final_alpha_cumprod: f32,
    /// Bound of |x_0|, if it is clipped.
    clip_sample: Option<f32>,
    eta: f32,
    /// From one timestep to the next.
    stride: usize,
    timestep_spacing: Vec<usize>,
    timesteps: Vec<f32>,
}

impl Ddim {
    pub(crate) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut noise_schedule = NoiseSchedule::read(config)?;
        noise_schedule.check_steps(steps)?;
        if config.flag("rescale_betas_zero_snr", false)? {
            noise_schedule.rescale_to_zero_terminal_snr();
        }
        config.neutral("thresholding", &[Value::Bool(false)])?;
        let clip_range = config.number("clip_sample_range", 1.0, (0.0, f64::INFINITY))? as f32;
        let set_alpha_to_one = config.flag("set_alpha_to_one", true)?;
        let timestep_spacing =
            TimestepSpacing::read(config, &noise_schedule, Spacing::Leading)?.whole_timesteps(steps)?;
        Ok(Self {
            final_alpha_cumprod: if set_alpha_to_one { 1.0 } else { noise_schedule.alphas_cumprod[0] },
            clip_sample: config.flag("clip_sample", true)?.then_some(clip_range),
            eta: config.eta(0.0)?,
            stride: noise_schedule.len() / steps,
            timesteps: timestep_spacing.iter().map(|&t| t as f32).collect(),
            timestep_spacing,
            noise_schedule,
        })
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let t = self.timestep_spacing[call];
        let alpha = self.noise_schedule.alphas_cumprod[t];
        let alpha_next = match t.checked_sub(self.stride) {
            Some(next) => self.noise_schedule.alphas_cumprod[next],
            None => self.final_alpha_cumprod,
        };
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let variance = (1.0 - alpha_next) / (1.0 - alpha) * (1.0 - alpha / alpha_next);
        let deviation = self.eta * variance.sqrt();
        let (signal_next, noise_next) =
            (alpha_next.sqrt(), (1.0 - alpha_next - deviation * deviation).sqrt());

        for (x, &output) in sample.iter_mut().zip(model_output) {
            let (mut x_0, epsilon) = match self.noise_schedule.prediction {
                Prediction::Epsilon => ((*x - noise * output) / signal, output),
                Prediction::Sample => (output, (*x - signal * output) / noise),
                Prediction::Velocity => (signal * *x - noise * output, signal * output + noise * *x),
            };
            if let Some(bound) = self.clip_sample {
                x_0 = x_0.clamp(-bound, bound);
            }
            *x = signal_next * x_0 + noise_next * epsilon;
        }
        if self.eta > 0.0 {
            let fresh = rng.randn(sample.len());
            sample.iter_mut().zip(&fresh).for_each(|(x, fresh)| *x += deviation * fresh);
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.noise_schedule.add_noise(sample, noise, self.timestep_spacing[call]);
    }
}
