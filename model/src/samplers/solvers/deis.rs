//! DEIS: a polynomial in ln ρ through the last noises ε, integrated exactly over the step in ρ =
//! σ/α.
//!
//! ```text
//! c_j = ∫ L_j(ln ρ) dρ  from ρ_i to ρ_{i+1}     L_j is 1 at step i − j and 0 at the others
//! x   ← α_{i+1}·(x/α_i + Σ_j c_j·ε_{i−j})
//! ```
//!
//! With one ε it is DDIM's step, with two a line, with three a parabola; [`super::lms`] does the
//! same in σ instead of ln σ. Unlike most, it never goes to σ = 0: it ends at the lowest noise
//! level of the training, and with a schedule that visits this one the last step changes nothing,
//! as in diffusers.
//!
//! Zhang and Chen 2022 (arXiv:2204.13902), section 3.3 (ρAB-DEIS, here in ln ρ); diffusers'
//! `DEISMultistepScheduler`.

use std::collections::VecDeque;

use serde_json::Value;

use crate::samplers::lambdas::{self, Lambdas};
use crate::samplers::noise_schedule::NoiseSchedule;
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// Diffusion exponential integrator sampler.
#[derive(Debug, Clone)]
pub(crate) struct Deis {
    lambdas: Lambdas,
    order: usize,
    lower_order_final: bool,
    /// The last noises, the newest first.
    noises: VecDeque<Vec<f32>>,
}

impl Deis {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let noise_schedule = NoiseSchedule::read(config)?;
        lambdas::refuse_what_is_not_supported(&config.clone().with("solver_type", Value::Null))?;
        let normal = matches!(schedule, Schedule::Normal | Schedule::SgmUniform | Schedule::Simple);
        let last = |sampled: f32, trained: f32| if normal { trained } else { sampled };
        Ok(Self {
            lambdas: Lambdas::new(config, &noise_schedule, schedule, steps, last)?,
            order: config.count("solver_order", 2, 1..=3)?,
            lower_order_final: config.flag("lower_order_final", true)?,
            noises: VecDeque::new(),
        })
    }

    /// c_j for each of `order` noises.
    fn coefficients(&self, call: usize, order: usize) -> [f32; 3] {
        let rho = |i: usize| self.lambdas.at(i).sigma / self.lambdas.at(i).alpha;
        let (to, s0) = (rho(call + 1), rho(call));
        // Antiderivatives of L_j, written in diffusers' order, in f32: their differences lose
        // digits.
        let line = |t: f32, b: f32, c: f32| t * (-c.ln() + t.ln() - 1.0) / (b.ln() - c.ln());
        let parabola = |t: f32, b: f32, c: f32, d: f32| {
            let (t_log, c_log, d_log) = (t.ln(), c.ln(), d.ln());
            let numerator = t
                * (c_log * (d_log - t_log + 1.0) - d_log * t_log + d_log + t_log * t_log - 2.0 * t_log + 2.0);
            numerator / ((b.ln() - c_log) * (b.ln() - d_log))
        };
        if order == 2 {
            let s1 = rho(call - 1);
            return [line(to, s0, s1) - line(s0, s0, s1), line(to, s1, s0) - line(s0, s1, s0), 0.0];
        }
        let (s1, s2) = (rho(call - 1), rho(call - 2));
        [
            parabola(to, s0, s1, s2) - parabola(s0, s0, s1, s2),
            parabola(to, s1, s2, s0) - parabola(s0, s1, s2, s0),
            parabola(to, s2, s0, s1) - parabola(s0, s2, s0, s1),
        ]
    }
}

impl Sampler for Deis {
    fn timesteps(&self) -> &[f32] {
        &self.lambdas.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let (now, next) = (self.lambdas.at(call), self.lambdas.at(call + 1));
        let x0 = self.lambdas.denoised(model_output, sample, call);
        let noise = sample.iter().zip(&x0).map(|(x, x_0)| (x - now.alpha * x_0) / now.sigma);
        self.noises.push_front(noise.collect());
        self.noises.truncate(self.order);

        let steps = self.lambdas.steps();
        let order = lambdas::order_at(self.order, self.noises.len(), call, steps, self.lower_order_final);
        if order == 1 {
            let change = next.sigma * (self.lambdas.step_length(call).exp() - 1.0);
            for (x, noise) in sample.iter_mut().zip(&self.noises[0]) {
                *x = next.alpha / now.alpha * *x - change * noise;
            }
            return;
        }
        let coefficients = self.coefficients(call, order);
        for (i, x) in sample.iter_mut().enumerate() {
            let terms = self.noises.iter().zip(coefficients).take(order);
            *x = next.alpha * terms.fold(*x / now.alpha, |sum, (noise, c)| sum + c * noise[i]);
        }
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.lambdas.add_noise(sample, noise, call);
    }
}
