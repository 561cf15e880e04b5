//! Intel AMX: eight registers that hold a tile each, 16 rows of 64 bytes, and an instruction that multiplies two of them.
//!
//! ```text
//! tdpbf16ps c, a, b      c[16][16] += a[16 rows][32 deep] · b[32 deep][16 columns]      16,384 operations in 16 cycles
//! ```
//!
//! A job works on 2×2 tiles of sums, so that each tile of A and of B that is loaded is used twice; [`two_by_two`] has the schedule. What the products
//! do not wait for is the L2 cache, if the weights are there in time: they are fetched while the panel before them is at work.
//!
//! GFLOP/s of a core, tiles of random numbers, throw-away programs on an Intel Xeon (virtual, 2 MB of L2 a core):
//!
//! | | |
//! |---|---|
//! | products of registers that never change; of ½ and ¼, of random numbers | 3800, 3450 to 3600 |
//! | the same with a single load for every four products, or with four | 2870, 2850 |
//! | A and B in the L1 cache, whatever the order of loads | 2300 to 2650 |
//! | A in L1, B in L2 | 2250 to 2700 |
//! | both in L2: 32 bytes a cycle come from there | 1800 to 2100 |
//!
//! So the order of loads and products hardly matters; that there are loads does, and where from.
//!
//! What the vectors do meanwhile: while a core uses tiles, 512-bit multiplications, comparisons, shifts and conversions begin once a cycle instead of
//! twice; additions, logic and permutations keep their second port. Of the former 64 fit beside the four products of a step and cost nothing, if
//! they stand near: a CPU looks 500 micro-operations ahead, and a tile that is loaded takes nine of them, one that is stored thirty.
//!
//! The intrinsics are not stable in Rust, inline assembly is. The compiler cannot keep a value in a tile register, it can
//! only be told that one is overwritten: so one whole job, from the first sum to the last, is one `asm!` block.
//!
//! Three things must hold before the first tile instruction. The CPU has them (CPUID), the operating system saves the registers (XCR0), and the
//! kernel has granted this process the 8 KB for each thread that this takes (`arch_prctl`, since Linux 5.16); [`Amx::detect`] asks all three. Then
//! each thread configures its registers: [`Amx::configure`]. They are released when the task ends, for a core with live tiles
//! neither switches threads as cheaply nor sleeps as deeply.
//!
//! Source: Intel, *64 and IA-32 Architectures Optimization Reference Manual*, chapter "Intel AMX".

use std::arch::asm;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::OnceLock;

use super::super::{PANEL, Panel};
use super::avx512::Avx512Bf16;
use super::beats::{GROUP, Plan, Stage, SumTile};
use super::{ATile, BStep, Job, Line, Pair, Planes, STEP, TILE, Unit, beats, layout};
use crate::isa::UnitOp;
use crate::peak::Done;
use crate::simd::Simd;

/// Proof that the CPU has AMX with bf16 and that this process may use it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amx {
    /// Every CPU with AMX can also round with one instruction; one whose AMX is emulated may not.
    round: Option<Avx512Bf16>,
    /// So it is with what the vectors do during [`beats`].
    vectors: Option<beats::amx::Vectors>,
}

impl Amx {
    /// A proof, if CPU, operating system and kernel agree. The permission is asked for once; it holds for all threads, those that exist and those to come.
    pub(crate) fn detect() -> Option<Self> {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        let granted = *GRANTED.get_or_init(|| is_present() && ask_permission());
        granted.then(Self::of_this_cpu)
    }

    /// The real unit, or one whose instructions are emulated.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn real_or_emulated() -> Self {
        Self::detect().unwrap_or_else(|| {
            super::amx_emulator::install();
            Self::of_this_cpu()
        })
    }

    /// With all that the CPU has beside the tiles.
    fn of_this_cpu() -> Self {
        Self { round: Avx512Bf16::detect(), vectors: beats::amx::Vectors::detect() }
    }

    /// Whether tiles and vectors can work at the same time: see [`beats`].
    pub(crate) fn has_beats(self) -> bool {
        self.vectors.is_some()
    }

    /// Configures this thread's tile registers until the result is dropped. Once at a time: the inner of two would release both.
    #[inline]
    pub(crate) fn configure(self) -> Configured {
        // SAFETY: `self` proves that the instruction exists; it reads the 64 bytes of a constant, which are a valid configuration, and changes
        // nothing but tile registers, which no compiled code uses.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly, preserves_flags));
        };
        Configured { amx: self, on_this_thread: PhantomData }
    }
}

