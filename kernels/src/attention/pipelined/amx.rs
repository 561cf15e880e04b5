//! The beats in the instructions of AMX and AVX-512, with the work of both in the order in which it should begin.
//!
//! ```text
//! registers   tmm0 – 2   O                      zmm16 – 18, 20 – 22   rows of scores on their way to weights
//!             tmm5, 6    S                      zmm27 – 30            what the rows share
//!             tmm3, 4, 7 operands
//! ```
//!
//! Where vectors go matters by what they are: as soon as a core uses tiles, multiplications and all that uses the same circuits begin once a cycle
//! instead of twice, but additions, logic and permutations still have a port of their own. That is why the exponential is a table's: of its eight
//! instructions for 32 weights only two multiply. Scores are stored last, so that nothing waits in line behind sums that are not complete.
//!
//! Measured by throw-away programs on an Intel Xeon (virtual, two cores), heads of 40, 4096 keys, both cores at work: 82 ns a beat, of which tiles alone take 67 and vectors
//! alone about 30. In the L1 cache and without exchanging sums, tiles alone would take 50; the registers' limit is 30.

use std::arch::asm;
use std::mem::offset_of;

use super::schedule::{Buffers, EXCESS, GROUP, Iteration, KEYS, QUERIES, ROUNDER, Schedule, Scores, SumTile};
use crate::cpu::tile::amx::{Configured, Vbmi};
use crate::cpu::tile::{ATile, BTile};

/// What the instructions below read: where everything stands, and constants.
#[repr(C, align(64))]
struct Score {
    excess: [u8; 64],
    queries: *const ATile,
    keys: *const BTile,
    values: *const ATile,
    shifts: *const [f32; QUERIES],
    scores: *mut Scores,
    weights: *mut ATile,
    sums: *mut [SumTile; GROUP],
    end: *const Iteration,
    steps: u64,
    factor: f32,
    rounder: f32,
}

/// Row `$row` of the scores becomes row `$row` of the weights, in registers `$a`, `$b`, `$c`: see [`weight`](super::weight).
macro_rules! exp_scores {
    ($($row:literal in $a:literal $b:literal $c:literal),*) => {
        concat!($(
            "vbroadcastss zmm", $a, ", [{shifts} + 4*", $row, "]\n",
            "vbroadcastss zmm", $b, ", [{shifts} + 4*", $row, "]\n",
            "vfmadd231ps zmm", $a, ", zmm27, [{scores} + 128*", $row, "]\n",
            "vfmadd231ps zmm", $b, ", zmm27, [{scores} + 128*", $row, " + 64]\n",
            "vpsubd zmm", $a, ", zmm", $a, ", zmm28\n",
            "vpsubd zmm", $b, ", zmm", $b, ", zmm28\n",
            "vpackusdw zmm", $a, ", zmm", $a, ", zmm", $b, "\n",
            "vpsrlw zmm", $c, ", zmm", $a, ", 2\n",
            "vpermb zmm", $c, " {{k1}} {{z}}, zmm", $c, ", zmm29\n",
            "vpsubw zmm", $a, ", zmm", $a, ", zmm", $c, "\n",
            "vpavgw zmm", $a, ", zmm", $a, ", zmm30\n",
            "vmovdqa64 [{weights} + 64*", $row, "], zmm", $a, "\n",
        )*)
    };
}

