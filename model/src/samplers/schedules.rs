//! Schedules: the ways to spread the noise levels σ of a picture between the highest and the
//! lowest.
//!
//! ```text
//! Karras       σ_i = (σ_max^(1/7) + u·(σ_min^(1/7) − σ_max^(1/7)))^7,  u = i/(n − 1)
//! exponential  ln σ_i = ln σ_max + u·(ln σ_min − ln σ_max)
//! lu           even in λ = −ln σ, the same in another order
//! beta         σ_i = σ_min + F⁻¹(1 − u)·(σ_max − σ_min), dense at both ends
//! AYS          eleven measured levels, ln σ linear between them; the last becomes 0
//! sgm_uniform  timesteps even from 999 to 0 in n + 1 points, the last of them left out
//! trailing     timesteps even from 999 down, in the folder's place of `timestep_spacing`
//! simple       every (1000/n)th timestep from 999 down
//! ```
//!
//! F is the distribution function of Beta(0.6, 0.6). Normal follows the folder's `timestep_spacing`
//! ([`super::timestep_spacing`]).
//!
//! Sources: Karras et al. 2022 (arXiv:2206.00364), equation 5; Lee et al. 2024, "Beta Sampling is
//! All You Need" (arXiv:2407.12173); Sabour et al. 2024, "Align Your Steps" (arXiv:2404.14507).
//! diffusers has the first three as `use_karras_sigmas`, `use_exponential_sigmas`,
//! `use_beta_sigmas`; the others are A1111's and ComfyUI's.

use super::timestep_spacing::linspace;
use super::{Schedule, SchedulerConfig};
use crate::{Error, Result};

/// The highest and the lowest noise level of a schedule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) max: f64,
    pub(super) min: f64,
}

/// "Align Your Steps" for Stable Diffusion 1.5 with 10 steps.
const ALIGN_YOUR_STEPS: [f64; 11] =
    [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029];

impl Schedule {
    /// `steps` falling noise levels; `None` if the schedule is one of timesteps. The end, mostly 0,
    /// is the sampler's to add.
    ///
    /// # Errors
    /// `Request` if the levels are given and do not fit.
    pub(super) fn sigmas(
        self,
        config: &SchedulerConfig,
        ends: Ends,
        steps: usize,
    ) -> Result<Option<Vec<f64>>> {
        Ok(match self {
            Self::Normal | Self::SgmUniform | Self::Trailing | Self::Simple => None,
            Self::Karras => Some(karras(ends, steps)),
            // Lu's is even in λ = −ln σ, which is the same; diffusers computes it in another order.
            Self::Lu => Some(even_in_logarithm(ends, steps)),
            Self::Exponential => Some(exponential(ends, steps)),
            Self::Beta => Some(beta(ends, steps)),
            Self::AlignYourSteps => Some(align_your_steps(steps)),
            Self::Given => Some(given(config, steps)?),
        })
    }

    /// The timesteps of a schedule that picks its own among `trained` ones.
    pub(super) fn timesteps(self, steps: usize, trained: usize) -> Option<Vec<f64>> {
        match self {
            Self::SgmUniform => {
                let mut timesteps = linspace((trained - 1) as f64, 0.0, steps + 1);
                timesteps.truncate(steps);
                Some(timesteps)
            }
            Self::Simple => Some((0..steps).map(|i| (trained - 1 - i * trained / steps) as f64).collect()),
            _ => None,
        }
    }
}

fn karras(ends: Ends, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (from, to) = (ends.max.powf(1.0 / RHO), ends.min.powf(1.0 / RHO));
    linspace(0.0, 1.0, steps).into_iter().map(|ramp| (from + ramp * (to - from)).powf(RHO)).collect()
}

fn even_in_logarithm(ends: Ends, steps: usize) -> Vec<f64> {
    // diffusers takes the logarithms of f32 values in f32.
    let (from, to) = (f64::from((ends.max as f32).ln()), f64::from((ends.min as f32).ln()));
    linspace(0.0, 1.0, steps).into_iter().map(|ramp| (from + ramp * (to - from)).exp()).collect()
}

