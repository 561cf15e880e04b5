//! What the model was trained on: x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·noise for t in 0..1000.
//!
//! ```text
//! ᾱ_t = Π_{s ≤ t} (1 − β_s)     β grows slowly: clean at t = 0, hardly visible at t = 999
//! ```
//!
//! The numbers are the very f32 ones of torch on an x86-64 CPU: `linspace` works from both ends
//! with a fused multiply-add, and `cumprod` multiplies in f64 and rounds each result.
//!
//! Sources: Ho et al. 2020 (arXiv:2006.11239), section 2; for zero terminal SNR Lin et al. 2023
//! (arXiv:2305.08891), algorithm 1. Next: [`super::timestep_spacing`], which picks the timesteps
//! of an image.

use serde_json::Value;

use super::SchedulerConfig;
use crate::{Error, Result};

/// The noise that the model was trained with, and what it learned to say about it.
#[derive(Debug, Clone)]
pub(super) struct NoiseSchedule {
    /// ᾱ_t for each training timestep, falling.
    pub(super) alphas_cumprod: Vec<f32>,
    /// What the model's output means.
    pub(super) prediction: Prediction,
}

/// What the model's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prediction {
    /// The noise ε.
    Epsilon,
    /// The clean sample x_0.
    Sample,
    /// The velocity v = √ᾱ·ε − √(1 − ᾱ)·x_0 (Salimans and Ho 2022, arXiv:2202.00512).
    Velocity,
}

/// How β grows from `beta_start` to `beta_end`.
#[derive(Debug, Clone, Copy)]
pub(super) enum BetaSchedule {
    /// Evenly.
    Linear,
    /// Evenly in √β: latent diffusion.
    ScaledLinear,
    /// So that ᾱ follows a squared cosine (Nichol and Dhariwal 2021, arXiv:2102.09672), with β at
    /// most 0.999.
    SquaredCosine,
}

/// The betas that a class of diffusers assumes where the file is silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Betas {
    start: f64,
    end: f64,
    schedule: BetaSchedule,
}

impl Betas {
    /// Those of the first diffusion models: most classes.
    pub(super) const DDPM: Self = Self { start: 0.0001, end: 0.02, schedule: BetaSchedule::Linear };
    /// The ends of latent diffusion, but evenly between them: Heun, DPM2, DPM2 a, DPM++ SDE.
    pub(super) const LATENT_LINEAR: Self =
        Self { start: 0.00085, end: 0.012, schedule: BetaSchedule::Linear };
    /// Those of Stable Diffusion: LCM, TCD.
    pub(super) const LATENT: Self = Self { start: 0.00085, end: 0.012, schedule: BetaSchedule::ScaledLinear };
}

impl NoiseSchedule {
    /// Reads the keys that all classes share, with the defaults of most.
    pub(super) fn read(config: &SchedulerConfig) -> Result<Self> {
        Self::read_with(config, Betas::DDPM)
    }

    /// Reads what the model's output means.
    pub(super) fn read_prediction(config: &SchedulerConfig) -> Result<Prediction> {
        config.word(
            "prediction_type",
            Prediction::Epsilon,
            &[
                ("epsilon", Prediction::Epsilon),
                ("v_prediction", Prediction::Velocity),
                ("sample", Prediction::Sample),
            ],
        )
    }

    /// Reads the keys that all classes share.
    pub(super) fn read_with(config: &SchedulerConfig, default: Betas) -> Result<Self> {
        let n = config.num_train_timesteps()?;
        let start = config.number("beta_start", default.start, (0.0, 1.0))?;
        let end = config.number("beta_end", default.end, (0.0, 1.0))?;
        let schedule = config.word(
            "beta_schedule",
            default.schedule,
            &[
                ("linear", BetaSchedule::Linear),
                ("scaled_linear", BetaSchedule::ScaledLinear),
                ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
            ],
        )?;
        let betas = match (trained_betas(config, n)?, schedule) {
            (Some(betas), _) => betas,
            (None, BetaSchedule::Linear) => linspace(start as f32, end as f32, n),
            (None, BetaSchedule::ScaledLinear) => {
                let roots = linspace(start.sqrt() as f32, end.sqrt() as f32, n);
                roots.into_iter().map(|root| root * root).collect()
            }
            (None, BetaSchedule::SquaredCosine) => squared_cosine(n),
        };
        let prediction = Self::read_prediction(config)?;
        Ok(Self { alphas_cumprod: alphas_cumprod(&betas), prediction })
    }

