//! Jobs on 2×2 tiles of sums, each a block of assembly.
//!
//! What sets the limit, measured on one core of an Intel Xeon (virtual, 2 MB of L2 a core) with
//! tiles of random numbers:
//!
//! | where the operands are | GFLOP/s |
//! |---|---|
//! | in registers; ½ and ¼ instead of random numbers | 3450 to 3600; 3800 |
//! | in registers, but four tiles are loaded for every four products, or one | 2850, 2870 |
//! | A and B in the L1 cache, whatever the order of loads | 2300 to 2650 |
//! | A in L1, B in L2 | 2250 to 2700 |
//! | both in L2, which gives 32 bytes a cycle | 1800 to 2100 |
//!
//! So the order of loads and products hardly matters; that there are loads does, and where from.
//!
//! What vectors do meanwhile: while a core uses tiles, 512-bit multiplications, comparisons, shifts
//! and conversions begin once a cycle instead of twice; additions, logic and permutations keep
//! their second port. 64 of the former fit beside the four products of a step and cost nothing, if
//! they stand near: a CPU looks 500 micro-operations ahead, and a tile that is loaded takes nine of
//! them, one that is stored thirty.

use std::arch::asm;
use std::ops::Range;

use super::super::{ATile, BTile, Pair, PanelRow, TILE_M, TileJob, TileRow};

/// Bytes from a row of an `ATile` to the next.
const A_STRIDE: usize = 64;
/// Bytes from a row of a [`BTile`] or of a [`PanelRow`] to the next; the second register's 16
/// columns stand 64 bytes further on.
const WIDE_STRIDE: usize = 128;

/// How the cache lines of `ahead` are spread over `steps`: begin, end, and how many at each
/// step, of which the last have fewer or none.
#[inline(always)]
fn spread(ahead: &[BTile], steps: usize) -> (Range<*const BTile>, usize) {
    let lines = size_of_val(ahead) / size_of::<TileRow>();
    (ahead.as_ptr_range(), lines.div_ceil(steps.max(1)))
}

