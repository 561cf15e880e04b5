//! DPM++ 2M: in λ = ln(α/σ) most of the ODE is solved exactly; what is left is a polynomial through the last two guesses.
//!
//! ```text
//! h   = λ_{i+1} − λ_i,  r = (λ_i − λ_{i−1})/h
//! D   = x_0(i) + (x_0(i) − x_0(i−1)) / 2r                     the guess, carried on to the middle of the step
//! x   ← σ_{i+1}/σ_i·x − α_{i+1}·(e^{−h} − 1)·D
//! ```
//!
//! Here x = α·x_0 + σ·ε with α² + σ² = 1, as in [`super::ddim`]; a noise level s = σ/α of [`super::sigmas`] gives
//! α = 1/√(s² + 1). The first step has one guess only and takes D = x_0, which is a step of DDIM; so does the last step if
//! it ends at σ = 0, where λ is infinite.
//!
//! Lu et al. 2022, "DPM-Solver++" (arXiv:2211.01095), algorithm 2; diffusers' `DPMSolverMultistepScheduler` with
//! `algorithm_type` dpmsolver++ and `solver_type` midpoint.

use serde_json::Value;

use super::schedules::Ends;
use super::sigmas::{self, FinalSigma};
use super::training::{Prediction, Training};
use super::visits::{Spacing, Visits};
use super::{Sampler, Schedule, SchedulerConfig};
use crate::{Error, Generator, Result};

/// DPM-Solver++, second order, multistep.
#[derive(Debug, Clone)]
pub(super) struct DpmPp2M {
    prediction: Prediction,
    timesteps: Vec<f32>,
    /// The noise level before each step, and after the last.
    levels: Vec<Level>,
    first_order_only: bool,
    first_order_at_end: bool,
    /// The guess of the step before.
    previous: Option<Vec<f32>>,
}

/// A noise level in the terms of the paper.
#[derive(Debug, Clone, Copy)]
struct Level {
    alpha: f32,
    sigma: f32,
    lambda: f32,
}

impl Level {
    /// From s = σ/α.
    fn new(ratio: f32) -> Self {
        let alpha = 1.0 / (ratio * ratio + 1.0).sqrt();
        let sigma = ratio * alpha;
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }
}

impl DpmPp2M {
    pub(super) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let (training, trained) = sigmas::read_training(config)?;
        training.check_steps(steps)?;
        refuse_what_is_not_supported(config)?;
        let solver_order = config.count("solver_order", 2, 1..=2)?;
        let lower_order_final = config.flag("lower_order_final", true)?;
        let euler_at_final = config.flag("euler_at_final", false)?;
        let final_sigma = FinalSigma::read(config)?;

        let (timesteps, mut sigmas) = solver_schedule(config, &training, schedule, steps)?;
        sigmas.push(final_sigma.value(&trained));
        if let Some(i) = (1..steps).find(|&i| sigmas[i] >= sigmas[i - 1]) {
            let t = timesteps[i];
            return Err(Error::request(format!(
                "{steps} steps would visit timestep {t} twice; choose fewer steps"
            )));
        }
        Ok(Self {
            prediction: training.prediction,
            timesteps,
            levels: sigmas.into_iter().map(Level::new).collect(),
            first_order_only: solver_order == 1,
            first_order_at_end: euler_at_final
                || final_sigma == FinalSigma::Zero
                || (lower_order_final && steps < 15),
            previous: None,
        })
    }

    /// x_0, from a sample x = α·x_0 + σ·ε and the model's output.
    fn denoised(&self, output: f32, x: f32, level: Level) -> f32 {
        match self.prediction {
            Prediction::Epsilon => (x - level.sigma * output) / level.alpha,
            Prediction::Sample => output,
            Prediction::Velocity => level.alpha * x - level.sigma * output,
        }
    }
}

