//! How long something takes: the minimum and the median of repeats in quiet moments, and how far
//! they lie apart.
//!
//! A mean would count each interruption by another program. The minimum is what the code can do;
//! the median, beside it, says what one gets. The quartiles say how much the repeats disagree,
//! which is what [`compare`](super::compare) needs to tell a change from noise. Repeats between
//! probes of which one was slow are dropped and counted ([`Probe`]).
//!
//! CPU time of all threads is shown beside wall time: on n threads it should be n times as long,
//! and less means waiting.

use std::time::Instant;

use aquatint_tensor::Recycling;
use serde::{Deserialize, Serialize};

use super::probe::{Probe, quiet};
use crate::platform::clock::{CpuShare, cpu_seconds};

/// Repeats that are enough, however short they are.
const MAX_RUNS: usize = 1000;
/// Something that takes longer than this is not repeated three times.
const LONG: f64 = 2.0;
/// Repeats that are shorter than this together stand between the same two probes.
const BETWEEN_PROBES: f64 = 0.02;
/// On a disturbed machine it waits for quiet moments this many budgets long.
const PATIENCE: f64 = 3.0;

/// What the repeats took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Timing {
    /// The median of wall time.
    pub(super) seconds: f64,
    /// The fastest. Older reports have none.
    #[serde(default)]
    pub(super) minimum: f64,
    /// A quarter of the repeats was faster than this.
    pub(super) lower_quartile: f64,
    /// A quarter of the repeats was slower than this.
    pub(super) upper_quartile: f64,
    /// CPU time of all threads, for one repeat on average.
    pub(super) cpu_seconds: f64,
    /// How many repeats these figures are of.
    pub(super) runs: usize,
    /// How many more there were in disturbed moments. If all were, none is dropped:
    /// [`runs`](Self::runs) are disturbed, then.
    #[serde(default)]
    pub(super) dropped: usize,
    /// The share of the CPU time that it asked for. Older reports have none.
    #[serde(default = "whole")]
    pub(super) cpu_share: f64,
}

fn whole() -> f64 {
    1.0
}

/// With a smaller share of the cores a figure says little about a kernel.
const ENOUGH: f64 = 0.9;

