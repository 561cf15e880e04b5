//! Noise levels: σ = √((1 − ᾱ)/ᾱ), the noise in x/√ᾱ.
//!
//! The samplers of the k-diffusion family leave x_t = √ᾱ·x_0 + √(1 − ᾱ)·ε for x_0 + σ·ε, whose only parameter is σ:
//! 14.6 at t = 999 of Stable Diffusion, 0.029 at t = 0. A schedule is a falling list of σ, one more than there are steps.
//!
//! ```text
//! Karras:  σ_i = (σ_max^(1/ρ) + i/(n − 1)·(σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ,  ρ = 7        small steps where σ is small
//! ```
//!
//! Sources: Karras et al. 2022 (arXiv:2206.00364), equation 5; diffusers' `EulerDiscreteScheduler`, of which
//! `euler_schedule` is `set_timesteps`. As there, σ is computed in f64 from f32 values and stored in f32.

use serde_json::Value;

use super::training::{Prediction, Training};
use super::visits::{Spacing, Visits, linspace};
use super::{Schedule, SchedulerConfig};
use crate::Result;

/// The walk of a sampler that speaks of σ.
#[derive(Debug, Clone)]
pub(super) struct SigmaSchedule {
    /// The timestep of each step, for the UNet.
    pub(super) timesteps: Vec<f32>,
    /// The noise level before each step, and after the last.
    pub(super) sigmas: Vec<f32>,
    /// The standard deviation of the first sample.
    pub(super) init_noise_sigma: f32,
}

/// Where the last step ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FinalSigma {
    /// At the clean picture.
    Zero,
    /// At the least noise that the model was trained with.
    Minimum,
}

impl FinalSigma {
    /// Reads `final_sigmas_type`.
    pub(super) fn read(config: &SchedulerConfig) -> Result<Self> {
        config.word("final_sigmas_type", Self::Zero, &[("zero", Self::Zero), ("sigma_min", Self::Minimum)])
    }

    /// The last σ of a schedule.
    pub(super) fn value(self, training_sigmas: &[f32]) -> f32 {
        if self == Self::Zero { 0.0 } else { training_sigmas[0] }
    }
}

/// Reads the training's noise in terms of σ: all of it, and σ for each timestep.
pub(super) fn read_training(config: &SchedulerConfig) -> Result<(Training, Vec<f32>)> {
    let mut training = Training::read(config)?;
    if config.flag("rescale_betas_zero_snr", false)? {
        training.rescale_to_zero_terminal_snr();
        if let Some(last) = training.alphas_cumprod.last_mut() {
            *last = 2f32.powi(-24); // small instead of 0, so that σ is finite
        }
    }
    let sigmas = training.alphas_cumprod.iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect();
    Ok((training, sigmas))
}

/// The schedule of Euler's method and its ancestral form.
pub(super) fn euler_schedule(
    visits: Visits,
    schedule: Schedule,
    steps: usize,
    trained: &[f32],
) -> SigmaSchedule {
    let mut timesteps: Vec<f32> = visits.timesteps(steps).into_iter().map(|t| t as f32).collect();
    let mut sigmas: Vec<f64> = timesteps.iter().map(|&t| sigma_at(t.into(), trained)).collect();
    if schedule == Schedule::Karras {
        sigmas = karras(sigmas[0], sigmas[steps - 1], steps);
        timesteps = sigmas.iter().map(|&sigma| timestep_at(sigma, trained) as f32).collect();
    }
    let sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
    let largest = sigmas.iter().copied().fold(0.0, f32::max);
    let init_noise_sigma = match visits.spacing {
        Spacing::Linspace | Spacing::Trailing => largest,
        // Leading starts below the noisiest timestep: the picture counts, with variance 1.
        Spacing::Leading => (largest * largest + 1.0).sqrt(),
    };
    SigmaSchedule { timesteps, sigmas, init_noise_sigma }
}

/// σ at a timestep, between whole ones by linear interpolation; beyond the ends, the value at the end.
pub(super) fn sigma_at(timestep: f64, trained: &[f32]) -> f64 {
    let last = trained.len() - 1;
    let below = (timestep.max(0.0) as usize).min(last);
    let low = f64::from(trained[below]);
    let high = f64::from(trained[(below + 1).min(last)]);
    low + (high - low) * (timestep - below as f64)
}

/// The timestep whose noise level is σ, by linear interpolation in ln σ; within 0..=999.
pub(super) fn timestep_at(sigma: f64, trained: &[f32]) -> f64 {
    let log = |t: usize| trained[t].ln();
    let target = sigma.max(1e-10).ln();
    let not_above = trained.iter().rposition(|s| f64::from(s.ln()) <= target).unwrap_or(0);
    let below = not_above.min(trained.len() - 2);
    let (low, high) = (log(below), log(below + 1));
    let weight = ((f64::from(low) - target) / f64::from(low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * below as f64 + weight * (below + 1) as f64
}

/// `steps` noise levels that are even in σ^(1/7).
pub(super) fn karras(sigma_max: f64, sigma_min: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (from, to) = (sigma_max.powf(1.0 / RHO), sigma_min.powf(1.0 / RHO));
    linspace(0.0, 1.0, steps).into_iter().map(|ramp| (from + ramp * (to - from)).powf(RHO)).collect()
}

impl SigmaSchedule {
    /// x/√(σ² + 1): the sample with variance 1 again, as the UNet knows it.
    pub(super) fn scale_model_input(&self, sample: &mut [f32], call: usize) {
        let sigma = self.sigmas[call];
        let scale = (sigma * sigma + 1.0).sqrt();
        sample.iter_mut().for_each(|x| *x /= scale);
    }

    /// x_0 + σ·noise.
    pub(super) fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        let sigma = self.sigmas[call];
        sample.iter_mut().zip(noise).for_each(|(x, noise)| *x += noise * sigma);
    }
}

impl Prediction {
    /// x_0, from a sample x = x_0 + σ·ε and what the model says about x/√(σ² + 1).
    pub(super) fn denoised(self, output: f32, x: f32, sigma: f32) -> f32 {
        match self {
            Self::Epsilon => x - sigma * output,
            Self::Sample => output,
            Self::Velocity => {
                let variance = sigma * sigma + 1.0;
                output * (-sigma / variance.sqrt()) + x / variance
            }
        }
    }
}

/// Refuses the ways to spread σ that are not supported.
pub(super) fn refuse_other_schedules(config: &SchedulerConfig) -> Result<()> {
    config.neutral("use_exponential_sigmas", &[Value::Bool(false)])?;
    config.neutral("use_beta_sigmas", &[Value::Bool(false)])
}
