//! DPM++ 2S a: half a step with the first x_0, the whole with the x_0 found there, then back up
//! with fresh noise.
//!
//! ```text
//! σ_up² = σ_{i+1}²·(σ_i² − σ_{i+1}²)/σ_i²,   σ_down² = σ_{i+1}² − σ_up²   as in Euler a
//! to(σ*, x_0) = σ*/σ_i·x + (1 − σ*/σ_i)·x_0                               exact if x_0 stays
//! first call    x' = to(√(σ_i·σ_down), x_0 at (x, σ_i))
//! second call   x ← to(σ_down, x_0 at (x', σ')) + σ_up·noise              x where the step began
//! ```
//!
//! The last step, to σ = 0, is Euler's and draws no noise.
//!
//! Lu et al. 2022 (arXiv:2211.01095), DPM-Solver++(2S), made ancestral; k-diffusion's
//! `sample_dpmpp_2s_ancestral`. diffusers has no class for it: the oracle of the tests is the
//! formula in torch (`tests/goldens/schedulers.py`). Next: [`super::dpmpp_sde`], the same with the
//! noise of both halves; [`super::dpmpp_2s`] without any.

use super::midpoint::{Midpoint, MidpointGrid};
use crate::samplers::sigmas::ancestral;
use crate::samplers::{Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// DPM-Solver++, single step, with fresh noise at each step.
#[derive(Debug, Clone)]
pub(crate) struct DpmPp2SAncestral {
    grid: MidpointGrid,
    /// Where the step began.
    start: Vec<f32>,
}

impl DpmPp2SAncestral {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let down = |sigma, sigma_next| ancestral(sigma, sigma_next).down;
        let grid = MidpointGrid::new(config, schedule, steps, "DPM++ 2S a", down)?;
        Ok(Self { grid, start: Vec::new() })
    }
}

impl Midpoint for DpmPp2SAncestral {
    fn grid(&self) -> &MidpointGrid {
        &self.grid
    }

    fn advance(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let (from, next) = (self.grid.sigmas[call / 2], self.grid.sigmas[call / 2 + 1]);
        let x0 = self.grid.denoised(model_output, sample, call);
        let to = |sigma: f32, x: f32, x_0: f32| {
            let h = from.ln() - sigma.ln(); // infinite if the step ends at 0
            sigma / from * x - (-h).exp_m1() * x_0
        };
        if call.is_multiple_of(2) {
            self.start = sample.to_vec();
            let middle = self.grid.middles[call / 2]; // 0 in the last step
            sample.iter_mut().zip(&x0).for_each(|(x, &x_0)| *x = to(middle, *x, x_0));
            return;
        }
        let split = ancestral(from, next);
        let fresh = rng.randn(sample.len());
        for (i, x) in sample.iter_mut().enumerate() {
            *x = to(split.down, self.start[i], x0[i]) + fresh[i] * split.up;
        }
    }
}