/// 32 rows × 32 columns of sums in registers 0 to 3; A in 4 and 5, B in 6 and 7. A step:
///
/// ```text
/// cycle       0      16      32      48      64
/// load ports  B0 A0  B1      A1              B0 A0
/// tile unit          A0·B0   A0·B1   A1·B0   A1·B1
/// L2 cache    · · · · · ·
/// ```
///
/// A tile is 16 cache lines, loaded two a cycle: 32 cycles a k-step from the L1 cache. The four
/// products take 16 cycles each, 64 a k-step. Meanwhile some lines of the next panel come from
/// memory into the L2 cache.
///
/// All four sums are stored behind the last step, which is what short jobs lose by: their 64 lines
/// stand in the way of the next job's loads. Jobs of 2, 4 and 8 steps reach 2050, 2450 and 2600
/// GFLOP/s; without stores it would be 2890. That a product is done only 52 cycles after it began
/// costs nothing: chains of products of one register are as fast as those that take turns.
///
/// # Safety
/// AMX is there and configured on this thread; the job has two tiles of rows, the second being
/// `lower`, of as many steps as B; `sums` has 32 rows.
#[inline]
pub(super) unsafe fn two_by_two(job: TileJob<'_>, lower: &[&ATile], ahead: &[BTile], sums: &mut [PanelRow]) {
    const {
        assert!(
            size_of::<[PanelRow; TILE_M]>() == 2048 && size_of::<&ATile>() == 8 && size_of::<BTile>() == 2048
        );
    };
    let (range, pace) = spread(ahead, job.b.len());
    let mut next = range.start;
    // SAFETY: reads the tiles of the operands from start to end and reads and writes 32 rows of
    // sums, all of which are borrowed for the call and as long as the caller vouches for; all
    // registers that change are named.
    unsafe {
        asm!(
            "test {lines}, {lines}",
            "jnz 2f",
            "tileloadd tmm0, [{sums} + {wide}*1]",
            "tileloadd tmm1, [{sums} + {wide}*1 + 64]",
            "tileloadd tmm2, [{sums} + {wide}*1 + 2048]",
            "tileloadd tmm3, [{sums} + {wide}*1 + 2112]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "test {steps}, {steps}",
            "jz 5f",
            "4:",
            "mov {tile}, [{upper}]",
            "tileloadd tmm6, [{b} + {wide}*1]",
            "tileloadd tmm4, [{tile} + {narrow}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {wide}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "mov {tile}, [{lower}]",
            "tileloadd tmm5, [{tile} + {narrow}*1]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "mov {lines}, {pace}",
            "6:",
            "cmp {next}, {end}",
            "jae 7f",
            "prefetcht1 [{next}]",
            "add {next}, 64",
            "dec {lines}",
            "jnz 6b",
            "7:",
            "add {b}, 2048",
            "add {upper}, 8",
            "add {lower}, 8",
            "dec {steps}",
            "jnz 4b",
            "5:",
            "tilestored [{sums} + {wide}*1], tmm0",
            "tilestored [{sums} + {wide}*1 + 64], tmm1",
            "tilestored [{sums} + {wide}*1 + 2048], tmm2",
            "tilestored [{sums} + {wide}*1 + 2112], tmm3",
            // What tells whether to begin at zero is asked once; then its register counts lines.
            lines = inout(reg) u64::from(job.first) => _,
            steps = inout(reg) job.b.len() => _,
            upper = inout(reg) job.upper.as_ptr() => _,
            lower = inout(reg) lower.as_ptr() => _,
            b = inout(reg) job.b.as_ptr() => _,
            next = inout(reg) next,
            end = in(reg) range.end,
            pace = in(reg) pace,
            sums = in(reg) sums.as_mut_ptr(),
            tile = out(reg) _,
            narrow = in(reg) A_STRIDE,
            wide = in(reg) WIDE_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    debug_assert!(next == range.end || job.b.is_empty(), "all lines were asked for");
}

/// 16 rows × 32 columns of sums in registers 0 and 1; A in 4, B in 6 and 7.
///
/// # Safety
/// As for [`two_by_two`], without `lower` and with 16 rows of `sums`.
#[inline]
pub(super) unsafe fn one_by_two(job: TileJob<'_>, ahead: &[BTile], sums: &mut [PanelRow]) {
    let (range, pace) = spread(ahead, job.b.len());
    let mut next = range.start;
    // SAFETY: as in `two_by_two`, with 16 rows of sums.
    unsafe {
        asm!(
            "test {lines}, {lines}",
            "jnz 2f",
            "tileloadd tmm0, [{sums} + {wide}*1]",
            "tileloadd tmm1, [{sums} + {wide}*1 + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "3:",
            "test {steps}, {steps}",
            "jz 5f",
            "4:",
            "mov {tile}, [{a}]",
            "tileloadd tmm6, [{b} + {wide}*1]",
            "tileloadd tmm4, [{tile} + {narrow}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {wide}*1 + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "mov {lines}, {pace}",
            "6:",
            "cmp {next}, {end}",
            "jae 7f",
            "prefetcht1 [{next}]",
            "add {next}, 64",
            "dec {lines}",
            "jnz 6b",
            "7:",
            "add {b}, 2048",
            "add {a}, 8",
            "dec {steps}",
            "jnz 4b",
            "5:",
            "tilestored [{sums} + {wide}*1], tmm0",
            "tilestored [{sums} + {wide}*1 + 64], tmm1",
            lines = inout(reg) u64::from(job.first) => _,
            steps = inout(reg) job.b.len() => _,
            a = inout(reg) job.upper.as_ptr() => _,
            b = inout(reg) job.b.as_ptr() => _,
            next = inout(reg) next,
            end = in(reg) range.end,
            pace = in(reg) pace,
            sums = in(reg) sums.as_mut_ptr(),
            tile = out(reg) _,
            narrow = in(reg) A_STRIDE,
            wide = in(reg) WIDE_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
    debug_assert!(next == range.end || job.b.is_empty(), "all lines were asked for");
}

/// All four sums gain 32 products of ½·¼ in each place, over and over; a register's products are
/// begun every 64 cycles and done after 52.
///
/// # Safety
/// AMX is there and configured on this thread.
pub(super) unsafe fn multiply_adds(rounds: usize, sums: &mut [PanelRow; 2 * TILE_M]) {
    let [a, b] = [0.5f32, 0.25].map(f32::to_bits).map(|x| [TileRow([Pair::of(x, x); 16]); TILE_M]);
    // SAFETY: reads a tile of each operand and writes 32 rows of sums, all of which are borrowed;
    // all registers that change are named.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{a} + {narrow}*1]",
            "tileloadd tmm6, [{b} + {narrow}*1]",
            "test {rounds}, {rounds}",
            "jz 5f",
            "4:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm4, tmm6",
            "tdpbf16ps tmm3, tmm4, tmm6",
            "dec {rounds}",
            "jnz 4b",
            "5:",
            "tilestored [{sums} + {wide}*1], tmm0",
            "tilestored [{sums} + {wide}*1 + 64], tmm1",
            "tilestored [{sums} + {wide}*1 + 2048], tmm2",
            "tilestored [{sums} + {wide}*1 + 2112], tmm3",
            a = in(reg) &a,
            b = in(reg) &b,
            rounds = inout(reg) rounds => _,
            sums = in(reg) sums.as_mut_ptr(),
            narrow = in(reg) A_STRIDE,
            wide = in(reg) WIDE_STRIDE,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm6") _,
            options(nostack),
        );
    }
}