/// Does all beats of a plan.
pub(crate) fn run_schedule(_: Vbmi, _: &Configured, schedule: &Schedule, buffers: Buffers<'_>) {
    const {
        assert!(
            size_of::<ATile>() == 1 << 10 && size_of::<BTile>() == 2 << 10 && size_of::<Scores>() == 2 << 10
        );
        assert!(size_of::<[SumTile; GROUP]>() == 3 << 10 && size_of::<[f32; QUERIES]>() == 64 && KEYS == 32);
    };
    schedule.check(&buffers);
    let iterations = schedule.iterations.as_ptr_range();
    let score = Score {
        excess: *EXCESS,
        queries: buffers.queries.as_ptr(),
        keys: buffers.keys.as_ptr(),
        values: buffers.values.as_ptr(),
        shifts: buffers.shifts.as_ptr(),
        scores: buffers.scores.as_mut_ptr(),
        weights: buffers.weights.as_mut_ptr(),
        sums: buffers.sums.as_mut_ptr(),
        end: iterations.end,
        steps: schedule.steps as u64,
        factor: buffers.factor,
        rounder: ROUNDER,
    };
    // SAFETY: the arguments prove that the instructions exist and that this thread's tiles are configured. All places are borrowed for the call by
    // `stage`, and `check` has seen that those that `plan` names are inside of them: `Schedule::new` makes no other beats. All registers that change
    // are named.
    unsafe {
        asm!(
            "vmovdqa64 zmm29, [{score} + {excess}]",
            "vbroadcastss zmm27, [{score} + {factor}]",
            "vpbroadcastd zmm28, [{score} + {rounder}]",
            "vpxord zmm30, zmm30, zmm30",
            // The lower byte of each word: the table's numbers are bytes.
            "mov {left}, 0x5555555555555555",
            "kmovq k1, {left}",
            "2:",
            "mov {left:e}, [{iteration} + {done}]",
            "mov {right:e}, [{iteration} + {begun}]",
            "cmp {left}, {right}",
            "je 3f",
            "lea {left}, [{left} + {left}*2]",
            "shl {left}, 10",
            "add {left}, [{score} + {sums}]",
            "tilestored [{left} + {row}*1], tmm0",
            "tilestored [{left} + {row}*1 + 1024], tmm1",
            "tilestored [{left} + {row}*1 + 2048], tmm2",
            "lea {right}, [{right} + {right}*2]",
            "shl {right}, 10",
            "add {right}, [{score} + {sums}]",
            "tileloadd tmm0, [{right} + {row}*1]",
            "tileloadd tmm1, [{right} + {row}*1 + 1024]",
            "tileloadd tmm2, [{right} + {row}*1 + 2048]",
            "3:",
            "mov {left:e}, [{iteration} + {queries}]",
            "shl {left}, 10",
            "add {left}, [{score} + {all_queries}]",
            "mov {right:e}, [{iteration} + {keys}]",
            "shl {right}, 11",
            "add {right}, [{score} + {all_keys}]",
            "mov {steps}, [{score} + {all_steps}]",
            "tilezero tmm5",
            "tilezero tmm6",
            "4:",
            "tileloadd tmm3, [{left} + {row}*1]",
            "tileloadd tmm4, [{right} + {row}*2]",
            "tdpbf16ps tmm5, tmm3, tmm4",
            "tileloadd tmm7, [{right} + {row}*2 + 64]",
            "tdpbf16ps tmm6, tmm3, tmm7",
            "add {left}, 1024",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 4b",
            "mov {shifts:e}, [{iteration} + {shifted}]",
            "shl {shifts}, 6",
            "add {shifts}, [{score} + {all_shifts}]",
            "mov {scores:e}, [{iteration} + {scored}]",
            "shl {scores}, 11",
            "add {scores}, [{score} + {all_scores}]",
            "mov {weights:e}, [{iteration} + {weighed}]",
            "shl {weights}, 10",
            "add {weights}, [{score} + {all_weights}]",
            exp_scores!(0 in 16 17 18, 1 in 20 21 22, 2 in 16 17 18, 3 in 20 21 22),
            "mov {left:e}, [{iteration} + {weighted}]",
            "shl {left}, 10",
            "add {left}, [{score} + {all_weights}]",
            "mov {right:e}, [{iteration} + {values}]",
            "shl {right}, 10",
            "add {right}, [{score} + {all_values}]",
            "tileloadd tmm7, [{left} + {row}*1]",
            "tileloadd tmm3, [{right} + {row}*1]",
            "tdpbf16ps tmm0, tmm7, tmm3",
            exp_scores!(4 in 16 17 18, 5 in 20 21 22, 6 in 16 17 18, 7 in 20 21 22),
            "tileloadd tmm4, [{right} + {row}*1 + 1024]",
            "tdpbf16ps tmm1, tmm7, tmm4",
            exp_scores!(8 in 16 17 18, 9 in 20 21 22, 10 in 16 17 18, 11 in 20 21 22),
            "tileloadd tmm3, [{right} + {row}*1 + 2048]",
            "tdpbf16ps tmm2, tmm7, tmm3",
            "mov {left:e}, [{iteration} + {to_score}]",
            "shl {left}, 11",
            "add {left}, [{score} + {all_scores}]",
            "tilestored [{left} + {row}*2], tmm5",
            exp_scores!(12 in 16 17 18, 13 in 20 21 22, 14 in 16 17 18, 15 in 20 21 22),
            "tilestored [{left} + {row}*2 + 64], tmm6",
            "add {iteration}, {iteration_size}",
            "cmp {iteration}, [{score} + {end}]",
            "jne 2b",
            score = in(reg) &raw const score,
            iteration = inout(reg) iterations.start => _,
            left = out(reg) _,
            right = out(reg) _,
            shifts = out(reg) _,
            scores = out(reg) _,
            weights = out(reg) _,
            steps = out(reg) _,
            row = in(reg) 64_usize,
            excess = const offset_of!(Score, excess),
            factor = const offset_of!(Score, factor),
            rounder = const offset_of!(Score, rounder),
            all_queries = const offset_of!(Score, queries),
            all_keys = const offset_of!(Score, keys),
            all_values = const offset_of!(Score, values),
            all_shifts = const offset_of!(Score, shifts),
            all_scores = const offset_of!(Score, scores),
            all_weights = const offset_of!(Score, weights),
            all_steps = const offset_of!(Score, steps),
            sums = const offset_of!(Score, sums),
            end = const offset_of!(Score, end),
            queries = const offset_of!(Iteration, queries),
            keys = const offset_of!(Iteration, keys),
            to_score = const offset_of!(Iteration, scores),
            scored = const offset_of!(Iteration, scored),
            shifted = const offset_of!(Iteration, shifts),
            weighed = const offset_of!(Iteration, weights),
            weighted = const offset_of!(Iteration, weighted),
            values = const offset_of!(Iteration, values),
            done = const offset_of!(Iteration, done),
            begun = const offset_of!(Iteration, begun),
            iteration_size = const size_of::<Iteration>(),
            out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm20") _, out("zmm21") _, out("zmm22") _,
            out("zmm27") _, out("zmm28") _, out("zmm29") _, out("zmm30") _, out("k1") _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        );
    }
}

