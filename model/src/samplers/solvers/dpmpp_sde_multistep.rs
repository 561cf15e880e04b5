//! DPM++ 2M SDE and 3M SDE: the steps of DPM++ 2M, twice as far towards x_0, and back up with
//! fresh noise.
//!
//! ```text
//! x ← σ_{i+1}/σ_i·e^{−h}·x + α_{i+1}·(1 − e^{−2h})·D + σ_{i+1}·√(1 − e^{−2h})·noise
//!
//! 1st order  D = x_0(i)
//! 2nd order  D = x_0(i) + D_1/2,                  D_1 = (x_0(i) − x_0(i−1))/r_0
//! 3rd order  (1 − e^{−2h})·D = (1 − e^{−2h})·x_0(i) + φ_1·D_1' + φ_2·D_2,   from three x_0
//! ```
//!
//! with r_0 and r_1 the lengths of the last two steps over h. The ends of a run are as in
//! [`super::dpmpp_2m`]; every step draws noise, also the last, which multiplies it by 0 if it ends
//! at σ = 0.
//!
//! Lu et al. 2022 (arXiv:2211.01095), section 5 and appendix; diffusers'
//! `DPMSolverMultistepScheduler` with `algorithm_type` sde-dpmsolver++ and `solver_order` 2 or 3,
//! whose φ_2 is kept to the letter. A1111's samplers of these names draw their noise from a
//! Brownian tree and are other pictures.

use std::collections::VecDeque;

use crate::samplers::lambdas::{self, Lambdas};
use crate::samplers::sigmas::{self, FinalSigma};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// DPM-Solver++ for the reverse SDE, multistep.
#[derive(Debug, Clone)]
pub(crate) struct DpmPpSdeMultistep {
    lambdas: Lambdas,
    order: usize,
    lower_order_final: bool,
    first_order_at_end: bool,
    /// The last x_0, the newest first.
    x0s: VecDeque<Vec<f32>>,
}

impl DpmPpSdeMultistep {
    pub(crate) fn new(
        config: &SchedulerConfig,
        schedule: Schedule,
        steps: usize,
        order: usize,
    ) -> Result<Self> {
        let (noise_schedule, _) = sigmas::read_noise_schedule(config)?;
        lambdas::refuse_what_is_not_supported(config)?;
        let final_sigma = FinalSigma::read(config)?;
        Ok(Self {
            lambdas: Lambdas::new(config, &noise_schedule, schedule, steps, |_, lowest| {
                final_sigma.value(lowest)
            })?,
            order,
            lower_order_final: config.flag("lower_order_final", true)?,
            first_order_at_end: config.flag("euler_at_final", false)? || final_sigma == FinalSigma::Zero,
            x0s: VecDeque::new(),
        })
    }

    fn order(&self, call: usize) -> usize {
        let steps = self.lambdas.steps();
        if call + 1 == steps && self.first_order_at_end {
            return 1;
        }
        // A step of no length, as the last one to σ_min may be, changes nothing, and 0/0 of the
        // higher orders is no number.
        if self.lambdas.step_length(call) == 0.0 {
            return 1;
        }
        lambdas::order_at(self.order, self.x0s.len(), call, steps, self.lower_order_final)
    }
}

impl Sampler for DpmPpSdeMultistep {
    fn timesteps(&self) -> &[f32] {
        &self.lambdas.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let (now, next) = (self.lambdas.at(call), self.lambdas.at(call + 1));
        let h = self.lambdas.step_length(call);
        self.x0s.push_front(self.lambdas.denoised(model_output, sample, call));
        self.x0s.truncate(self.order);
        let noise = rng.randn(sample.len());

        let change = 1.0 - (-2.0 * h).exp();
        let shrink = next.sigma / now.sigma * (-h).exp();
        let gain = next.alpha * change;
        let spread = next.sigma * change.sqrt();
        let order = self.order(call);
        let (r_0, r_1) = match order {
            1 => (1.0, 1.0),
            2 => (self.lambdas.step_length(call - 1) / h, 1.0),
            _ => (self.lambdas.step_length(call - 1) / h, self.lambdas.step_length(call - 2) / h),
        };
        let phi_1 = next.alpha * (change / (-2.0 * h) + 1.0);
        let phi_2 = next.alpha * ((change - 2.0 * h) / (2.0 * h).powi(2) - 0.5);
        for (i, x) in sample.iter_mut().enumerate() {
            let x0 = |age: usize| self.x0s[age][i];
            *x = shrink * *x + gain * x0(0);
            if order == 2 {
                *x += 0.5 * gain * (1.0 / r_0 * (x0(0) - x0(1)));
            } else if order > 2 {
                let newer = 1.0 / r_0 * (x0(0) - x0(1));
                let older = 1.0 / r_1 * (x0(1) - x0(2));
                let d_1 = newer + r_0 / (r_0 + r_1) * (newer - older);
                let d_2 = 1.0 / (r_0 + r_1) * (newer - older);
                *x = *x + phi_1 * d_1 + phi_2 * d_2;
            }
            *x += spread * noise[i];
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.lambdas.add_noise(sample, noise, call);
    }
}
