//! DPM2: try half a step, and take the whole one along the slope found there.
//!
//! ```text
//! σ'  = √(σ_i·σ_{i+1})                                        the middle, in ln σ
//! x'  = x + (x − x_0(x, σ_i))/σ_i·(σ' − σ_i)                  first call
//! x   ← x + (x' − x_0(x', σ'))/σ'·(σ_{i+1} − σ_i)             second call
//! ```
//!
//! The midpoint method, two calls of the UNet a step; the last step, to σ = 0, is Euler's.
//! [`super::midpoint`] has the grid.
//!
//! Inspired by DPM-Solver-2 (Lu et al. 2022, arXiv:2206.00927) and algorithm 2 of Karras et al.
//! 2022 (arXiv:2206.00364); k-diffusion's `sample_dpm_2`, diffusers' `KDPM2DiscreteScheduler`.
//! Next: [`super::dpm2_ancestral`].

use super::midpoint::{Midpoint, MidpointGrid};
use crate::samplers::{Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// The midpoint method in σ.
#[derive(Debug, Clone)]
pub(crate) struct Dpm2 {
    grid: MidpointGrid,
    /// Where the step began.
    start: Vec<f32>,
}

impl Dpm2 {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let grid = MidpointGrid::new(config, schedule, steps, "DPM2", |_, sigma_next| sigma_next)?;
        Ok(Self { grid: grid.whole_if_karras(schedule), start: Vec::new() })
    }
}

impl Midpoint for Dpm2 {
    fn grid(&self) -> &MidpointGrid {
        &self.grid
    }

    fn advance(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], _rng: &mut Generator) {
        let slope = self.grid.slope(model_output, sample, call);
        let (sigma, middle) = (self.grid.sigmas[call / 2], self.grid.middles[call / 2]);
        if call.is_multiple_of(2) {
            self.start = sample.to_vec();
            sample.iter_mut().zip(&slope).for_each(|(x, slope)| *x += slope * (middle - sigma));
        } else {
            let sigma_next = self.grid.sigmas[call / 2 + 1];
            for ((x, start), slope) in sample.iter_mut().zip(&self.start).zip(&slope) {
                *x = start + slope * (sigma_next - sigma);
            }
        }
    }
}