impl Timing {
    /// Of repeats of these lengths.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn of(mut seconds: Vec<f64>, cpu_seconds: f64, dropped: usize) -> Self {
        seconds.sort_by(f64::total_cmp);
        let runs = seconds.len();
        assert!(runs > 0, "nothing was measured");
        let at = |share: f64| {
            // Between two repeats, in proportion.
            let place = share * (runs - 1) as f64;
            let (below, above) = (seconds[place.floor() as usize], seconds[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Self {
            seconds: at(0.5),
            minimum: seconds[0],
            lower_quartile: at(0.25),
            upper_quartile: at(0.75),
            cpu_seconds,
            runs,
            dropped,
            cpu_share: 1.0,
        }
    }

    /// Whether other programs took so much of the cores that the figures say little.
    pub(super) fn is_disturbed(&self) -> bool {
        is_disturbed(self.cpu_share)
    }

    /// Half the distance of the quartiles, as a share of the median: the ± of the table.
    pub(super) fn spread(&self) -> f64 {
        (self.upper_quartile - self.lower_quartile) / 2.0 / self.seconds
    }
}

/// Whether so small a share of the cores says little.
pub(super) fn is_disturbed(cpu_share: f64) -> bool {
    cpu_share < ENOUGH
}

/// Repeats and the probes around them: probe i runs before group i, probe i + 1 after it.
#[derive(Default)]
pub(super) struct Repeats<T> {
    groups: Vec<Vec<T>>,
    probes: Vec<f64>,
}

impl<T> Repeats<T> {
    /// Begins with a probe.
    pub(super) fn new(probe: f64) -> Self {
        Self { groups: Vec::new(), probes: vec![probe] }
    }

    /// Adds repeats and the probe behind them.
    pub(super) fn push(&mut self, group: Vec<T>, probe: f64) {
        self.groups.push(group);
        self.probes.push(probe);
    }

    fn len(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    fn quiet_groups(&self) -> Vec<bool> {
        quiet(&self.probes).windows(2).map(|around| around[0] && around[1]).collect()
    }

    /// How many there are in quiet moments.
    fn quiet_len(&self) -> usize {
        let groups = self.groups.iter().zip(self.quiet_groups());
        groups.filter(|(_, quiet)| *quiet).map(|(group, _)| group.len()).sum()
    }

    /// Those in quiet moments, or all if there are none, and how many were left out.
    pub(super) fn believed(self) -> (Vec<T>, usize) {
        let (all, good, keep) = (self.len(), self.quiet_len(), self.quiet_groups());
        let groups = self.groups.into_iter().zip(keep);
        let believed: Vec<T> =
            groups.filter(|(_, quiet)| *quiet || good == 0).flat_map(|(group, _)| group).collect();
        let dropped = all - believed.len();
        (believed, dropped)
    }
}

/// Runs `f` once to warm up caches and memory (buffers are used again, as the pipeline does it),
/// then for about `budget` seconds, but at least three times in quiet moments (once if it takes
/// long).
pub(super) fn measure(budget: f64, probe: &Probe, mut f: impl FnMut()) -> Timing {
    let repeat = || {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        f();
        // A clock that ticks slowly must not give a speed without limit.
        (start.elapsed().as_secs_f64().max(1e-9), cpu_seconds() - cpu)
    };
    let cores = CpuShare::start();
    let (repeats, dropped) = repeat_in_quiet(budget, || probe.run(), repeat);
    let (seconds, cpu): (Vec<f64>, Vec<f64>) = repeats.into_iter().unzip();
    let cpu_seconds = cpu.iter().sum::<f64>() / cpu.len() as f64;
    Timing { cpu_share: cores.share(), ..Timing::of(seconds, cpu_seconds, dropped) }
}

/// What `f` gave in quiet moments, and how often it was called in others; see [`measure`].
pub(super) fn repeat_in_quiet<T>(
    budget: f64,
    mut probe: impl FnMut() -> f64,
    mut f: impl FnMut() -> T,
) -> (Vec<T>, usize) {
    let _recycling = Recycling::start();
    let start = Instant::now();
    f();
    let once = start.elapsed().as_secs_f64();
    let least = if once < LONG.min(10.0 * budget) { 3 } else { 1 };
    let mut repeats = Repeats::new(probe());
    let begin = Instant::now();
    let elapsed = || begin.elapsed().as_secs_f64();
    // Past the budget it is repeated only until there are enough, and not without end.
    while repeats.len() < MAX_RUNS
        && (elapsed() < budget
            || repeats.len() < least
            || repeats.quiet_len() < least && elapsed() < PATIENCE * budget)
    {
        let (group_begin, mut group) = (Instant::now(), Vec::new());
        while group.is_empty()
            || group_begin.elapsed().as_secs_f64() < BETWEEN_PROBES.min(budget)
                && repeats.len() + group.len() < MAX_RUNS
        {
            group.push(f());
        }
        repeats.push(group, probe());
    }
    repeats.believed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_an_interruption_and_the_minimum_stands_beside_it() {
        let timing = Timing::of(vec![1.0, 9.0, 1.2, 1.1, 1.3], 2.0, 4);
        assert_eq!((timing.seconds, timing.lower_quartile, timing.upper_quartile), (1.2, 1.1, 1.3));
        assert_eq!((timing.minimum, timing.runs, timing.dropped), (1.0, 5, 4));
        assert!((timing.spread() - 0.1 / 1.2).abs() < 1e-12);
    }

    #[test]
    fn between_two_repeats_lies_their_middle() {
        let timing = Timing::of(vec![3.0, 1.0], 2.0, 0);
        assert_eq!((timing.seconds, timing.lower_quartile, timing.upper_quartile), (2.0, 1.5, 2.5));
        assert_eq!(Timing::of(vec![2.0], 2.0, 0).spread(), 0.0);
    }

    #[test]
    fn repeats_beside_a_slow_probe_are_dropped() {
        let mut repeats = Repeats::new(100.0);
        repeats.push(vec![1, 2], 98.0);
        repeats.push(vec![3], 40.0); // the neighbour came
        repeats.push(vec![4], 99.0); // and went
        repeats.push(vec![5], 100.0);
        assert_eq!(repeats.believed(), (vec![1, 2, 5], 2));
        let mut disturbed = Repeats::new(100.0);
        disturbed.push(vec![1], 40.0);
        disturbed.push(vec![2], 40.0);
        assert_eq!(disturbed.believed(), (vec![1, 2], 0), "something is better than nothing");
    }

    #[test]
    fn short_runs_are_repeated_and_long_ones_are_not() {
        let mut calls = 0;
        assert_eq!(repeat_in_quiet(0.0, || 1.0, || calls += 1).0.len(), 1); // a budget of 0 makes everything long
        assert_eq!(calls, 2);
        assert_eq!(repeat_in_quiet(1e-2, || 1.0, || ()).0.len(), MAX_RUNS);
        let sleep = || std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(repeat_in_quiet(0.01, || 1.0, sleep).0.len(), 3);
    }

    #[test]
    fn quiet_moments_are_waited_for_but_not_for_ever() {
        // Every second probe is slow, so no repeat is between two good ones.
        let mut n = 0;
        let probe = || {
            n += 1;
            if n % 2 == 0 { 10.0 } else { 100.0 }
        };
        let sleep = || std::thread::sleep(std::time::Duration::from_millis(10));
        let (repeats, dropped) = repeat_in_quiet(0.02, probe, sleep);
        assert!(repeats.len() >= 3 && dropped == 0, "{} and {dropped}", repeats.len());
    }
}