/// Proof that this thread's tile registers are configured. It cannot be sent to another thread.
pub(crate) struct Configured {
    amx: Amx,
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the instruction exists, since there was an `Amx`; it changes nothing but tile registers.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// For each register: bytes in a row. There are eight registers, and room for eight more.
    bytes_per_row: [u16; 16],
    /// For each register: rows.
    rows: [u8; 16],
}

/// All eight registers as large as they can be.
static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Unit for &Configured {
    /// 256 deep: 16 KB of B stay in the L1 cache for all rows of a task, and only A comes from L2, which cannot deliver both as fast as they are used.
    /// Sums are fetched and put back more often, which costs less: against 126 steps, linear layers take 9 % less time.
    const BLOCK_STEPS: usize = 8;
    /// 4032 deep: the 90 steps of a 3×3 window over 320 channels, and its multiples, need few or no second rounds for the sums. 250 KB of B and
    /// an image's rows, of which the nine taps share nearly all, stay in an L2 cache of 2 MB.
    const WINDOW_BLOCK_STEPS: usize = 126;
    /// As large as the L2 cache. On the virtual machine where this was measured L3 is no faster than memory (17 GB/s a core), so what is streamed
    /// loses nothing: linear layers take 4 % less time, convolutions of the VAE 10 %.
    const STREAM_FROM: usize = 2 << 20;

    #[inline(always)]
    fn multiply_adds<S: Simd>(self, _: S, rounds: usize) -> Done {
        let mut sums = [Panel::ZERO; 2 * TILE];
        // SAFETY: `self` proves that the instructions exist and this thread's registers are configured.
        unsafe { multiply_adds(rounds, &mut sums) };
        let total = sums.iter().flat_map(|row| row.iter()).sum();
        Done { operations: 2 * 32 * PANEL * 2 * TILE * rounds, total }
    }

    #[inline(always)]
    fn multiply<S: Simd>(self, s: S, job: Job<'_>, sums: &mut [Panel]) {
        self.multiply_ahead(s, job, &[], sums);
    }

    #[inline(always)]
    fn multiply_ahead<S: Simd>(self, _: S, job: Job<'_>, ahead: &[BStep], sums: &mut [Panel]) {
        job.check(sums);
        match job.lower {
            // SAFETY: `self` proves that the instructions exist and this thread's registers are configured; `check` that all three
            // operands have as many tiles as there are steps, and that there are 32 rows of sums.
            Some(lower) => unsafe { two_by_two(job, lower, ahead, sums) },
            // SAFETY: as above, with 16 rows of sums.
            None => unsafe { one_by_two(job, ahead, sums) },
        }
    }

    #[inline(always)]
    fn round_rows(self, rows: &[&[f32]], planes: &mut [&mut [Line]], at: usize) {
        match self.amx.round {
            Some(unit) => unit.round_rows(rows, planes, at),
            None => layout::round_rows(rows, planes, at),
        }
    }

    #[inline(always)]
    fn round_line(self, numbers: &[f32; STEP], line: &mut Line) {
        match self.amx.round {
            Some(unit) => unit.round_line(numbers, line),
            None => layout::round_line(numbers, line),
        }
    }

    #[inline(always)]
    fn round_panel(self, rows: &[Panel], steps: &mut [BStep]) {
        match self.amx.round {
            Some(unit) => unit.round_panel(rows, steps),
            None => layout::round_panel(rows, steps),
        }
    }

    #[inline(always)]
    fn split_rows(self, rows: &[&[f32]], planes: Planes<'_, '_>, at: usize) {
        match self.amx.round {
            Some(unit) => unit.split_rows(rows, planes, at),
            None => layout::split_rows(rows, planes, at),
        }
    }

    #[inline(always)]
    fn split_panel(self, rows: &[Panel], high: &mut [BStep], low: &mut [BStep]) {
        match self.amx.round {
            Some(unit) => unit.split_panel(rows, high, low),
            None => layout::split_panel(rows, high, low),
        }
    }

    #[inline(always)]
    fn round_pairs<S: Simd>(self, s: S, first: S::V, second: S::V, pairs: &mut [Pair]) {
        match self.amx.round {
            Some(unit) => unit.round_pairs(s, first, second, pairs),
            None => layout::round_pairs(s, first, second, pairs),
        }
    }

    fn play(self, plan: &Plan, stage: Stage<'_>) {
        match self.amx.vectors {
            Some(vectors) => beats::amx::play(vectors, self, plan, stage),
            None => beats::play(plan, stage),
        }
    }

    fn add_values(self, weights: &[ATile], values: &[ATile], sums: &mut [SumTile; GROUP]) {
        beats::amx::add_values(self, weights, values, sums);
    }

    #[inline(always)]
    fn run<S: Simd, O: UnitOp>(self, s: S, op: O) -> O::Output {
        match self.amx.round {
            Some(unit) => unit.run_with(s, self, op),
            None => op.eval(s, self),
        }
    }
}

