//! How fast pictures were made lately: an estimate for the next ones.
//!
//! ```text
//! seconds = pixels · (steps · a + b)      a: of a step, b: of the decoder, both per pixel
//! ```
//!
//! Attention grows faster than the area, so the estimate is a little low for larger pictures than
//! those that it was made from.

use std::sync::{Mutex, PoisonError};

/// How much the newest picture counts.
const NEWEST: f64 = 0.5;

/// Seconds per pixel, of the model of this name.
#[derive(Default)]
pub(crate) struct Speed(Mutex<Option<Measured>>);

struct Measured {
    model: String,
    step: f64,
    rest: f64,
}

impl Speed {
    /// `pixels` pixels took these seconds for each step, and for all else.
    pub(crate) fn learn(&self, model: &str, pixels: f64, step: f64, rest: f64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (step, rest) = (step / pixels, rest / pixels);
        *known = Some(match known.take().filter(|known| known.model == model) {
            None => Measured { model: model.to_owned(), step, rest },
            Some(known) => Measured {
                step: known.step + NEWEST * (step - known.step),
                rest: known.rest + NEWEST * (rest - known.rest),
                ..known
            },
        });
    }

    /// What `pixels` pixels will take; `None` before anything was made.
    pub(crate) fn seconds(&self, model: &str, pixels: f64, steps: f64) -> Option<f64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_ref().filter(|known| known.model == model)?;
        Some(pixels * (steps * known.step + known.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_follows_what_was_measured() {
        let speed = Speed::default();
        assert_eq!(speed.seconds("a", 100.0, 4.0), None);
        speed.learn("a", 100.0, 2.0, 1.0);
        assert_eq!(speed.seconds("a", 200.0, 4.0), Some(18.0));
        speed.learn("a", 100.0, 4.0, 1.0);
        assert_eq!(speed.seconds("a", 100.0, 1.0), Some(4.0));
        assert_eq!(speed.seconds("b", 100.0, 1.0), None, "another model has another speed");
    }
}
