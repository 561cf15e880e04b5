//! UniPC: a predictor, and a corrector that uses the x_0 at the new point without calling the
//! UNet again.
//!
//! ```text
//! h = λ_{i+1} − λ_i,  r_k = (λ_{i−k} − λ_i)/h,  D_k = (x_0(i−k) − x_0(i))/r_k
//! B = e^{−h} − 1  (bh2)  or  −h  (bh1)
//! x̄ = σ_{i+1}/σ_i·x − α_{i+1}·(e^{−h} − 1)·x_0(i)
//! predict  x ← x̄ − α_{i+1}·B·Σ_k ρ_k·D_k     then the UNet is evaluated at x
//! correct  x ← x̄ − α_{i+1}·B·(Σ_k ρ_k·D_k + ρ_n·(x_0(i+1) − x_0(i)))  before the next prediction
//! ```
//!
//! The weights ρ solve R·ρ = b with R_{jk} = r_k^j, so that the rule is exact for polynomials. One
//! call of the UNet a step: what a call learns first corrects the step that led to it.
//!
//! Zhao et al. 2023 (arXiv:2302.04867), algorithms 1 and 2; diffusers' `UniPCMultistepScheduler`
//! with `predict_x0`.

use std::collections::VecDeque;

use serde_json::Value;

use crate::samplers::lambdas::{self, Lambdas};
use crate::samplers::sigmas::{self, FinalSigma};
use crate::samplers::{Sampler, Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// The highest order of diffusers' folders.
const MOST: usize = 3;

/// Unified predictor-corrector.
#[derive(Debug, Clone)]
pub(crate) struct UniPc {
    lambdas: Lambdas,
    solver_order: usize,
    /// Whether B is e^{−h} − 1.
    bh2: bool,
    lower_order_final: bool,
    /// The last x_0, the newest first.
    x0s: VecDeque<Vec<f32>>,
    /// Where the last step began, and its order.
    last: Option<(Vec<f32>, usize)>,
}

impl UniPc {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let (noise_schedule, _) = sigmas::read_noise_schedule(config)?;
        let plain = config.clone().with("solver_type", Value::Null);
        lambdas::refuse_what_is_not_supported(&plain)?;
        config.neutral("predict_x0", &[Value::Bool(true)])?;
        config.neutral("disable_corrector", &[Value::Array(Vec::new())])?;
        for key in ["solver_p", "sigma_min", "sigma_max", "shift_terminal"] {
            config.neutral(key, &[])?;
        }
        let final_sigma = FinalSigma::read(config)?;
        let normal = matches!(schedule, Schedule::Normal | Schedule::SgmUniform | Schedule::Simple);
        let last = |sampled: f32, trained: f32| final_sigma.value(if normal { trained } else { sampled });
        let words = [("bh2", true), ("midpoint", true), ("heun", true), ("logrho", true), ("bh1", false)];
        Ok(Self {
            lambdas: Lambdas::new(config, &noise_schedule, schedule, steps, last)?,
            solver_order: config.count("solver_order", 2, 1..=MOST)?,
            bh2: config.word("solver_type", true, &words)?,
            lower_order_final: config.flag("lower_order_final", true)?,
            x0s: VecDeque::new(),
            last: None,
        })
    }

    /// The step `i` from `start`. `x0s` are those of step i and before, the newest first;
    /// `arrived` is x_0 at the end of the step, if it is known.
    fn update(&self, i: usize, order: usize, start: &[f32], arrived: Option<&[f32]>) -> Vec<f32> {
        let (now, next) = (self.lambdas.at(i), self.lambdas.at(i + 1));
        let h = self.lambdas.step_length(i);
        let phi = (-h).exp_m1();
        let scale = if self.bh2 { phi } else { -h };
        let mut ratios = [1.0; MOST];
        for (k, ratio) in ratios.iter_mut().enumerate().take(order - 1) {
            *ratio = (self.lambdas.at(i - k - 1).lambda - now.lambda) / h;
        }
        let weights = match (order, arrived) {
            (1, _) | (2, None) => [0.5, 0.0, 0.0],
            (_, None) => weights(&ratios[..order - 1], -h, scale),
            (_, Some(_)) => weights(&ratios[..order], -h, scale),
        };
        let (shrink, gain) = (next.sigma / now.sigma, next.alpha * phi);
        let x_0 = &self.x0s[0];
        let value = |j: usize| {
            let mut x = shrink * start[j] - gain * x_0[j];
            if order == 1 && arrived.is_none() {
                return x; // `scale` may be infinite here
            }
            let mut sum = 0.0;
            for k in 1..order {
                sum += weights[k - 1] * ((self.x0s[k][j] - x_0[j]) / ratios[k - 1]);
            }
            if let Some(arrived) = arrived {
                sum += weights[order - 1] * (arrived[j] - x_0[j]);
            }
            x -= next.alpha * scale * sum;
            x
        };
        (0..start.len()).map(value).collect()
    }
}

