//! The iterations in the instructions of AMX and AVX-512, the work of both in the order in which it
//! should begin.
//!
//! ```text
//!              scores (2 × 2 tiles)   values, 2 × 2     values, third column
//! tmm0 – 3     S                      O                 operands (0 – 3, 6, 7)
//! tmm4 – 7     Q, Q, K, K             P, P, V, V        O, O (4, 5)
//! loads        4 for 4 products       4 for 4           3 for 2
//! ```
//!
//! For heads of 40 that is 15 loads for the 14 products of two tiles of queries and one of keys.
//! Six sums at once would take as many loads, but leave only two registers for operands, of which
//! every load would wait for the product before.
//!
//! A row of 32 scores takes two vectors, in zmm16 – 18 or zmm20 – 22; zmm27 – 30 and k1 are
//! constants. The rows stand between the products in quads. Scores are stored last, so that nothing
//! waits in line behind sums that are not complete.

use std::arch::asm;
use std::mem::offset_of;

use super::numerators::{EXCESS, Exp, ROUNDER};
use super::schedule::{BLOCK, Engine, GROUP, KEYS, PairSums, QUERIES, ScoreStep, ScoreTile, ValueStep};
use crate::cpu::tile::amx::{Configured, Vbmi};
use crate::cpu::tile::{ATile, BTile};

/// Tiles and vectors of a CPU that has both.
pub(super) struct Amx<'a> {
    /// Proves that the tile instructions exist and that this thread's registers are configured.
    _tiles: &'a Configured,
    /// Proves that the vector instructions exist.
    _vectors: Vbmi,
    constants: Constants,
}

impl<'a> Amx<'a> {
    /// With the tiles that are configured, if the CPU has the vector instructions too; `factor` is
    /// log₂e times the scale.
    pub(super) fn new(tiles: &'a Configured, factor: f32) -> Option<Self> {
        let constants = Constants { excess: *EXCESS, factor, rounder: ROUNDER, mask: u64::MAX / 3 };
        tiles.vbmi().map(|vectors| Self { _tiles: tiles, _vectors: vectors, constants })
    }
}

/// What all rows share.
#[repr(C, align(64))]
struct Constants {
    excess: [u8; 64],
    factor: f32,
    rounder: f32,
    /// The lower byte of each word: the table's numbers are bytes.
    mask: u64,
}

/// What the instructions read of an [`Exp`]; all null if there is none.
#[repr(C)]
struct Place {
    shifts: *const [f32; QUERIES],
    scores: *const ScoreTile,
    numerators: *mut ATile,
}

impl Place {
    fn of(exp: Option<Exp<'_>>) -> Self {
        use std::ptr::{null, null_mut};
        match exp {
            Some(Exp { shifts, scores, numerators }) => Self { shifts, scores, numerators },
            None => Self { shifts: null(), scores: null(), numerators: null_mut() },
        }
    }
}

// The sizes that the instructions count on.
const _: () = {
    assert!(size_of::<ATile>() == 1 << 10 && size_of::<BTile>() == 2 << 10);
    assert!(size_of::<ScoreTile>() == 2 << 10 && size_of::<[f32; QUERIES]>() == 64 && KEYS == 32);
    assert!(size_of::<PairSums>() == 6 << 10 && size_of::<Place>() == 24 && GROUP == 3);
};

/// Four rows at a time of a tile of scores.
const QUADS: usize = QUERIES / 4;

/// Loads the constants.
macro_rules! constants {
    () => {
        concat!(
            "vmovdqa64 zmm29, [{constants}]\n",
            "vbroadcastss zmm27, [{constants} + {factor}]\n",
            "vpbroadcastd zmm28, [{constants} + {rounder}]\n",
            "vpxord zmm30, zmm30, zmm30\n",
            "kmovq k1, [{constants} + {mask}]\n",
        )
    };
}

/// Scores become numerators, four rows from `$row` on: see `numerator` in `numerators.rs`.
macro_rules! exp_quad {
    ($row:literal) => {
        concat!(
            exp_row!($row, 0, 16 17 18),
            exp_row!($row, 1, 20 21 22),
            exp_row!($row, 2, 16 17 18),
            exp_row!($row, 3, 20 21 22),
        )
    };
}

