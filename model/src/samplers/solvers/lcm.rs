//! LCM: a distilled model says in one call where all steps would end; further calls noise its
//! answer and ask again.
//!
//! ```text
//! s       = 10·t                                      `timestep_scaling`
//! f(x, t) = 0.5²/(s² + 0.5²)·x + s/√(s² + 0.5²)·x_0   the prediction; exactly x at t = 0
//! x       ← √ᾱ_s·f + √(1 − ᾱ_s)·noise                 at the next timestep; f after the last
//! ```
//!
//! Only for models that were distilled for it (or with such a LoRA merged): 1 to 8 steps, little or
//! no guidance. The timesteps are among the 50 timesteps of the distillation.
//!
//! Luo et al. 2023 (arXiv:2310.04378), after Song et al. 2023 (arXiv:2303.01469); diffusers'
//! `LCMScheduler`.

use serde_json::Value;

use crate::samplers::noise_schedule::{Betas, NoiseSchedule, Prediction};
use crate::samplers::timestep_spacing::distilled_timesteps;
use crate::samplers::{Sampler, SchedulerConfig};
use crate::{Generator, Result};

/// The standard deviation of the data, as the paper takes it.
const SIGMA_DATA: f32 = 0.5;

/// Latent consistency model.
#[derive(Debug, Clone)]
pub(crate) struct Lcm {
    noise_schedule: NoiseSchedule,
    /// Bound of |x_0|, if it is clipped.
    clip_sample: Option<f32>,
    timestep_scaling: f32,
    timestep_spacing: Vec<usize>,
    timesteps: Vec<f32>,
}

impl Lcm {
    pub(crate) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut noise_schedule = NoiseSchedule::read_with(config, Betas::LATENT)?;
        if config.flag("rescale_betas_zero_snr", false)? {
            noise_schedule.rescale_to_zero_terminal_snr();
        }
        config.neutral("thresholding", &[Value::Bool(false)])?;
        let clip_range = config.number("clip_sample_range", 1.0, (0.0, f64::INFINITY))? as f32;
        let timestep_spacing = distilled_timesteps(config, &noise_schedule, steps)?;
        Ok(Self {
            noise_schedule,
            clip_sample: config.flag("clip_sample", false)?.then_some(clip_range),
            timestep_scaling: config.number("timestep_scaling", 10.0, (0.0, 1e6))? as f32,
            timesteps: timestep_spacing.iter().map(|&t| t as f32).collect(),
            timestep_spacing,
        })
    }
}

impl Sampler for Lcm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let alpha = self.noise_schedule.alphas_cumprod[self.timestep_spacing[call]];
        let (signal, noise) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let scaled = self.timesteps[call] * self.timestep_scaling;
        let squares = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (skip, out) = (SIGMA_DATA * SIGMA_DATA / squares, scaled / squares.sqrt());

        for (x, &output) in sample.iter_mut().zip(model_output) {
            let mut x_0 = match self.noise_schedule.prediction {
                Prediction::Epsilon => (*x - noise * output) / signal,
                Prediction::Sample => output,
                Prediction::Velocity => signal * *x - noise * output,
            };
            if let Some(bound) = self.clip_sample {
                x_0 = x_0.clamp(-bound, bound);
            }
            *x = out * x_0 + skip * *x;
        }
        if call + 1 < self.timestep_spacing.len() {
            let fresh = rng.randn(sample.len());
            self.add_noise(sample, &fresh, call + 1);
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.noise_schedule.add_noise(sample, noise, self.timestep_spacing[call]);
    }
}
