//! DDPM: the posterior of the diffusion itself, a mean and fresh noise. The first sampler of
//! diffusion models.
//!
//! ```text
//! α = ᾱ_t/ᾱ_s,  β = 1 − α                                     s is the next timestep
//! x ← √ᾱ_s·β/(1 − ᾱ_t)·x_0 + √α·(1 − ᾱ_s)/(1 − ᾱ_t)·x + √v·noise
//! v = β·(1 − ᾱ_s)/(1 − ᾱ_t)                                   fixed_small; fixed_large: v = β
//! ```
//!
//! It wants hundreds of steps. At t = 0 no noise is drawn.
//!
//! Ho et al. 2020 (arXiv:2006.11239), equations 6 and 7, algorithm 2; diffusers' `DDPMScheduler`.
//! Next: [`super::ddim`], the same without noise.

use serde_json::Value;

use crate::samplers::noise_schedule::{NoiseSchedule, Prediction};
use crate::samplers::timestep_spacing::{Spacing, TimestepSpacing};
use crate::samplers::{Sampler, SchedulerConfig};
use crate::{Generator, Result};

/// Denoising diffusion probabilistic models.
#[derive(Debug, Clone)]
pub(crate) struct Ddpm {
    noise_schedule: NoiseSchedule,
    /// Bound of |x_0|, if it is clipped.
    clip_sample: Option<f32>,
    /// Whether v is β.
    large_variance: bool,
    timestep_spacing: Vec<usize>,
    timesteps: Vec<f32>,
}

impl Ddpm {
    pub(crate) fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        let mut noise_schedule = NoiseSchedule::read(config)?;
        noise_schedule.check_steps(steps)?;
        if config.flag("rescale_betas_zero_snr", false)? {
            noise_schedule.rescale_to_zero_terminal_snr();
        }
        config.neutral("thresholding", &[Value::Bool(false)])?;
        let clip_range = config.number("clip_sample_range", 1.0, (0.0, f64::INFINITY))? as f32;
        let variances = [("fixed_small", false), ("fixed_small_log", false), ("fixed_large", true)];
        let timestep_spacing =
            TimestepSpacing::read(config, &noise_schedule, Spacing::Leading)?.whole_timesteps(steps)?;
        Ok(Self {
            noise_schedule,
            clip_sample: config.flag("clip_sample", true)?.then_some(clip_range),
            large_variance: config.word("variance_type", false, &variances)?,
            timesteps: timestep_spacing.iter().map(|&t| t as f32).collect(),
            timestep_spacing,
        })
    }
}

impl Sampler for Ddpm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let t = self.timestep_spacing[call];
        let alpha_cumprod = self.noise_schedule.alphas_cumprod[t];
        let alpha_cumprod_next =
            self.timestep_spacing.get(call + 1).map_or(1.0, |&s| self.noise_schedule.alphas_cumprod[s]);
        let (beta_cumprod, beta_cumprod_next) = (1.0 - alpha_cumprod, 1.0 - alpha_cumprod_next);
        let alpha = alpha_cumprod / alpha_cumprod_next;
        let beta = 1.0 - alpha;
        let (signal, noise) = (alpha_cumprod.sqrt(), beta_cumprod.sqrt());
        let towards_x0 = alpha_cumprod_next.sqrt() * beta / beta_cumprod;
        let stay = alpha.sqrt() * beta_cumprod_next / beta_cumprod;
        let small = (beta_cumprod_next / beta_cumprod * beta).max(1e-20);
        let deviation = if self.large_variance { beta } else { small }.sqrt();

        let fresh = if t > 0 { rng.randn(sample.len()) } else { vec![0.0; sample.len()] };
        for ((x, &output), fresh) in sample.iter_mut().zip(model_output).zip(fresh) {
            let mut x_0 = match self.noise_schedule.prediction {
                Prediction::Epsilon => (*x - noise * output) / signal,
                Prediction::Sample => output,
                Prediction::Velocity => signal * *x - noise * output,
            };
            if let Some(bound) = self.clip_sample {
                x_0 = x_0.clamp(-bound, bound);
            }
            *x = towards_x0 * x_0 + stay * *x + deviation * fresh;
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.noise_schedule.add_noise(sample, noise, self.timestep_spacing[call]);
    }
}
