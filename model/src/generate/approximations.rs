//! Approximations: less work for nearly the same picture. All are off unless they are asked for.
//!
//! | setting | what is left out | source |
//! |---|---|---|
//! | token merging | self-attention between tokens that are alike | ToMe: `networks/unet/token_merge.rs` |
//! | DeepCache | the inner levels of the UNet between full steps | `networks/unet/deep_cache.rs` |
//! | guidance interval | the prediction without the text outside the interval | Kynkäänniemi et al., *Applying Guidance in a Limited Interval* (2024) |
//!
//! They are settings of the picture: its text names them, and it is made again with them. What they
//! change is measured in `tests/APPROXIMATIONS.md`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::image::metadata::Parameters;

/// Which are on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Approximations {
    /// The share of the tokens that is merged for self-attention, up to 0.75; 0 is none.
    pub token_merging: f64,
    /// Every how many steps the whole UNet is computed; 0 and 1 are every step.
    pub deep_cache: usize,
    /// The steps with guidance.
    pub guidance_interval: GuidanceInterval,
}

/// A part of the steps, as fractions: 0 is the first step, 1 the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuidanceInterval {
    /// Where it begins.
    pub start: f64,
    /// Where it ends.
    pub end: f64,
}

impl Default for GuidanceInterval {
    /// All steps.
    fn default() -> Self {
        Self { start: 0.0, end: 1.0 }
    }
}

impl GuidanceInterval {
    /// Whether step `step` of `total` is in it.
    pub(super) fn contains(self, step: usize, total: usize) -> bool {
        let at = step as f64 / total.max(1) as f64;
        (self.start..self.end).contains(&at)
    }
}

/// `START:END`
impl FromStr for GuidanceInterval {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let ends =
            text.split_once(':').and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
        match ends {
            Some((start, end)) if 0.0 <= start && start < end && end <= 1.0 => Ok(Self { start, end }),
            _ => Err(Error::request(format_args!(
                "the guidance interval is `{text}`; expected two fractions of the steps, as in 0.2:0.8"
            ))),
        }
    }
}

impl fmt::Display for GuidanceInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.end)
    }
}

/// A larger interval has a typing error.
const MOST_STEPS: usize = 1000;

impl Approximations {
    /// Whether the inner levels are computed at step `step` of `total`: at every Nth, and where
    /// guidance begins or ends, since another number of texts comes then.
    pub(super) fn is_full(&self, step: usize, total: usize) -> bool {
        let guided = |step| self.guidance_interval.contains(step, total);
        step.is_multiple_of(self.deep_cache.max(1)) || guided(step) != guided(step - 1)
    }

    /// Refuses what has no meaning.
    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..=0.75).contains(&self.token_merging) {
            return Err(Error::request(format_args!(
                "{} of the tokens are to be merged; expected 0 to 0.75",
                self.token_merging
            )));
        }
        if self.deep_cache > MOST_STEPS {
            return Err(Error::request(format_args!(
                "the inner levels are to be computed every {} steps; expected up to {MOST_STEPS}",
                self.deep_cache
            )));
        }
        let GuidanceInterval { start, end } = self.guidance_interval;
        format!("{start}:{end}").parse::<GuidanceInterval>().map(drop)
    }

    /// Writes down what is on.
    pub(super) fn describe(&self, parameters: &mut Parameters) {
        if self.token_merging > 0.0 {
            parameters.push("Token merging ratio", self.token_merging);
        }
        if self.deep_cache > 1 {
            parameters.push("DeepCache interval", self.deep_cache);
        }
        if self.guidance_interval != GuidanceInterval::default() {
            parameters.push("Guidance interval", self.guidance_interval);
        }
    }

    /// What a picture's text says.
    ///
    /// # Errors
    /// `Request` if a value has no meaning.
    pub(super) fn of(stored: &Parameters) -> Result<Self> {
        Ok(Self {
            token_merging: stored.parsed("Token merging ratio", "a number")?.unwrap_or(0.0),
            deep_cache: stored.parsed("DeepCache interval", "a number of steps")?.unwrap_or(0),
            guidance_interval: stored
                .get("Guidance interval")
                .map(str::parse)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_part_of_the_steps() {
        let interval: GuidanceInterval = "0.25:0.75".parse().expect("two fractions");
        let guided: Vec<_> = (0..8).filter(|&step| interval.contains(step, 8)).collect();
        assert_eq!(guided, [2, 3, 4, 5]);
        assert!((0..7).all(|step| GuidanceInterval::default().contains(step, 7)));
        for text in ["", "0.5", "0.5:0.5", "0.8:0.2", "-1:1", "0:2", "a:b", "NaN:1"] {
            assert!(text.parse::<GuidanceInterval>().is_err(), "{text}");
        }
    }

    #[test]
    fn full_steps_are_every_nth_and_those_with_other_texts() {
        let full = |approximations: Approximations| {
            (0..8).filter(|&step| approximations.is_full(step, 8)).collect::<Vec<_>>()
        };
        let all = Approximations::default();
        assert_eq!(full(all).len(), 8);
        let third = Approximations { deep_cache: 3, ..all };
        assert_eq!(full(third), [0, 3, 6]);
        let interval = GuidanceInterval { start: 0.25, end: 0.6 };
        assert_eq!(full(Approximations { guidance_interval: interval, ..third }), [0, 2, 3, 5, 6]);
    }
}
