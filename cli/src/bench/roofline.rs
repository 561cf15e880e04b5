//! The roofline: how fast a kernel can be at most on this machine.
//!
//! ```text
//! time ≥ operations / peak          no multiplier is idle
//! time ≥ bytes / bandwidth          each input is read once, each output written once
//! ```
//!
//! The larger of the two is the bound. In a drawing of speed over *intensity* (operations for each
//! byte) the two bounds are a slope and a flat line: a roof. The bandwidth is that of the smallest
//! memory that holds all the kernel's data, since the runs of a measurement follow each other. A
//! kernel that touches data twice, or waits, stays below its roof.
//!
//! Source: Williams, Waterman and Patterson, *Roofline: An Insightful Visual Performance Model for
//! Multicore Architectures* (2009).

use super::machine::{Bandwidth, Machine};

/// What a kernel has to do at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// Multiplications and additions; 0 if reading and writing is all that takes time.
    pub(super) flops: f64,
    /// Bytes of all inputs and outputs.
    pub(super) bytes: f64,
}

/// What this work takes at least, and why.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    /// The least time.
    pub(super) seconds: f64,
    /// "compute", or the memory that has to be read.
    pub(super) limit: String,
}

impl Work {
    /// Operations for each byte.
    pub(super) fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    /// The bound on `threads` threads with instruction set `isa`; `None` if the machine was not
    /// measured so.
    pub(super) fn bound(&self, machine: &Machine, isa: &str, threads: usize) -> Option<Bound> {
        let peak = machine.peak(isa, threads)?;
        let memory = level(machine, self.bytes, threads)?;
        let (compute, read) = (self.flops / peak, self.bytes / memory.bytes_per_second);
        Some(match compute >= read {
            true => Bound { seconds: compute, limit: "compute".into() },
            false => Bound { seconds: read, limit: memory.level.clone() },
        })
    }
}

/// The smallest memory that holds `bytes`, or the largest that there is.
fn level(machine: &Machine, bytes: f64, threads: usize) -> Option<&Bandwidth> {
    let levels = || machine.bandwidths.iter().filter(|level| level.threads == threads);
    levels()
        .find(|level| level.capacity.is_none_or(|capacity| bytes <= capacity as f64))
        .or(levels().next_back())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::machine::Peak;
    use super::*;

    /// 100 GFLOP/s a thread with `fast`, half with `slow`; 400 GB/s from 1 MB of L2, 10 GB/s from
    /// memory.
    pub(in super::super) fn machine() -> Machine {
        let peak = |isa: &str, threads, flops_per_second| Peak { isa: isa.into(), threads, flops_per_second };
        let level = |level: &str, capacity, threads, bytes_per_second| Bandwidth {
            level: level.into(),
            capacity,
            threads,
            bytes_per_second,
        };
        Machine {
            cpu: "a CPU".into(),
            cores: 2,
            logical_cpus: 4,
            peaks: vec![peak("slow", 1, 5e10), peak("fast", 1, 1e11), peak("fast", 2, 2e11)],
            bandwidths: vec![
                level("L2", Some(1_000_000), 1, 2e11),
                level("memory", None, 1, 8e9),
                level("L2", Some(2_000_000), 2, 4e11),
                level("memory", None, 2, 1e10),
            ],
        }
    }

    #[test]
    fn much_arithmetic_is_bound_by_the_peak() {
        let work = Work { flops: 1e11, bytes: 1e8 };
        assert_eq!(work.intensity(), 1000.0);
        let bound = work.bound(&machine(), "fast", 2).expect("it was measured");
        assert_eq!(bound, Bound { seconds: 0.5, limit: "compute".into() });
        assert_eq!(work.bound(&machine(), "slow", 1).expect("it was measured").seconds, 2.0);
    }

    #[test]
    fn little_arithmetic_is_bound_by_the_memory_that_holds_the_data() {
        let bound = |bytes| Work { flops: 1e3, bytes }.bound(&machine(), "fast", 2).expect("it was measured");
        assert_eq!(bound(1e8), Bound { seconds: 0.01, limit: "memory".into() });
        assert_eq!(bound(1e6), Bound { seconds: 2.5e-6, limit: "L2".into() });
        assert_eq!(bound(2e6).limit, "L2");
        assert_eq!(bound(2e6 + 1.0).limit, "memory");
    }

    #[test]
    fn nothing_is_claimed_about_what_was_not_measured() {
        let work = Work { flops: 1.0, bytes: 1.0 };
        assert_eq!(work.bound(&machine(), "slow", 2), None);
        assert_eq!(work.bound(&machine(), "fast", 3), None);
    }
}