/// ρ with Σ_k r_k^j·ρ_k = b_j for j in 0..n, where b_j = (j + 1)!·φ_{j+2}(z)·z/B and z = −h.
fn weights(ratios: &[f32], z: f32, scale: f32) -> [f32; MOST] {
    let n = ratios.len();
    let mut rows = [[0.0; MOST + 1]; MOST];
    let (mut phi, mut factorial) = (z.exp_m1() / z - 1.0, 1.0);
    for (j, row) in rows.iter_mut().enumerate().take(n) {
        for (entry, ratio) in row.iter_mut().zip(ratios) {
            *entry = ratio.powi(j as i32);
        }
        row[MOST] = phi * factorial / scale;
        factorial *= (j + 2) as f32;
        phi = phi / z - 1.0 / factorial;
    }
    // Gauss's elimination with pivots.
    for column in 0..n {
        let largest = |&a: &usize, &b: &usize| rows[a][column].abs().total_cmp(&rows[b][column].abs());
        let pivot = (column..n).max_by(largest).unwrap_or(column);
        rows.swap(column, pivot);
        let from = rows[column];
        for row in rows.iter_mut().take(n).skip(column + 1) {
            let factor = row[column] / from[column];
            row.iter_mut().zip(from).for_each(|(entry, above)| *entry -= factor * above);
        }
    }
    let mut solution = [0.0; MOST];
    for j in (0..n).rev() {
        let known: f32 = (j + 1..n).map(|k| rows[j][k] * solution[k]).sum();
        solution[j] = (rows[j][MOST] - known) / rows[j][j];
    }
    solution
}

impl Sampler for UniPc {
    fn timesteps(&self) -> &[f32] {
        &self.lambdas.timesteps
    }

    fn step(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let x0 = self.lambdas.denoised(model_output, sample, call);
        if let Some((start, order)) = self.last.take() {
            sample.copy_from_slice(&self.update(call - 1, order, &start, Some(&x0)));
        }
        self.x0s.push_front(x0);
        self.x0s.truncate(self.solver_order);

        let left = self.lambdas.steps() - call;
        // At σ = 0 a higher order has no meaning: diffusers gives NaN if asked not to lower
        // it.
        let must_lower = self.lower_order_final || self.lambdas.at(call + 1).sigma == 0.0;
        let bound = if must_lower { left } else { self.solver_order };
        let order = self.x0s.len().min(bound);
        let next = self.update(call, order, sample, None);
        self.last = Some((sample.to_vec(), order));
        sample.copy_from_slice(&next);
    }

    fn add_noise(&self, sample: &mut [f32], noise: &[f32], call: usize) {
        self.lambdas.add_noise(sample, noise, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R·ρ = b, row by row.
    #[test]
    fn the_weights_solve_their_equations() {
        let (ratios, z) = ([-1.25f32, -2.0, 1.0], -0.4f32);
        let found = weights(&ratios, z, z.exp_m1());
        let phi = [z.exp_m1() / z - 1.0, (z.exp_m1() / z - 1.0) / z - 0.5];
        for (j, b) in [phi[0] / z.exp_m1(), 2.0 * phi[1] / z.exp_m1()].into_iter().enumerate() {
            let sum: f32 = (0..3).map(|k| ratios[k].powi(j as i32) * found[k]).sum();
            assert!((sum - b).abs() < 1e-4, "row {j}: {sum}, expected {b}");
        }
    }
}
