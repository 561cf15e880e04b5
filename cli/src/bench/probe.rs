//! Whether the machine is quiet: a product of known speed, a millisecond long, before and after
//! what is measured.
//!
//! A neighbour on the same physical core, seen from inside a virtual machine, is nothing but a
//! slower clock: for seconds the multipliers give half, and loads from L2 a quarter. Figures from
//! such moments say nothing about a kernel. So each repeat runs between two probes, and counts
//! only if both are nearly as fast as the best one of this run.
//!
//! The probe multiplies 256 rows with one panel, both from L2, on every thread at once: a loop that
//! stays in registers is disturbed far less than what kernels do.

use std::time::Instant;

use aquatint_kernels::gemm::{Epilogue, PackedWeights};
use aquatint_kernels::norm::layer::layer_norm_packed;
use aquatint_kernels::packed_input::Activations;
use aquatint_kernels::{Bf16Gain, Isa, Precision, linear};
use aquatint_tensor::Tensor;

/// Rows and depth of the left operand: half a megabyte in bf16, and the most that is one task.
const ROWS: usize = 240;
const DEPTH: usize = 1024;
/// One panel.
const COLUMNS: usize = 32;
/// How long a probe takes.
const SECONDS: f64 = 1e-3;
/// A moment is quiet if its probe reaches this share of the best one.
const QUIET: f64 = 0.85;

/// Products on all threads.
pub(super) struct Probe {
    isa: Isa,
    x: Activations<2>,
    w: PackedWeights,
}

impl Probe {
    /// In bf16 if the instruction set has a unit for that.
    pub(super) fn new(isa: Isa) -> Self {
        let precision = if isa.bf16_gain() == Bf16Gain::None { Precision::F32 } else { Precision::Bf16 };
        let numbers = |[m, k]: [usize; 2]| ((7 * m + 13 * k) % 61) as f32 / 61.0 - 0.5;
        let (weight, bias) = ([1.0; DEPTH], [0.0; DEPTH]);
        let x = Tensor::from_fn([ROWS, DEPTH], numbers);
        let x = layer_norm_packed(isa, x.view(), &weight, &bias, 1e-5, precision);
        let w = PackedWeights::pack_for(precision, Tensor::from_fn([COLUMNS, DEPTH], numbers).view());
        Self { isa, x, w }
    }

    /// Products a second, of the slowest thread: all of them must be undisturbed.
    pub(super) fn run(&self) -> f64 {
        let rates = rayon::broadcast(|_| {
            let (start, mut products) = (Instant::now(), 0.0);
            loop {
                drop(linear::linear(self.isa, &self.x, &self.w, Epilogue::default()));
                products += 1.0;
                let seconds = start.elapsed().as_secs_f64();
                if seconds >= SECONDS {
                    return products / seconds;
                }
            }
        });
        rates.into_iter().fold(f64::INFINITY, f64::min)
    }
}

/// Which of some moments were quiet, by their probes.
pub(super) fn quiet(rates: &[f64]) -> Vec<bool> {
    let best = rates.iter().copied().fold(0.0, f64::max);
    rates.iter().map(|&rate| rate >= QUIET * best).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_takes_about_its_millisecond() {
        for isa in Isa::all() {
            let start = Instant::now();
            assert!(Probe::new(isa).run() > 1.0, "{isa}");
            assert!(start.elapsed().as_secs_f64() >= SECONDS, "{isa}");
        }
    }

    #[test]
    fn quiet_moments_are_near_the_best() {
        assert_eq!(quiet(&[100.0, 84.0, 86.0, 50.0]), [true, false, true, false]);
        assert_eq!(quiet(&[]), [false; 0]);
    }
}