impl Sampler for DpmPp2M {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let (now, next) = (self.levels[call], self.levels[call + 1]);
        let h = next.lambda - now.lambda;
        let shrink = next.sigma / now.sigma;
        let gain = next.alpha * ((-h).exp() - 1.0);

        let pairs = sample.iter().zip(model_output);
        let guess: Vec<f32> = pairs.map(|(&x, &output)| self.denoised(output, x, now)).collect();
        let at_end = call + 1 == self.timesteps.len() && self.first_order_at_end;
        match self.previous.take().filter(|_| !at_end && !self.first_order_only) {
            None => {
                for (x, &x_0) in sample.iter_mut().zip(&guess) {
                    *x = shrink * *x - gain * x_0;
                }
            }
            Some(previous) => {
                let r = (now.lambda - self.levels[call - 1].lambda) / h;
                for ((x, &x_0), &before) in sample.iter_mut().zip(&guess).zip(&previous) {
                    let slope = (1.0 / r) * (x_0 - before);
                    *x = shrink * *x - gain * x_0 - 0.5 * gain * slope;
                }
            }
        }
        self.previous = Some(guess);
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        let Level { alpha, sigma, .. } = self.levels[call];
        sample.iter_mut().zip(noise).for_each(|(x, noise)| *x = alpha * *x + sigma * noise);
    }
}

/// Timesteps and noise levels of the samplers that speak of λ: those of diffusers' `DPMSolverMultistepScheduler`.
///
/// The normal schedule is that of [`Visits`], but for `steps + 1` of which the cleanest is not visited; the others spread
/// over all noise levels of the training. Timesteps are whole: the nearest, or with exponential and beta the one below.
pub(super) fn solver_schedule(
    config: &SchedulerConfig,
    training: &Training,
    schedule: Schedule,
    steps: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let trained = training.sigmas();
    let ends = Ends { max: trained[trained.len() - 1].into(), min: trained[0].into() };
    if let Some(sigmas) = schedule.sigmas(config, ends, steps)? {
        let cosine = config.get("beta_schedule") == Some(&Value::from("squaredcos_cap_v2"));
        let below = cosine || matches!(schedule, Schedule::Exponential | Schedule::Beta);
        let whole = |t: f64| if below { t.trunc() } else { t.round_ties_even() };
        let timesteps = sigmas.iter().map(|&sigma| whole(sigmas::timestep_at(sigma, &trained)) as f32);
        return Ok((timesteps.collect(), sigmas.iter().map(|&sigma| sigma as f32).collect()));
    }
    let visits = Visits::read(config, training, Spacing::Linspace)?;
    let mut timesteps = match (schedule.timesteps(steps, training.len()), visits.spacing) {
        (Some(timesteps), _) => timesteps,
        (None, Spacing::Leading | Spacing::Linspace) => visits.timesteps(steps + 1),
        (None, Spacing::Trailing) => visits.timesteps(steps),
    };
    timesteps.truncate(steps);
    timesteps.iter_mut().for_each(|t| *t = t.round_ties_even());
    let sigmas = timesteps.iter().map(|&t| sigmas::sigma_at(t, &trained) as f32).collect();
    Ok((timesteps.into_iter().map(|t| t as f32).collect(), sigmas))
}

/// Settings of the class that only have an effect when they are on. Words of related classes ("deis", "bh2") mean the
/// default, as they do in diffusers.
fn refuse_what_is_not_supported(config: &SchedulerConfig) -> Result<()> {
    for key in ["thresholding", "use_flow_sigmas", "use_dynamic_shifting"] {
        config.neutral(key, &[Value::Bool(false)])?;
    }
    config.neutral("algorithm_type", &["dpmsolver++", "deis"].map(Value::from))?;
    config.neutral("solver_type", &["midpoint", "logrho", "bh1", "bh2"].map(Value::from))?;
    config.neutral("lambda_min_clipped", &["-Infinity"].map(Value::from))?;
    config.neutral(
        "variance_type",
        &["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"].map(Value::from),
    )
}
