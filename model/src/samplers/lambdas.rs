//! Noise levels in λ = ln(α/σ), for the samplers that solve most of the ODE exactly: DPM++, UniPC,
//! DEIS.
//!
//! ```text
//! x = α·x_0 + σ·ε,   α² + σ² = 1,   λ = ln α − ln σ
//! ```
//!
//! A noise level s = σ/α of [`super::sigmas`] gives α = 1/√(s² + 1). In λ the linear part of the
//! ODE has a closed form (Lu et al. 2022, arXiv:2206.00927, section 3), and a sampler is a rule for
//! the rest: a polynomial through x_0 at the last few steps. Where the noise levels end at
//! σ = 0, λ is infinite, and the last step takes the last x_0 as it is.
//!
//! Next: [`super::dpmpp_2m`].

use serde_json::Value;

use super::noise_schedule::{NoiseSchedule, Prediction};
use super::schedules::Ends;
use super::timestep_spacing::{Spacing, TimestepSpacing};
use super::{Schedule, SchedulerConfig, sigmas};
use crate::{Error, Result};

/// A noise level in the terms of the paper.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) alpha: f32,
    pub(super) sigma: f32,
    pub(super) lambda: f32,
}

impl Level {
    /// From s = σ/α.
    fn new(ratio: f32) -> Self {
        let alpha = 1.0 / (ratio * ratio + 1.0).sqrt();
        let sigma = ratio * alpha;
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }
}

/// Timesteps and noise levels of a sampler in λ.
#[derive(Debug, Clone)]
pub(super) struct Lambdas {
    prediction: Prediction,
    pub(super) timesteps: Vec<f32>,
    /// The noise level before each step, and after the last.
    lambdas: Vec<Level>,
}

impl Lambdas {
    /// `last(lowest level of the run, lowest level of the training)` is σ/α after the last step.
    pub(super) fn new(
        config: &SchedulerConfig,
        noise_schedule: &NoiseSchedule,
        schedule: Schedule,
        steps: usize,
        last: impl FnOnce(f32, f32) -> f32,
    ) -> Result<Self> {
        noise_schedule.check_steps(steps)?;
        let (timesteps, mut sigmas) = spread(config, noise_schedule, schedule, steps)?;
        if let Some(i) = (1..steps).find(|&i| sigmas[i] >= sigmas[i - 1]) {
            let t = timesteps[i];
            return Err(Error::request(format!(
                "{steps} steps would visit timestep {t} twice; choose fewer steps"
            )));
        }
        sigmas.push(last(sigmas[steps - 1], noise_schedule.sigmas()[0]));
        let lambdas = sigmas.into_iter().map(Level::new).collect();
        Ok(Self { prediction: noise_schedule.prediction, timesteps, lambdas })
    }

    /// The number of steps.
    pub(super) fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// The level before step `i`, or after the last.
    pub(super) fn at(&self, i: usize) -> Level {
        self.lambdas[i]
    }

    /// λ_{i+1} − λ_i: the length of step `i`, infinite if it ends at σ = 0.
    pub(super) fn step_length(&self, i: usize) -> f32 {
        self.lambdas[i + 1].lambda - self.lambdas[i].lambda
    }

    /// x_0 at every value of a sample, from the model's output.
    pub(super) fn denoised(&self, model_output: &[f32], sample: &[f32], call: usize) -> Vec<f32> {
        let Level { alpha, sigma, .. } = self.lambdas[call];
        let x_0 = |(&x, &output): (&f32, &f32)| match self.prediction {
            Prediction::Epsilon => (x - sigma * output) / alpha,
            Prediction::Sample => output,
            Prediction::Velocity => alpha * x - sigma * output,
        };
        sample.iter().zip(model_output).map(x_0).collect()
    }

    /// α·x_0 + σ·noise.
    pub(super) fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        let Level { alpha, sigma, .. } = self.lambdas[call];
        sample.iter_mut().zip(noise).for_each(|(x, noise)| *x = alpha * *x + sigma * noise);
    }
}

/// Timesteps and noise levels of the samplers in λ: those of diffusers'
/// `DPMSolverMultistepScheduler`.
///
/// The normal schedule is that of [`TimestepSpacing`], but for `steps + 1` of which the cleanest is
/// not visited; the others spread over all noise levels of the training. Timesteps are whole: the
/// nearest, or with exponential and beta the one below.
fn spread(
    config: &SchedulerConfig,
    noise_schedule: &NoiseSchedule,
    schedule: Schedule,
    steps: usize,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let trained = noise_schedule.sigmas();
    let ends = Ends { max: trained[trained.len() - 1].into(), min: trained[0].into() };
    if let Some(sigmas) = schedule.sigmas(config, ends, steps)? {
        let cosine = config.get("beta_schedule") == Some(&Value::from("squaredcos_cap_v2"));
        let below = cosine || matches!(schedule, Schedule::Exponential | Schedule::Beta);
        let whole = |t: f64| if below { t.trunc() } else { t.round_ties_even() };
        let timesteps = sigmas.iter().map(|&sigma| whole(sigmas::timestep_at(sigma, &trained)) as f32);
        return Ok((timesteps.collect(), sigmas.iter().map(|&sigma| sigma as f32).collect()));
    }
    let timestep_spacing = TimestepSpacing::read(config, noise_schedule, Spacing::Linspace)?;
    let mut timesteps = match (schedule.timesteps(steps, noise_schedule.len()), timestep_spacing.spacing) {
        (Some(timesteps), _) => timesteps,
        (None, Spacing::Leading | Spacing::Linspace) => timestep_spacing.timesteps(steps + 1),
        (None, Spacing::Trailing) => timestep_spacing.timesteps(steps),
    };
    timesteps.truncate(steps);
    timesteps.iter_mut().for_each(|t| *t = t.round_ties_even());
    let sigmas = timesteps.iter().map(|&t| sigmas::sigma_at(t, &trained) as f32).collect();
    Ok((timesteps.into_iter().map(|t| t as f32).collect(), sigmas))
}

/// The order that a multistep method may take at `call`: as many x_0 as there are, fewer at the
/// end of a short run.
pub(super) fn order_at(
    order: usize,
    x0s: usize,
    call: usize,
    steps: usize,
    lower_order_final: bool,
) -> usize {
    let left = steps - call;
    let bound = if lower_order_final && steps < 15 { left } else { order };
    order.min(x0s).min(bound)
}

/// Settings of DPM-Solver's classes that only have an effect when they are on. Words of related
/// classes ("deis", "bh2") mean the default, as they do in diffusers.
pub(super) fn refuse_what_is_not_supported(config: &SchedulerConfig) -> Result<()> {
    for key in ["thresholding", "use_flow_sigmas", "use_dynamic_shifting"] {
        config.neutral(key, &[Value::Bool(false)])?;
    }
    // The algorithm is the sampler's: with the names of others it has been chosen in place of the
    // folder's.
    config.neutral("algorithm_type", &["dpmsolver++", "sde-dpmsolver++", "deis"].map(Value::from))?;
    config.neutral("solver_type", &["midpoint", "logrho", "bh1", "bh2"].map(Value::from))?;
    config.neutral("lambda_min_clipped", &["-Infinity"].map(Value::from))?;
    config.neutral(
        "variance_type",
        &["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"].map(Value::from),
    )
}