/// Bytes from a row of an `ATile` to the next.
const A_STRIDE: usize = 64;
/// Bytes from a row of a [`BStep`] or of a [`Panel`] to the next; the second register's 16 columns stand 64 bytes further on.
const WIDE_STRIDE: usize = 128;

/// How the cache lines of `ahead` are spread over so many steps: begin, end, and how many at each step, of which the last have fewer or none.
#[inline(always)]
fn spread(ahead: &[BStep], steps: usize) -> (Range<*const BStep>, usize) {
    let lines = size_of_val(ahead) / size_of::<Line>();
    (ahead.as_ptr_range(), lines.div_ceil(steps.max(1)))
}

/// 32 rows × 32 columns of sums in registers 0 to 3; A in 4 and 5, B in 6 and 7. A step:
///
/// ```text
/// cycle       0      16      32      48      64
/// load ports  B0 A0  B1      A1              B0 A0        a tile is 16 lines, two a cycle: 32 cycles a step, from the L1 cache
/// tile unit          A0·B0   A0·B1   A1·B0   A1·B1        16 cycles each, 64 a step
/// L2 cache    · · · · · ·                                 some lines of what is wanted next, from memory
/// ```
///
/// All four sums are stored behind the last step, which is what short jobs lose by: their 64 lines stand in the way of the next job's loads. Jobs of
/// 2, 4 and 8 steps reach 2050, 2450 and 2600 GFLOP/s; without stores it would be 2890. That a product is done only 52 cycles after it began costs
/// nothing: chains of products of one register are as fast as those that take turns.
///
/// # Safety
/// AMX is there and configured on this thread; the job has two tiles of rows, the second being `lower`, of as many steps as B; `sums` has 32 rows.
#[inline]
unsafe fn two_by_two(job: Job<'_>, lower: &[&ATile], ahead: &[BStep], sums: &mut [Panel]) {
    const {
        assert!(size_of::<[Panel; TILE]>() == 2048 && size_of::<&ATile>() == 8 && size_of::<BStep>() == 2048);
    };
    let (range, pace) = spread(ahead, job.b.len());
    let mut next = range.start;
    // SAFETY: reads the tiles of the operands from start to end and reads and writes 32 rows of sums, all of which are borrowed for the call and
    // as long as the caller vouches for; all registers that change are named.
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
unsafe fn one_by_two(job: Job<'_>, ahead: &[BStep], sums: &mut [Panel]) {
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

/// All four sums gain 32 products of ½·¼ in each place, over and over; a register's products are begun every 64 cycles and done after 52.
///
/// # Safety
/// AMX is there and configured on this thread.
unsafe fn multiply_adds(rounds: usize, sums: &mut [Panel; 2 * TILE]) {
    let [a, b] = [0.5f32, 0.25].map(f32::to_bits).map(|x| [Line([Pair::of(x, x); 16]); TILE]);
    // SAFETY: reads a tile of each operand and writes 32 rows of sums, all of which are borrowed; all registers that change are named.
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

/// Whether the CPU has tiles with bf16 products, and the operating system saves them.
fn is_present() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    /// CPUID leaf 7, EDX: AMX-BF16 and AMX-TILE.
    const AMX: u32 = 1 << 22 | 1 << 24;
    /// XCR0: tile configuration and tile data.
    const SAVED: u64 = 1 << 17 | 1 << 18;
    // That AVX-512 is usable implies that XGETBV is.
    if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("xsave") || __cpuid(0).eax < 7 {
        return false;
    }
    // SAFETY: `xsave` was detected just above.
    __cpuid_count(7, 0).edx & AMX == AMX && unsafe { _xgetbv(0) } & SAVED == SAVED
}

/// Asks the kernel for the tile registers; whether it grants them.
#[cfg(target_os = "linux")]
fn ask_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two integers; it only changes what this process may use, and how large the signal frames are that it gets.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems have other ways to ask, which nobody has tried yet.
#[cfg(not(target_os = "linux"))]
fn ask_permission() -> bool {
    false
}