/// `sums += weights · values` over some units, three tiles of values to one of weights.
pub(crate) fn add_values(_: &Configured, weights: &[ATile], values: &[ATile], sums: &mut [SumTile; GROUP]) {
    let units = weights.len();
    assert!(units > 0 && values.len() == GROUP * units, "three tiles of values to one of weights");
    // SAFETY: `Configured` proves that the instructions exist and that this thread's tiles are configured; reads `units` tiles of weights, three
    // times as many of values, and reads and writes three of sums, all of which are borrowed. All registers that change are named.
    unsafe {
        asm!(
            "tileloadd tmm0, [{sums} + {row}*1]",
            "tileloadd tmm1, [{sums} + {row}*1 + 1024]",
            "tileloadd tmm2, [{sums} + {row}*1 + 2048]",
            "2:",
            "tileloadd tmm6, [{weights} + {row}*1]",
            "tileloadd tmm3, [{values} + {row}*1]",
            "tdpbf16ps tmm0, tmm6, tmm3",
            "tileloadd tmm4, [{values} + {row}*1 + 1024]",
            "tdpbf16ps tmm1, tmm6, tmm4",
            "tileloadd tmm5, [{values} + {row}*1 + 2048]",
            "tdpbf16ps tmm2, tmm6, tmm5",
            "add {weights}, 1024",
            "add {values}, 3072",
            "dec {units}",
            "jnz 2b",
            "tilestored [{sums} + {row}*1], tmm0",
            "tilestored [{sums} + {row}*1 + 1024], tmm1",
            "tilestored [{sums} + {row}*1 + 2048], tmm2",
            units = inout(reg) units => _,
            weights = inout(reg) weights.as_ptr() => _,
            values = inout(reg) values.as_ptr() => _,
            sums = in(reg) sums.as_mut_ptr(),
            row = in(reg) 64_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
            options(nostack),
        );
    }
}