/// Row `$row + $i` in registers `$a`, `$b`, `$c`. The shift is loaded once for both vectors.
#[rustfmt::skip]
macro_rules! exp_row {
    ($row:literal, $i:literal, $a:literal $b:literal $c:literal) => {
        concat!(
            "vbroadcastss zmm", $a, ", [{shifts} + 4*(", $row, " + ", $i, ")]\n",
            "vmovaps zmm", $b, ", zmm", $a, "\n",
            "vfmadd231ps zmm", $a, ", zmm27, [{scores} + 128*(", $row, " + ", $i, ")]\n",
            "vfmadd231ps zmm", $b, ", zmm27, [{scores} + 128*(", $row, " + ", $i, ") + 64]\n",
            "vpsubd zmm", $a, ", zmm", $a, ", zmm28\n",
            "vpsubd zmm", $b, ", zmm", $b, ", zmm28\n",
            "vpackusdw zmm", $a, ", zmm", $a, ", zmm", $b, "\n",
            "vpsrlw zmm", $c, ", zmm", $a, ", 2\n",
            "vpermb zmm", $c, " {{k1}} {{z}}, zmm", $c, ", zmm29\n",
            "vpsubw zmm", $a, ", zmm", $a, ", zmm", $c, "\n",
            "vpavgw zmm", $a, ", zmm", $a, ", zmm30\n",
            "vmovdqa64 [{numerators} + 64*(", $row, " + ", $i, ")], zmm", $a, "\n",
        )
    };
}

/// Finds a tile of scores at `{place}`; skips to label `$none` if there is none.
#[rustfmt::skip]
macro_rules! find_place {
    ($none:literal) => {
        concat!(
            "mov {scores}, [{place} + 8]\n",
            "test {scores}, {scores}\n",
            "jz ", $none, "f\n",
            "mov {shifts}, [{place}]\n",
            "mov {numerators}, [{place} + 16]\n",
        )
    };
}

/// The third column of V for a tile of keys, operands in registers `$v`, `$upper`, `$lower`;
/// meanwhile the last quad of rows.
#[rustfmt::skip]
macro_rules! third_column {
    ($v:literal $upper:literal $lower:literal, $none:literal) => {
        concat!(
            "tileloadd tmm", $v, ", [{v} + {row}*1 + 2048]\n",
            "tileloadd tmm", $upper, ", [{p} + {row}*1]\n",
            "tdpbf16ps tmm4, tmm", $upper, ", tmm", $v, "\n",
            "tileloadd tmm", $lower, ", [{p} + {row}*1 + 1024]\n",
            "tdpbf16ps tmm5, tmm", $lower, ", tmm", $v, "\n",
            find_place!($none),
            exp_quad!(12),
            $none, ":\n",
            "add {p}, 2048\n",
            "add {v}, 3072\n",
            "add {place}, 24\n",
        )
    };
}

