//! Which of the training timesteps are sampled: table 2 of Lin et al. 2023 (arXiv:2305.08891).
//!
//! | `timestep_spacing` | 5 steps of 1000 | |
//! |---|---|---|
//! | leading | 800, 600, 400, 200, 0 (plus `steps_offset`) | misses the noisiest |
//! | linspace | 999, 749.25, 499.5, 249.75, 0 | both ends |
//! | trailing | 999, 799, 599, 399, 199 | misses the cleanest |
//!
//! Next: [`super::ddim`], which steps along them.

use super::SchedulerConfig;
use super::config::OWN_TIMESTEPS;
use super::noise_schedule::NoiseSchedule;
use crate::{Error, Result};

/// The rule by which timesteps are picked.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimestepSpacing {
    pub(super) spacing: Spacing,
    num_train_timesteps: usize,
    steps_offset: usize,
}

/// `timestep_spacing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Multiples of a whole stride, from 0 up.
    Leading,
    /// Even, both ends included.
    Linspace,
    /// Even, from the last one down.
    Trailing,
}

impl TimestepSpacing {
    /// Reads the spacing; its default differs from class to class.
    pub(super) fn read(
        config: &SchedulerConfig,
        noise_schedule: &NoiseSchedule,
        default: Spacing,
    ) -> Result<Self> {
        let accepted =
            [("leading", Spacing::Leading), ("linspace", Spacing::Linspace), ("trailing", Spacing::Trailing)];
        Ok(Self {
            spacing: config.word("timestep_spacing", default, &accepted)?,
            num_train_timesteps: noise_schedule.len(),
            steps_offset: config.count("steps_offset", 0, 0..=noise_schedule.len())?,
        })
    }

    /// The timesteps of a picture of `steps` steps, falling; those of linspace may lie between two
    /// whole ones.
    pub(super) fn timesteps(&self, steps: usize) -> Vec<f64> {
        let n = self.num_train_timesteps;
        match self.spacing {
            Spacing::Leading => {
                let stride = n / steps;
                (0..steps).rev().map(|i| (i * stride + self.steps_offset) as f64).collect()
            }
            Spacing::Linspace => {
                let mut rising = linspace(0.0, (n - 1) as f64, steps);
                rising.reverse();
                rising
            }
            // numpy's arange makes one value too many for a few numbers of steps (61 and 103 are
            // the first); diffusers then ends with timestep −1, on which no model was trained. Here
            // it is left out.
            Spacing::Trailing => {
                let stride = n as f64 - (n as f64 - n as f64 / steps as f64);
                (0..steps).map(|i| (n as f64 - i as f64 * stride).round_ties_even() - 1.0).collect()
            }
        }
    }

    /// The same as whole numbers, for the samplers that look ᾱ up.
    ///
    /// # Errors
    /// `Request` if one of them is no training timestep, as with `steps_offset` 1 and 1000 steps.
    pub(super) fn whole_timesteps(&self, steps: usize) -> Result<Vec<usize>> {
        let whole = |t: f64| {
            let t = t.round_ties_even();
            if t >= 0.0 && t < self.num_train_timesteps as f64 {
                return Ok(t as usize);
            }
            let last = self.num_train_timesteps - 1;
            Err(Error::request(format!(
                "{steps} steps would visit timestep {t}, but the model knows 0 to {last}; choose fewer steps"
            )))
        };
        self.timesteps(steps).into_iter().map(whole).collect()
    }
}

/// The timesteps of a distilled model: `steps` out of the `original_inference_steps` on which it
/// was trained, from the noisiest down; or, where a schedule was chosen, those of
/// `timestep_spacing`.
///
/// # Errors
/// `Request` for more steps than it was trained on.
pub(super) fn distilled_timesteps(
    config: &SchedulerConfig,
    noise_schedule: &NoiseSchedule,
    steps: usize,
) -> Result<Vec<usize>> {
    let trained = noise_schedule.len();
    if config.flag(OWN_TIMESTEPS, false)? && steps <= trained {
        return TimestepSpacing::read(config, noise_schedule, Spacing::Trailing)?.whole_timesteps(steps);
    }
    let original = config.count("original_inference_steps", trained.min(50), 1..=trained)?;
    if !(1..=original).contains(&steps) {
        return Err(Error::request(format!(
            "{steps} steps are not possible with this sampler; choose from 1 to {original} \
             (`original_inference_steps`), best 1 to 8"
        )));
    }
    let stride = trained / original;
    let picked = (0..steps).map(|i| (i as f64 * (original as f64 / steps as f64)).floor() as usize);
    Ok(picked.map(|i| (original - i) * stride - 1).collect())
}

/// numpy's `linspace`: `n` evenly spaced numbers from `start` to `end`; a single one is `start`.
pub(super) fn linspace(start: f64, end: f64, n: usize) -> Vec<f64> {
    let step = (end - start) / (n.max(2) - 1) as f64;
    (0..n).map(|i| if i > 0 && i == n - 1 { end } else { i as f64 * step + start }).collect()
}
