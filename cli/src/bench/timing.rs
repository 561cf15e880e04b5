//! How long something takes: the median of several runs, and how far they lie apart.
//!
//! A mean would count each interruption by another program; the median ignores them as long as they hit fewer than half of the runs.
//! The quartiles say how much the runs disagree, which is what [`compare`](super::compare) needs to tell a change from noise.
//! CPU time of all threads stands beside wall time: on n threads it should be n times as long, and less means waiting.

use std::time::Instant;

use aquatint_tensor::Recycling;
use serde::{Deserialize, Serialize};

use crate::platform::clock::cpu_seconds;

/// Runs that are enough, however short they are.
const MAX_RUNS: usize = 1000;
/// Something that takes longer than this is not run three times.
const LONG: f64 = 2.0;

/// What several runs took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Timing {
    /// The median of wall time.
    pub(super) seconds: f64,
    /// A quarter of the runs was faster than this.
    pub(super) lower_quartile: f64,
    /// A quarter of the runs was slower than this.
    pub(super) upper_quartile: f64,
    /// CPU time of all threads, for one run on average.
    pub(super) cpu_seconds: f64,
    /// How many runs there were.
    pub(super) runs: usize,
}

impl Timing {
    /// Of runs of these lengths.
    ///
    /// # Panics
    /// If there is none.
    fn of(mut seconds: Vec<f64>, cpu_seconds: f64) -> Self {
        seconds.sort_by(f64::total_cmp);
        let runs = seconds.len();
        assert!(runs > 0, "nothing was measured");
        let at = |share: f64| {
            // Between two runs, in proportion.
            let place = share * (runs - 1) as f64;
            let (below, above) = (seconds[place.floor() as usize], seconds[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Self {
            seconds: at(0.5),
            lower_quartile: at(0.25),
            upper_quartile: at(0.75),
            cpu_seconds: cpu_seconds / runs as f64,
            runs,
        }
    }

    /// Half the distance of the quartiles, as a share of the median: the ± of the table.
    pub(super) fn spread(&self) -> f64 {
        (self.upper_quartile - self.lower_quartile) / 2.0 / self.seconds
    }
}

/// Runs `f` once to warm up caches and memory (buffers are used again, as the pipeline does it), then for about `budget` seconds, but at least three times (twice or once if it takes long).
pub(super) fn measure(budget: f64, mut f: impl FnMut()) -> Timing {
    let _recycling = Recycling::start();
    let start = Instant::now();
    f();
    let once = start.elapsed().as_secs_f64();
    let least = if once < LONG.min(10.0 * budget) { 3 } else { 1 };
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let mut seconds = Vec::new();
    while seconds.len() < least || begin.elapsed().as_secs_f64() < budget && seconds.len() < MAX_RUNS {
        let start = Instant::now();
        f();
        // A clock that ticks slowly must not give a speed without limit.
        seconds.push(start.elapsed().as_secs_f64().max(1e-9));
    }
    Timing::of(seconds, cpu_seconds() - cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_interruption() {
        let timing = Timing::of(vec![1.0, 9.0, 1.2, 1.1, 1.3], 10.0);
        assert_eq!((timing.seconds, timing.lower_quartile, timing.upper_quartile), (1.2, 1.1, 1.3));
        assert_eq!((timing.runs, timing.cpu_seconds), (5, 2.0));
        assert!((timing.spread() - 0.1 / 1.2).abs() < 1e-12);
    }

    #[test]
    fn between_two_runs_lies_their_middle() {
        let timing = Timing::of(vec![3.0, 1.0], 4.0);
        assert_eq!((timing.seconds, timing.lower_quartile, timing.upper_quartile), (2.0, 1.5, 2.5));
        assert_eq!(Timing::of(vec![2.0], 2.0).spread(), 0.0);
    }

    #[test]
    fn short_runs_are_repeated_and_long_ones_are_not() {
        let mut calls = 0;
        assert_eq!(measure(0.0, || calls += 1).runs, 1); // a budget of 0 makes everything long
        assert_eq!(calls, 2);
        assert_eq!(measure(1e-3, || ()).runs, MAX_RUNS);
        assert_eq!(measure(0.01, || std::thread::sleep(std::time::Duration::from_millis(20))).runs, 3);
    }
}
