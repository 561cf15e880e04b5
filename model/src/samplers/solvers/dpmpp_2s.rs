//! DPM++ 2S: of every two steps the first is tried alone, and the second goes both from where the
//! first began.
//!
//! ```text
//! odd steps    x' = to(i + 1, x_0(i))           a step of DDIM, where the UNet is evaluated
//! even steps   D = x_0(i−1) + (x_0(i) − x_0(i−1))/2r,  r = (λ_i − λ_{i−1})/h
//!              x ← σ_{i+1}/σ_{i−1}·x − α_{i+1}·(e^{−h} − 1)·D,  h = λ_{i+1} − λ_{i−1}
//!              with the x of step i−1
//! ```
//!
//! So a step of the paper, which evaluates twice, counts as two here, as it does in diffusers. The
//! last step of an odd number, and of a run that ends at σ = 0, is of first order. It always visits
//! even timesteps from the last one on, whatever `timestep_spacing` says.
//!
//! Lu et al. 2022, "DPM-Solver++" (arXiv:2211.01095), algorithm 1; diffusers'
//! `DPMSolverSinglestepScheduler` with order 2. Next: [`super::dpmpp_2m`], which evaluates once for
//! the same order.

use crate::samplers::lambdas::{self, Lambdas};
use crate::samplers::noise_schedule::NoiseSchedule;
use crate::samplers::sigmas::FinalSigma;
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// DPM-Solver++, second order, single step.
#[derive(Debug, Clone)]
pub(crate) struct DpmPp2S {
    lambdas: Lambdas,
    /// Whether each step is of second order.
    second_order: Vec<bool>,
    /// x_0 of the step before, and where the last step of first order began.
    previous: Option<Vec<f32>>,
    start: Vec<f32>,
}

impl DpmPp2S {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let config = &config.clone().with("timestep_spacing", "linspace");
        // The class has no `rescale_betas_zero_snr`.
        let noise_schedule = NoiseSchedule::read(config)?;
        lambdas::refuse_what_is_not_supported(config)?;
        let order = config.count("solver_order", 2, 1..=2)?;
        let final_sigma = FinalSigma::read(config)?;
        let lambdas =
            Lambdas::new(config, &noise_schedule, schedule, steps, |_, lowest| final_sigma.value(lowest))?;
        // What diffusers makes of `lower_order_final` where it cannot be met.
        let lower = config.flag("lower_order_final", false)?
            || !steps.is_multiple_of(order)
            || final_sigma == FinalSigma::Zero;
        let mut second_order: Vec<_> = (0..steps).map(|i| order == 2 && i % 2 == 1).collect();
        if lower {
            second_order[steps - 1] = false;
        }
        Ok(Self { lambdas, second_order, previous: None, start: Vec::new() })
    }
}

impl Sampler for DpmPp2S {
    fn timesteps(&self) -> &[f32] {
        &self.lambdas.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let next = self.lambdas.at(call + 1);
        let x0 = self.lambdas.denoised(model_output, sample, call);
        match self.previous.take().filter(|_| self.second_order[call]) {
            // Also where a run begins with the second of a pair.
            None => {
                let shrink = next.sigma / self.lambdas.at(call).sigma;
                let gain = next.alpha * ((-self.lambdas.step_length(call)).exp() - 1.0);
                self.start = sample.to_vec();
                sample.iter_mut().zip(&x0).for_each(|(x, &x_0)| *x = shrink * *x - gain * x_0);
            }
            Some(before) => {
                let began = self.lambdas.at(call - 1);
                let h = next.lambda - began.lambda;
                let r = self.lambdas.step_length(call - 1) / h;
                let (shrink, gain) = (next.sigma / began.sigma, next.alpha * ((-h).exp() - 1.0));
                for (i, x) in sample.iter_mut().enumerate() {
                    let slope = (1.0 / r) * (x0[i] - before[i]);
                    *x = shrink * self.start[i] - gain * before[i] - 0.5 * gain * slope;
                }
            }
        }
        self.previous = Some(x0);
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.lambdas.add_noise(sample, noise, call);
    }
}