impl Engine for &Amx<'_> {
    fn scores(self, step: ScoreStep<'_>, exp: Option<Exp<'_>>) {
        step.check();
        let ScoreStep { queries, keys, scores: out } = step;
        let (steps, quads) = (keys.len(), if exp.is_some() { QUADS } else { 0 });
        let Place { shifts, scores, numerators } = Place::of(exp);
        // SAFETY: `self` proves that the instructions exist and that this thread's tiles are
        // configured. `check` has seen that Q has two tiles for each step of K; scores that come
        // and go, shifts and numerators are whole tiles, borrowed for the call, and only touched if
        // there are quads. All registers that change are named.
        unsafe {
            asm!(
                constants!(),
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                "tileloadd tmm6, [{k} + {row}*2]",
                "tileloadd tmm4, [{upper} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{k} + {row}*2 + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{lower} + {row}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "mov {now}, {pace}",
                "3:",
                "test {quads}, {quads}",
                "jz 4f",
                exp_quad!(0),
                "add {shifts}, 16",
                "add {scores}, 512",
                "add {numerators}, 256",
                "dec {quads}",
                "dec {now}",
                "jnz 3b",
                "4:",
                "add {k}, 2048",
                "add {upper}, 1024",
                "add {lower}, 1024",
                "dec {steps}",
                "jnz 2b",
                "tilestored [{out} + {row}*2], tmm0",
                "tilestored [{out} + {row}*2 + 64], tmm1",
                "tilestored [{out} + {row}*2 + 2048], tmm2",
                "tilestored [{out} + {row}*2 + 2112], tmm3",
                constants = in(reg) &raw const self.constants,
                factor = const offset_of!(Constants, factor),
                rounder = const offset_of!(Constants, rounder),
                mask = const offset_of!(Constants, mask),
                shifts = inout(reg) shifts => _,
                scores = inout(reg) scores => _,
                numerators = inout(reg) numerators => _,
                upper = inout(reg) queries.as_ptr() => _,
                lower = inout(reg) queries[steps..].as_ptr() => _,
                k = inout(reg) keys.as_ptr() => _,
                out = in(reg) out.as_mut_ptr(),
                steps = inout(reg) steps => _,
                quads = inout(reg) quads => _,
                // So many at each step that none are left behind the last.
                pace = in(reg) QUADS.div_ceil(steps),
                now = out(reg) _,
                row = in(reg) 64_usize,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm20") _, out("zmm21") _, out("zmm22") _,
                out("zmm27") _, out("zmm28") _, out("zmm29") _, out("zmm30") _, out("k1") _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    fn values(self, step: ValueStep<'_>, exps: [Option<Exp<'_>>; BLOCK]) {
        step.check();
        let ValueStep { numerators, values, sums } = step;
        let places = exps.map(Place::of);
        // SAFETY: as above; `check` has seen that there are three tiles of V for each pair of P,
        // and at most as many as there are places. P, V, sums and what the places name are borrowed
        // for the call.
        unsafe {
            asm!(
                constants!(),
                "tileloadd tmm0, [{sums} + {row}*1]",
                "tileloadd tmm1, [{sums} + {row}*1 + 1024]",
                "tileloadd tmm2, [{sums} + {row}*1 + 3072]",
                "tileloadd tmm3, [{sums} + {row}*1 + 4096]",
                "2:",
                "tileloadd tmm6, [{v} + {row}*1]",
                "tileloadd tmm4, [{p} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{v} + {row}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{p} + {row}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                find_place!("3"),
                exp_quad!(0),
                exp_quad!(4),
                exp_quad!(8),
                "3:",
                "add {p}, 2048",
                "add {v}, 3072",
                "add {place}, 24",
                "dec {tiles}",
                "jnz 2b",
                "tilestored [{sums} + {row}*1], tmm0",
                "tilestored [{sums} + {row}*1 + 1024], tmm1",
                "tilestored [{sums} + {row}*1 + 3072], tmm2",
                "tilestored [{sums} + {row}*1 + 4096], tmm3",
                "tileloadd tmm4, [{sums} + {row}*1 + 2048]",
                "tileloadd tmm5, [{sums} + {row}*1 + 5120]",
                // Back to the first tile of keys.
                "lea {scores}, [{again} + {again}*2]",
                "mov {shifts}, {again}",
                "shl {shifts}, 11",
                "sub {p}, {shifts}",
                "lea {shifts}, [{scores}*8]",
                "sub {place}, {shifts}",
                "shl {scores}, 10",
                "sub {v}, {scores}",
                "4:",
                third_column!(6 7 0, "5"),
                "dec {again}",
                "jz 7f",
                third_column!(1 2 3, "6"),
                "dec {again}",
                "jnz 4b",
                "7:",
                "tilestored [{sums} + {row}*1 + 2048], tmm4",
                "tilestored [{sums} + {row}*1 + 5120], tmm5",
                constants = in(reg) &raw const self.constants,
                factor = const offset_of!(Constants, factor),
                rounder = const offset_of!(Constants, rounder),
                mask = const offset_of!(Constants, mask),
                place = inout(reg) places.as_ptr() => _,
                p = inout(reg) numerators.as_ptr() => _,
                v = inout(reg) values.as_ptr() => _,
                sums = in(reg) sums.as_mut_ptr(),
                tiles = inout(reg) numerators.len() => _,
                again = inout(reg) numerators.len() => _,
                shifts = out(reg) _,
                scores = out(reg) _,
                numerators = out(reg) _,
                row = in(reg) 64_usize,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm20") _, out("zmm21") _, out("zmm22") _,
                out("zmm27") _, out("zmm28") _, out("zmm29") _, out("zmm30") _, out("k1") _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    fn exp(self, exp: Exp<'_>) {
        let Place { shifts, scores, numerators } = Place::of(Some(exp));
        // SAFETY: `self` proves that the instructions exist; a tile of each operand is borrowed for
        // the call.
        unsafe {
            asm!(
                constants!(),
                exp_quad!(0),
                exp_quad!(4),
                exp_quad!(8),
                exp_quad!(12),
                constants = in(reg) &raw const self.constants,
                factor = const offset_of!(Constants, factor),
                rounder = const offset_of!(Constants, rounder),
                mask = const offset_of!(Constants, mask),
                shifts = in(reg) shifts,
                scores = in(reg) scores,
                numerators = in(reg) numerators,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm20") _, out("zmm21") _, out("zmm22") _,
                out("zmm27") _, out("zmm28") _, out("zmm29") _, out("zmm30") _, out("k1") _,
                options(nostack),
            );
        }
    }
}
