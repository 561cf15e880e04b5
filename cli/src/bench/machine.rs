//! What this machine can do, measured: multiply-adds that never leave the registers, and reading
//! from each level of the memory.
//!
//! Both are loops that do nothing else, on 1, 2, 4, … and all threads. The kernels are to be read
//! as shares of these figures, not of those in a data sheet: clocks drop when all cores work with
//! wide vectors, and virtual machines share caches with strangers.

use std::time::Instant;

use aquatint_kernels::cpu::simd::{Op, Simd};
use aquatint_kernels::{Isa, cpu::peak};
use serde::{Deserialize, Serialize};

use crate::platform::topology;

/// Rounds of [`peak::multiply_adds`] before the clock is read: less than a millisecond.
const ROUNDS: usize = 20_000;

/// A machine and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// As the operating system calls it.
    pub(super) cpu: String,
    /// Physical cores that this program may use.
    pub(super) cores: usize,
    /// What the operating system schedules on.
    pub(super) logical_cpus: usize,
    /// Arithmetic.
    pub(super) peaks: Vec<Peak>,
    /// Reading, for each number of threads from the smallest memory to the largest.
    pub(super) bandwidths: Vec<Bandwidth>,
}

/// What an instruction set reaches without memory: in bf16 if it has a unit for that, else in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Peak {
    pub(super) isa: String,
    pub(super) threads: usize,
    /// Multiplications and additions of all threads.
    pub(super) flops_per_second: f64,
}

/// How fast a level of the memory is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Bandwidth {
    /// "L1", "L2", "L3", "memory".
    pub(super) level: String,
    /// Bytes that all threads together can keep there; `None` for the main memory.
    pub(super) capacity: Option<usize>,
    pub(super) threads: usize,
    /// Of all threads.
    pub(super) bytes_per_second: f64,
}

impl Machine {
    /// Measures for `seconds` on up to `threads` threads.
    pub(super) fn measure(seconds: f64, threads: usize, isas: &[Isa]) -> Self {
        let caches = topology::caches();
        let counts = thread_counts(threads);
        let measurements = counts.len() * (isas.len() + caches.len() + 1);
        let each = seconds / measurements as f64;
        let (mut peaks, mut bandwidths) = (Vec::new(), Vec::new());
        for threads in counts {
            for &isa in isas {
                let flops_per_second =
                    on_threads(threads, |_| rate(each, || peak::multiply_adds(isa, ROUNDS)));
                peaks.push(Peak { isa: isa.name().into(), threads, flops_per_second });
            }
            let isa = Isa::best().for_f32();
            let levels = caches.iter().map(|cache| (cache.level.clone(), Some(cache.capacity(threads))));
            for (level, capacity) in levels.chain([("memory".to_owned(), None)]) {
                // Half of a cache, so that what else lies there does not matter; of the memory, far
                // more than any cache.
                let largest = caches.iter().map(|cache| cache.bytes).max().unwrap_or(0);
                let bytes = capacity.map_or((4 * largest).max(128 << 20), |capacity| capacity / 2) / threads;
                let bytes_per_second = on_threads(threads, |_| {
                    let data = vec![1.0f32; (bytes / 4).max(256)];
                    rate(each, || {
                        std::hint::black_box(isa.run(Read { data: &data }));
                        4 * data.len()
                    })
                });
                bandwidths.push(Bandwidth { level, capacity, threads, bytes_per_second });
            }
        }
        let logical_cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cpu: topology::cpu_name(), cores: topology::physical_cores(), logical_cpus, peaks, bandwidths }
    }

    /// Operations a second of an instruction set, if it was measured on `threads` threads.
    pub(super) fn peak(&self, isa: &str, threads: usize) -> Option<f64> {
        let peak = self.peaks.iter().find(|peak| peak.isa == isa && peak.threads == threads);
        peak.map(|peak| peak.flops_per_second)
    }

    /// The table for the terminal.
    pub(super) fn print(&self) {
        println!("{}, {} cores, {} logical CPUs", self.cpu, self.cores, self.logical_cpus);
        for Peak { isa, threads, flops_per_second } in &self.peaks {
            println!("  {isa:11} {threads:3} threads {:8.1} GFLOP/s", flops_per_second / 1e9);
        }
        for Bandwidth { level, capacity, threads, bytes_per_second } in &self.bandwidths {
            let size = capacity.map_or(String::new(), |bytes| format!(" of {} KiB", bytes / 1024));
            println!("  {level:11} {threads:3} threads {:8.1} GB/s{size}", bytes_per_second / 1e9);
        }
    }
}

/// 1, 2, 4, … and all.
fn thread_counts(all: usize) -> Vec<usize> {
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(2 * n)).take_while(|&n| n < all).collect();
    counts.push(all);
    counts
}

/// The sum of what `f` gives on each of `threads` threads at the same time.
fn on_threads(threads: usize, f: impl Fn(usize) -> f64 + Sync) -> f64 {
    let barrier = std::sync::Barrier::new(threads);
    std::thread::scope(|scope| {
        let (f, barrier) = (&f, &barrier);
        let running: Vec<_> = (0..threads)
            .map(|i| {
                scope.spawn(move || {
                    barrier.wait();
                    f(i)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a measuring loop does not panic")).sum()
    })
}

/// Calls `f` for `seconds`; units a second, if each call gives the units it did. The best
/// tenth of the time counts: what interrupts a loop that waits for nothing is another program.
fn rate(seconds: f64, mut f: impl FnMut() -> usize) -> f64 {
    f();
    let begin = Instant::now();
    let mut best = 0.0f64;
    loop {
        let (start, mut units) = (Instant::now(), 0);
        while units == 0 || start.elapsed().as_secs_f64() < seconds / 10.0 {
            units += f();
        }
        best = best.max(units as f64 / start.elapsed().as_secs_f64().max(1e-9));
        if begin.elapsed().as_secs_f64() >= seconds {
            return best;
        }
    }
}

/// The sum of all numbers, in eight parts that do not wait for each other.
struct Read<'a> {
    data: &'a [f32],
}

impl Op for Read<'_> {
    type Output = f32;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.zero(); 8];
        for chunk in self.data.chunks_exact(8 * S::LANES) {
            for (sum, x) in sums.iter_mut().zip(chunk.chunks_exact(S::LANES)) {
                *sum = s.add(*sum, s.load(x));
            }
        }
        s.sum(sums.into_iter().fold(s.zero(), |a, b| s.add(a, b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_are_always_measured() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(2), [1, 2]);
        assert_eq!(thread_counts(6), [1, 2, 4, 6]);
    }

    #[test]
    fn every_thread_counts() {
        assert_eq!(on_threads(3, |i| i as f64 + 1.0), 6.0);
    }

    #[test]
    fn a_short_measurement_finds_numbers_for_everything() {
        let machine = Machine::measure(0.01, 2, &Isa::all());
        assert_eq!(machine.peaks.len(), 2 * Isa::all().len());
        assert!(machine.peaks.iter().all(|peak| peak.flops_per_second > 1e6), "{machine:?}");
        assert!(machine.bandwidths.iter().all(|level| level.bytes_per_second > 1e6), "{machine:?}");
        assert!(machine.bandwidths.iter().any(|level| level.level == "memory" && level.threads == 2));
    }
}
