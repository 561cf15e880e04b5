//! DPM2 a: DPM2's step, but below the next noise level, and back up to it with fresh noise.
//!
//! ```text
//! σ_up² = σ_{i+1}²·(σ_i² − σ_{i+1}²)/σ_i²,   σ_down² = σ_{i+1}² − σ_up²       as in Euler a
//! σ'    = √(σ_i·σ_down)
//! x'    = x + (x − x_0(x, σ_i))/σ_i·(σ' − σ_i)                                first call
//! x     ← x + (x' − x_0(x', σ'))/σ'·(σ_down − σ_i) + σ_up·noise               second call
//! ```
//!
//! The last step, to σ = 0, is Euler's and draws no noise. k-diffusion's `sample_dpm_2_ancestral`,
//! diffusers' `KDPM2AncestralDiscreteScheduler`; see [`super::dpm2`] and
//! [`super::euler_ancestral`].

use super::midpoint::{Midpoint, MidpointGrid};
use crate::samplers::sigmas::ancestral;
use crate::samplers::{Schedule, SchedulerConfig};
use crate::{Generator, Result};

/// The midpoint method with fresh noise at each step.
#[derive(Debug, Clone)]
pub(crate) struct Dpm2Ancestral {
    grid: MidpointGrid,
    /// Where the step began.
    start: Vec<f32>,
}

impl Dpm2Ancestral {
    pub(crate) fn new(config: &SchedulerConfig, schedule: Schedule, steps: usize) -> Result<Self> {
        let down = |sigma, sigma_next| ancestral(sigma, sigma_next).down;
        let grid = MidpointGrid::new(config, schedule, steps, "DPM2 a", down)?;
        Ok(Self { grid: grid.whole_if_karras(schedule), start: Vec::new() })
    }
}

impl Midpoint for Dpm2Ancestral {
    fn grid(&self) -> &MidpointGrid {
        &self.grid
    }

    fn advance(&mut self, model_output: &[f32], call: usize, sample: &mut [f32], rng: &mut Generator) {
        let slope = self.grid.slope(model_output, sample, call);
        let (sigma, middle) = (self.grid.sigmas[call / 2], self.grid.middles[call / 2]);
        if call.is_multiple_of(2) {
            self.start = sample.to_vec();
            sample.iter_mut().zip(&slope).for_each(|(x, slope)| *x += slope * (middle - sigma));
        } else {
            let split = ancestral(sigma, self.grid.sigmas[call / 2 + 1]);
            let fresh = rng.randn(sample.len());
            for (i, x) in sample.iter_mut().enumerate() {
                *x = self.start[i] + slope[i] * (split.down - sigma) + fresh[i] * split.up;
            }
        }
    }
}
