//! Noise levels: σ = √((1 − ᾱ)/ᾱ), the noise in x/√ᾱ.
//!
//! The samplers of the k-diffusion family leave x_t = √ᾱ·x_0 + √(1 − ᾱ)·ε for x_0 + σ·ε, whose only
//! parameter is σ: 14.6 at t = 999 of Stable Diffusion, 0.029 at t = 0. A run is a falling list of
//! σ, one more than there are steps; [`super::schedules`] has the ways to spread them.
//!
//! Sources: Karras et al. 2022 (arXiv:2206.00364); diffusers' `EulerDiscreteScheduler`, of which
//! `euler_schedule` is `set_timesteps`. As there, σ is computed in f64 from f32 values and stored
//! in f32.

use super::noise_schedule::{NoiseSchedule, Prediction};
use super::schedules::Ends;
use super::timestep_spacing::{Spacing, TimestepSpacing};
use super::{Schedule, SchedulerConfig};
use crate::Result;

/// Timesteps and noise levels of a sampler in σ.
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

    /// The last σ of a run, whose lowest but 0 is `lowest`.
    pub(super) fn value(self, lowest: f32) -> f32 {
        if self == Self::Zero { 0.0 } else { lowest }
    }
}

/// Reads the training's noise in terms of σ: all of it, and σ for each timestep.
pub(super) fn read_noise_schedule(config: &SchedulerConfig) -> Result<(NoiseSchedule, Vec<f32>)> {
    let mut noise_schedule = NoiseSchedule::read(config)?;
    if config.flag("rescale_betas_zero_snr", false)? {
        noise_schedule.rescale_to_zero_terminal_snr();
        if let Some(last) = noise_schedule.alphas_cumprod.last_mut() {
            *last = 2f32.powi(-24); // small instead of 0, so that σ is finite
        }
    }
    let sigmas = noise_schedule.sigmas();
    Ok((noise_schedule, sigmas))
}

/// The timesteps of Euler's method and its relatives: where the spacing or the schedule puts the
/// steps, from the highest noise level of the spacing to the lowest.
///
/// # Errors
/// `Request` if the noise levels are given and do not fit.
pub(super) fn euler_schedule(
    config: &SchedulerConfig,
    timestep_spacing: TimestepSpacing,
    schedule: Schedule,
    steps: usize,
    trained: &[f32],
) -> Result<SigmaSchedule> {
    let visited =
        schedule.timesteps(steps, trained.len()).unwrap_or_else(|| timestep_spacing.timesteps(steps));
    let mut timesteps: Vec<f32> = visited.into_iter().map(|t| t as f32).collect();
    let mut sigmas: Vec<f64> = timesteps.iter().map(|&t| sigma_at(t.into(), trained)).collect();
    let ends = Ends { max: sigmas[0], min: sigmas[steps - 1] };
    if let Some(spread) = schedule.sigmas(config, ends, steps)? {
        sigmas = spread;
        timesteps = sigmas.iter().map(|&sigma| timestep_at(sigma, trained) as f32).collect();
    }
    let sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
    let largest = sigmas.iter().copied().fold(0.0, f32::max);
    let init_noise_sigma = match timestep_spacing.spacing {
        Spacing::Linspace | Spacing::Trailing => largest,
        // Leading starts below the noisiest timestep: the picture counts, with variance 1.
        Spacing::Leading => (largest * largest + 1.0).sqrt(),
    };
    Ok(SigmaSchedule { timesteps, sigmas, init_noise_sigma })
}

/// σ at a timestep, between whole ones by linear interpolation; beyond the ends, the value at the
/// end.
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

/// The same in f32, as diffusers computes the timestep in the middle of a step of DPM2.
pub(super) fn timestep_at_f32(sigma: f32, trained: &[f32]) -> f32 {
    let target = sigma.max(1e-10).ln();
    let not_above = trained.iter().rposition(|s| s.ln() <= target).unwrap_or(0);
    let below = not_above.min(trained.len() - 2);
    let (low, high) = (trained[below].ln(), trained[below + 1].ln());
    let weight = ((low - target) / (low - high)).clamp(0.0, 1.0);
    (1.0 - weight) * below as f32 + weight * (below + 1) as f32
}

/// A step of the ancestral samplers: where its deterministic part ends, and how much fresh noise
/// leads back up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ancestral {
    pub(super) down: f32,
    pub(super) up: f32,
}

/// σ_up² = σ_{i+1}²·(σ_i² − σ_{i+1}²)/σ_i², σ_down² = σ_{i+1}² − σ_up².
pub(super) fn ancestral(sigma: f32, sigma_next: f32) -> Ancestral {
    let (variance, variance_next) = (sigma * sigma, sigma_next * sigma_next);
    // Noise levels that do not fall, as of more steps than timesteps, would give a root of less
    // than 0.
    let up = (variance_next * (variance - variance_next) / variance).max(0.0).sqrt();
    Ancestral { down: (variance_next - up * up).max(0.0).sqrt(), up }
}

impl SigmaSchedule {
    /// Lists every step but the last twice: for the samplers that look again where the step ends,
    /// at the next noise level. Adds the end, σ = 0.
    pub(super) fn with_two_calls_a_step(self) -> Self {
        let twice = |values: &[f32]| -> Vec<f32> {
            let rest = values[1..].iter().flat_map(|&value| [value, value]);
            values[..1].iter().copied().chain(rest).collect()
        };
        let mut sigmas = twice(&self.sigmas);
        sigmas.push(0.0);
        Self { timesteps: twice(&self.timesteps), sigmas, ..self }
    }

    /// x/√(σ² + 1): the sample with variance 1 again, as the UNet was trained on it.
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
