//! DPM++ SDE: half a step with fresh noise, then the whole with the x_0 found there, and the
//! noise of both halves.
//!
//! ```text
//! to(σ'): σ_up² = σ'²·(σ_i² − σ'²)/σ_i²,  σ_down² = σ'² − σ_up²   as in Euler a
//!         x' = σ_down/σ_i·x + (1 − σ_down/σ_i)·x_0 + σ_up·noise   exact if x_0 stays
//! first call   x_0 at (x, σ_i),   to(√(σ_i·σ_{i+1})) with noise z_1
//! second call  x_0 at (x', σ'),   to(σ_{i+1}) from x with noise
//!              (√(σ_i − σ')·z_1 + √(σ' − σ_{i+1})·z_2)/√(σ_i − σ_{i+1})
//! ```
//!
//! The noises of a step belong to one Brownian motion W in σ: z_1 is W over the first part, the
//! second noise W over the whole. diffusers and k-diffusion look W up in a tree with a seed of its
//! own, so that it does not depend on the steps; here the path is drawn from the picture's
//! generator as the steps go on: the same law, another picture.
//!
//! Lu et al. 2022 (arXiv:2211.01095), DPM-Solver++(2S) for the SDE; diffusers'
//! `DPMSolverSDEScheduler`, k-diffusion's `sample_dpmpp_sde`. The last step, to σ = 0, is Euler's
//! and draws no noise.

use super::midpoint::{Midpoint, MidpointGrid};
use crate::samplers::sigmas::ancestral;
use crate::samplers::{Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// DPM-Solver++ for the reverse SDE, single step.
#[derive(Debug, Clone)]
pub(crate) struct DpmPpSde {
    grid: MidpointGrid,
    /// Where the step began, and the noise of its first part.
    start: Vec<f32>,
    noise: Vec<f32>,
}

impl DpmPpSde {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let grid = MidpointGrid::new(config, schedule, steps, "DPM++ SDE", |_, sigma_next| sigma_next)?;
        Ok(Self { grid, start: Vec::new(), noise: Vec::new() })
    }
}

impl Midpoint for DpmPpSde {
    fn grid(&self) -> &MidpointGrid {
        &self.grid
    }

    fn advance(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let (from, middle, next) =
            (self.grid.sigmas[call / 2], self.grid.middles[call / 2], self.grid.sigmas[call / 2 + 1]);
        let x0 = self.grid.denoised(model_output, sample, call);
        if next == 0.0 {
            for (x, x_0) in sample.iter_mut().zip(&x0) {
                *x += (*x - x_0) / from * (next - from);
            }
            return;
        }
        let to = if call.is_multiple_of(2) {
            self.start = sample.to_vec();
            self.noise = rng.randn(sample.len());
            middle
        } else {
            let (first, second) = ((from - middle).sqrt(), (middle - next).sqrt());
            let whole = (from - next).sqrt();
            for (noise, fresh) in self.noise.iter_mut().zip(rng.randn(sample.len())) {
                *noise = (first * *noise + second * fresh) / whole;
            }
            next
        };
        let split = ancestral(from, to);
        let stay = split.down / from;
        let towards_x0 = (split.down.ln() - from.ln()).exp_m1();
        for (i, x) in sample.iter_mut().enumerate() {
            *x = stay * self.start[i] - towards_x0 * x0[i] + self.noise[i] * split.up;
        }
    }
}
