//! DPM++ 2M: in λ = ln(α/σ) most of the ODE is solved exactly; what is left is a line through the
//! last two predictions of x_0.
//!
//! ```text
//! h   = λ_{i+1} − λ_i,  r = (λ_i − λ_{i−1})/h
//! D   = x_0(i) + (x_0(i) − x_0(i−1)) / 2r       x_0 extrapolated to the middle of the step
//! x   ← σ_{i+1}/σ_i·x − α_{i+1}·(e^{−h} − 1)·D
//! ```
//!
//! Here x = α·x_0 + σ·ε as in [`super::ddim`]; [`crate::samplers::lambdas`] has α, σ and λ. The
//! first step has one x_0 only and takes D = x_0, which is a step of DDIM; so does the last step
//! if it ends at σ = 0, where λ is infinite.
//!
//! Lu et al. 2022, "DPM-Solver++" (arXiv:2211.01095), algorithm 2; diffusers'
//! `DPMSolverMultistepScheduler` with `algorithm_type` dpmsolver++ and `solver_type` midpoint.
//! Next: [`super::dpmpp_sde_multistep`], with fresh noise.

use crate::samplers::lambdas::{self, Lambdas};
use crate::samplers::sigmas::{self, FinalSigma};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// DPM-Solver++, second order, multistep.
#[derive(Debug, Clone)]
pub(crate) struct DpmPp2M {
    lambdas: Lambdas,
    first_order_only: bool,
    first_order_at_end: bool,
    /// x_0 of the step before.
    previous: Option<Vec<f32>>,
}

impl DpmPp2M {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let (noise_schedule, _) = sigmas::read_noise_schedule(config)?;
        lambdas::refuse_what_is_not_supported(config)?;
        let solver_order = config.count("solver_order", 2, 1..=2)?;
        let lower_order_final = config.flag("lower_order_final", true)?;
        let euler_at_final = config.flag("euler_at_final", false)?;
        let final_sigma = FinalSigma::read(config)?;
        Ok(Self {
            lambdas: Lambdas::new(config, &noise_schedule, schedule, steps, |_, lowest| {
                final_sigma.value(lowest)
            })?,
            first_order_only: solver_order == 1,
            first_order_at_end: euler_at_final
                || final_sigma == FinalSigma::Zero
                || (lower_order_final && steps < 15),
            previous: None,
        })
    }
}

impl Sampler for DpmPp2M {
    fn timesteps(&self) -> &[f32] {
        &self.lambdas.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let (now, next) = (self.lambdas.at(call), self.lambdas.at(call + 1));
        let h = self.lambdas.step_length(call);
        let shrink = next.sigma / now.sigma;
        let gain = next.alpha * ((-h).exp() - 1.0);

        let x0 = self.lambdas.denoised(model_output, sample, call);
        let at_end = call + 1 == self.lambdas.steps() && self.first_order_at_end;
        match self.previous.take().filter(|_| !at_end && !self.first_order_only) {
            None => {
                for (x, &x_0) in sample.iter_mut().zip(&x0) {
                    *x = shrink * *x - gain * x_0;
                }
            }
            Some(previous) => {
                let r = self.lambdas.step_length(call - 1) / h;
                for ((x, &x_0), &before) in sample.iter_mut().zip(&x0).zip(&previous) {
                    let slope = (1.0 / r) * (x_0 - before);
                    *x = shrink * *x - gain * x_0 - 0.5 * gain * slope;
                }
            }
        }
        self.previous = Some(x0);
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.lambdas.add_noise(sample, noise, call);
    }
}