    /// How many timesteps the model was trained on.
    pub(super) fn len(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// Refuses to make no steps, or more steps than the model has timesteps.
    pub(super) fn check_steps(&self, steps: usize) -> Result<()> {
        if (1..=self.len()).contains(&steps) {
            return Ok(());
        }
        let most = self.len();
        Err(Error::request(format!(
            "{steps} steps are not possible with this model; choose from 1 to {most}"
        )))
    }

    /// Refuses a model that predicts x_0, for the samplers whose class in diffusers cannot use one.
    pub(super) fn refuse_sample_prediction(&self, sampler: &str) -> Result<()> {
        if self.prediction != Prediction::Sample {
            return Ok(());
        }
        Err(Error::request(format!(
            "the sampler `{sampler}` cannot use a model that predicts the sample; choose another, as `DDIM`"
        )))
    }

    /// σ_t = √((1 − ᾱ_t)/ᾱ_t) for each training timestep, rising.
    pub(super) fn sigmas(&self) -> Vec<f32> {
        self.alphas_cumprod.iter().map(|alpha| ((1.0 - alpha) / alpha).sqrt()).collect()
    }

    /// x_t = √ᾱ_t·x_0 + √(1 − ᾱ_t)·noise, in place.
    pub(super) fn add_noise(&self, sample: &mut [f32], noise: &[f32], t: usize) {
        let alpha = self.alphas_cumprod[t];
        let (signal, sigma) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        sample.iter_mut().zip(noise).for_each(|(x, noise)| *x = signal * *x + sigma * noise);
    }

    /// Shifts and scales √ᾱ so that the last timestep is pure noise, ᾱ = 0, and the first keeps its
    /// value.
    pub(super) fn rescale_to_zero_terminal_snr(&mut self) {
        let mut roots: Vec<f32> = self.alphas_cumprod.iter().map(|alpha| alpha.sqrt()).collect();
        let (first, last) = (roots[0], roots[roots.len() - 1]);
        let scale = first / (first - last);
        roots.iter_mut().for_each(|root| *root = (*root - last) * scale);
        // Back to β and forth again, because diffusers takes that way round and each f32 operation
        // rounds.
        let squares: Vec<f32> = roots.iter().map(|root| root * root).collect();
        let alphas =
            (0..squares.len()).map(|t| if t == 0 { squares[0] } else { squares[t] / squares[t - 1] });
        let betas: Vec<f32> = alphas.map(|alpha| 1.0 - alpha).collect();
        self.alphas_cumprod = alphas_cumprod(&betas);
    }
}

/// `trained_betas`, if the file lists them.
fn trained_betas(config: &SchedulerConfig, n: usize) -> Result<Option<Vec<f32>>> {
    const KEY: &str = "trained_betas";
    let Some(value) = config.get(KEY) else { return Ok(None) };
    let between_0_and_1 = |beta: &f64| 0.0 < *beta && *beta < 1.0;
    let numbers = value.as_array().into_iter().flatten();
    let betas: Option<Vec<f32>> =
        numbers.map(|beta| Value::as_f64(beta).filter(between_0_and_1).map(|beta| beta as f32)).collect();
    match betas {
        Some(betas) if betas.len() == n => Ok(Some(betas)),
        _ => Err(config.error(format!("`{KEY}`: expected a list of {n} numbers between 0 and 1, or null"))),
    }
}

/// ᾱ from β.
fn alphas_cumprod(betas: &[f32]) -> Vec<f32> {
    let product = betas.iter().scan(1.0, |product, beta| {
        *product *= f64::from(1.0 - beta);
        Some(*product as f32)
    });
    product.collect()
}

/// `n` evenly spaced numbers from `start` to `end`, both included.
fn linspace(start: f32, end: f32, n: usize) -> Vec<f32> {
    let step = (end - start) / (n - 1) as f32;
    let at = |i| {
        if i < n / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((n - 1 - i) as f32, end) }
    };
    (0..n).map(at).collect()
}

/// β_t = 1 − f(t + 1)/f(t) with f(t) = cos²((t/n + 0.008)/1.008 · π/2).
fn squared_cosine(n: usize) -> Vec<f32> {
    let f = |t: usize| ((t as f64 / n as f64 + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2);
    (0..n).map(|t| (1.0 - f(t + 1) / f(t)).min(0.999) as f32).collect()
}