fn exponential(ends: Ends, steps: usize) -> Vec<f64> {
    linspace(ends.max.ln(), ends.min.ln(), steps).into_iter().map(f64::exp).collect()
}

fn beta(ends: Ends, steps: usize) -> Vec<f64> {
    let ramp = linspace(0.0, 1.0, steps).into_iter();
    ramp.map(|u| ends.min + beta_quantile(1.0 - u) * (ends.max - ends.min)).collect()
}

/// F⁻¹(p) for Beta(0.6, 0.6), whose density x^(−0.4)·(1 − x)^(−0.4) is symmetric about 1/2.
///
/// ```text
/// G(x) = ∫₀ˣ t^(a−1)·(1 − t)^(a−1) dt = x^a·Σ_n (1 − a)_n/n!·x^n/(a + n),   F(x) = G(x) / 2G(1/2)
/// ```
fn beta_quantile(p: f64) -> f64 {
    const A: f64 = 0.6;
    if p > 0.5 {
        return 1.0 - beta_quantile(1.0 - p);
    }
    // Up to x = 1/2 a term is less than half of the one before: 60 terms leave nothing of an f64.
    let integral = |x: f64| {
        let terms = (0..60).scan(1.0, |power, n| {
            let n = f64::from(n);
            let term = *power / (A + n);
            *power *= (1.0 - A + n) / (n + 1.0) * x;
            Some(term)
        });
        x.powf(A) * terms.sum::<f64>()
    };
    let wanted = p * 2.0 * integral(0.5);
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if integral(middle) < wanted { low = middle } else { high = middle }
    }
    high
}

fn align_your_steps(steps: usize) -> Vec<f64> {
    let intervals = (ALIGN_YOUR_STEPS.len() - 1) as f64;
    let at = |i: usize| {
        let position = i as f64 / steps as f64 * intervals;
        let below = (position as usize).min(ALIGN_YOUR_STEPS.len() - 2);
        let (low, high) = (ALIGN_YOUR_STEPS[below].ln(), ALIGN_YOUR_STEPS[below + 1].ln());
        (low + (high - low) * (position - below as f64)).exp()
    };
    (0..steps).map(at).collect()
}

/// The levels that the setting `sigmas` lists; a 0 at their end may be left out.
fn given(config: &SchedulerConfig, steps: usize) -> Result<Vec<f64>> {
    let mut sigmas = config.sigmas().unwrap_or_default();
    if sigmas.last() == Some(&0.0) {
        sigmas.pop();
    }
    let falling = sigmas.windows(2).all(|pair| pair[0] > pair[1]);
    if sigmas.is_empty() || !falling || sigmas.iter().any(|&sigma| !(sigma > 0.0 && sigma < 1000.0)) {
        return Err(Error::request(
            "`sigmas`: expected falling numbers between 0 and 1000, as 14.6, 3.9, 1, 0.1, 0",
        ));
    }
    if sigmas.len() != steps {
        let count = sigmas.len();
        return Err(Error::request(format!(
            "`sigmas` lists {count} noise levels above 0, which are {count} steps, but {steps} steps were asked for"
        )));
    }
    Ok(sigmas)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy.stats.beta.ppf(p, 0.6, 0.6).
    #[test]
    fn the_beta_distribution_is_that_of_scipy() {
        for (p, x) in
            [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (0.1, 0.03958440558878085), (0.7, 0.7659829961247643)]
        {
            let found = beta_quantile(p);
            assert!((found - x).abs() < 1e-12, "{p}: {found}, expected {x}");
        }
    }

    #[test]
    fn ten_steps_of_ays_are_the_published_ones() {
        for (found, expected) in align_your_steps(10).into_iter().zip(ALIGN_YOUR_STEPS) {
            assert!((found - expected).abs() < 1e-12);
        }
        // Twice the steps: geometric means in between.
        assert!((align_your_steps(20)[1] - (14.615f64 * 6.475).sqrt()).abs() < 1e-9);
    }
}
