//! The most that an instruction set can do: multiply-adds that never leave the registers. Speeds of
//! kernels are shares of it.
//!
//! | unit | in a round | operations |
//! |---|---|---|
//! | vectors of f32 | `sum = sum·0.999 + 0.001` for up to twelve vectors of sums | 2 for each lane |
//! | `avx512_bf16` | `sum += a·b` for twenty vectors, `vdpbf16ps` | 4 for each lane |
//! | `amx` | the same for four tiles, `tdpbf16ps` | 16,384 for each tile |
//!
//! No sum waits for another, and there are more of them than instructions on their way; so what
//! limits the loop is how often the unit starts one. Each loop is beside the instructions that it
//! uses, in `cpu/tile`.
//!
//! A product in [`Bf16x3`](crate::Precision::Bf16x3) runs on the same units as three products. Its
//! operations are counted once, so the most that it can reach is a third of this.

use std::hint::black_box;

use crate::Isa;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{Done, MatmulUnit, UnitOp};

/// Keeps this thread's best unit of `isa` busy for `rounds` rounds, and returns how many
/// multiplications and additions these were: of bf16 where the instruction set has a unit for it,
/// else of f32. The peak in f32 is that of [`Isa::for_f32`].
///
/// ```
/// # use aquatint_kernels::{Isa, cpu::peak};
/// # use std::time::Instant;
/// let start = Instant::now();
/// let operations = peak::multiply_adds(Isa::best(), 1000);
/// println!("{:.1} GFLOP/s", operations as f64 / start.elapsed().as_secs_f64() / 1e9);
/// # assert!(operations > 1000);
/// ```
pub fn multiply_adds(isa: Isa, rounds: usize) -> usize {
    let Done { operations, total } = isa.run_with_unit(MultiplyAdds { rounds });
    black_box(total); // what is never read would not be computed
    operations
}

struct MultiplyAdds {
    rounds: usize,
}

impl UnitOp for MultiplyAdds {
    type Output = Done;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> Done {
        unit.multiply_adds(s, self.rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tile::software::{FACTOR, START, SUMMAND};

    /// Each loop's sums are known, so their total tells how many operations there really were.
    #[test]
    fn every_operation_that_is_counted_was_done() {
        for isa in Isa::all_and_emulated() {
            for rounds in [1, 3, 10] {
                let Done { operations, total } = isa.run_with_unit(MultiplyAdds { rounds });
                let expected = if isa == isa.for_f32() {
                    // 2 operations a round for each lane, all of which hold the same.
                    let lane = (0..rounds).fold(START, |sum, _| sum * FACTOR + SUMMAND);
                    (operations / (2 * rounds)) as f32 * lane
                } else {
                    // Each multiplication and addition of bf16 adds ½·¼ to a sum.
                    (operations / 2) as f32 * 0.125
                };
                assert!((total / expected - 1.0).abs() < 1e-5, "{isa}, {rounds}: {total}, not {expected}");
            }
        }
    }
}
