//! Faster, slower or the same as in an earlier run?
//!
//! ```text
//! ratio  = new median / old median
//! noise  = 2 % + the spreads of both               a spread is half the distance of the quartiles, as a share of the median
//! slower if ratio > 1 + noise,  faster if 1 / ratio > 1 + noise,  else the same
//! ```
//!
//! The 2 % are what clocks and the places of buffers in memory change from one start of a program
//! to the next, which no number of runs within one start shows.

use std::fmt;

use super::report::{Report, Row};

/// What two runs of the same program may differ by.
const BETWEEN_RUNS: f64 = 0.02;

/// What became of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Faster,
    Slower,
    Same,
    /// Other programs took too much of the cores in one of the runs.
    Unknown,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Unknown => "no verdict: the machine was busy",
        })
    }
}

/// An old measurement and the new one of the same name.
pub(super) struct Comparison<'a> {
    pub(super) name: String,
    old: &'a Row,
    new: &'a Row,
}

impl Comparison<'_> {
    fn ratio(&self) -> f64 {
        self.new.timing.seconds / self.old.timing.seconds
    }

    fn noise(&self) -> f64 {
        BETWEEN_RUNS + self.old.timing.spread() + self.new.timing.spread()
    }

    pub(super) fn change(&self) -> Change {
        let (ratio, limit) = (self.ratio(), 1.0 + self.noise());
        match () {
            () if self.old.timing.is_disturbed() || self.new.timing.is_disturbed() => Change::Unknown,
            () if ratio > limit => Change::Slower,
            () if 1.0 / ratio > limit => Change::Faster,
            () => Change::Same,
        }
    }

    /// A line of the table.
    fn line(&self) -> String {
        format!(
            "{:64} {:>9.3} → {:>9.3} ms {:>+7.1} % (±{:.1}) {}",
            self.name,
            1e3 * self.old.timing.seconds,
            1e3 * self.new.timing.seconds,
            100.0 * (self.ratio() - 1.0),
            100.0 * self.noise(),
            self.change()
        )
    }
}

/// All measurements that are in both reports, in the order of the new one.
pub(super) fn compare<'a>(old: &'a Report, new: &'a Report) -> Vec<Comparison<'a>> {
    let pair = |new: &'a Row| {
        let name = new.name();
        let old = old.rows.iter().find(|old| old.name() == name && old.threads == new.threads)?;
        Some(Comparison { name, old, new })
    };
    new.rows.iter().filter_map(pair).collect()
}

/// Why the two should not be compared, if there is a reason.
pub(super) fn obstacle(old: &Report, new: &Report) -> Option<String> {
    let (old, new) = (&old.machine, &new.machine);
    (old.cpu != new.cpu || old.cores != new.cores).then(|| {
        format!(
            "the old run was on another machine: {}, {} cores; this is {}, {}",
            old.cpu, old.cores, new.cpu, new.cores
        )
    })
}

/// Prints the table and its sum.
pub(super) fn print(comparisons: &[Comparison<'_>]) {
    for comparison in comparisons {
        println!("{}", comparison.line());
    }
    let count = |change| comparisons.iter().filter(|comparison| comparison.change() == change).count();
    println!(
        "{} faster, {} slower, {} the same, {} without a verdict",
        count(Change::Faster),
        count(Change::Slower),
        count(Change::Same),
        count(Change::Unknown)
    );
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::row;
    use super::super::roofline::tests::machine;
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        Report { version: "1".into(), machine: machine(), rows }
    }

    #[test]
    fn what_the_noise_explains_is_the_same() {
        // Old seconds, new seconds, spread of each, verdict. The noise is 2 % + both spreads.
        for (old, new, spread, expected) in [
            (1.0, 1.0, 0.0, Change::Same),
            (1.0, 1.019, 0.0, Change::Same),
            (1.0, 1.021, 0.0, Change::Slower),
            (1.0, 0.97, 0.0, Change::Faster),
            (1.0, 1.1, 0.05, Change::Same),
            (1.0, 1.13, 0.05, Change::Slower),
            (1.0, 0.9, 0.05, Change::Same),
            (1.0, 0.88, 0.05, Change::Faster),
        ] {
            let (old, new) = (report(vec![row("a", old, spread)]), report(vec![row("a", new, spread)]));
            let found = compare(&old, &new)[0].change();
            assert_eq!(
                found, expected,
                "{} → {} ±{spread}",
                old.rows[0].timing.seconds, new.rows[0].timing.seconds
            );
        }
    }

    #[test]
    fn only_measurements_of_one_name_and_as_many_threads_are_compared() {
        let old =
            report(vec![row("a", 1.0, 0.0), row("b", 1.0, 0.0), Row { threads: 1, ..row("c", 1.0, 0.0) }]);
        let new = report(vec![row("c", 1.0, 0.0), row("b", 2.0, 0.0), row("d", 1.0, 0.0)]);
        let comparisons = compare(&old, &new);
        assert_eq!(comparisons.len(), 1);
        assert_eq!(
            (comparisons[0].name.as_str(), comparisons[0].change()),
            ("conv2d/indirect/fast b", Change::Slower)
        );
        assert!(comparisons[0].line().contains("1000.000 →  2000.000 ms  +100.0 % (±2.0) slower"));
    }

    #[test]
    fn another_machine_is_named() {
        let (old, mut new) = (report(vec![]), report(vec![]));
        assert_eq!(obstacle(&old, &new), None);
        new.machine.cpu = "another CPU".into();
        assert!(
            obstacle(&old, &new).expect("they differ").contains("a CPU, 2 cores; this is another CPU, 2")
        );
    }
}
