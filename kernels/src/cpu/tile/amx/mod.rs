//! Intel AMX: eight tile registers of 16 rows × 64 bytes, and an instruction that multiplies two of
//! them.
//!
//! ```text
//! tdpbf16ps c, a, b      c[16][16] += a[16 rows][32 deep] · b[32 deep][16 columns]
//!                        16,384 operations in 16 cycles
//! ```
//!
//! A tile of A is 16 rows of 32 bf16. In a tile of B two neighbours in the depth share a word,
//! since the instruction adds two products to each sum; `layout.rs` has both.
//!
//! `tiles.rs` has the kernel: 2×2 tiles of sums, so that each tile that is loaded is used twice. A
//! block of B stays in L1 while A comes from L2 (`gemm/tiled.rs`); the measurements are there.
//!
//! The intrinsics are not stable in Rust, inline assembly is. The compiler cannot keep a value in a
//! tile register, so one whole job, from the first sum to the last, is one `asm!` block.
//!
//! A process asks for the registers ([`Amx::detect`], `permission.rs`), each thread configures them
//! ([`Amx::configure`]) and releases them when a task ends. `emulator.rs` is for tests elsewhere.
//! Source: Intel, *64 and IA-32 Architectures Optimization Reference Manual*, chapter "Intel AMX".

#[cfg(all(test, target_os = "linux"))]
mod emulator;
mod permission;
mod tiles;

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::avx512::Avx512Bf16;
use super::{
    BTile, Done, HiLoPlanes, MatmulUnit, NR, Pair, PanelRow, TILE_K, TILE_M, TileJob, TileRow, UnitOp, layout,
};
use crate::cpu::simd::Simd;

/// Proof that the CPU has AMX with bf16 and that this process may use it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Amx {
    /// Every CPU with AMX can also round with one instruction; one whose AMX is emulated may not.
    round: Option<Avx512Bf16>,
    /// For pipelined attention; absent when AMX is emulated on a CPU without it.
    vbmi: Option<Vbmi>,
}

impl Amx {
    /// A proof, if CPU, operating system and kernel agree. The permission is asked for once; it
    /// holds for all threads, those that exist and those to come.
    pub(crate) fn detect() -> Option<Self> {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        let granted = *GRANTED.get_or_init(|| permission::is_present() && permission::ask());
        granted.then(Self::of_this_cpu)
    }

    /// The real unit, or one whose instructions are emulated.
    #[cfg(all(test, target_os = "linux"))]
    pub(crate) fn real_or_emulated() -> Self {
        Self::detect().unwrap_or_else(|| {
            emulator::install();
            Self::of_this_cpu()
        })
    }

    /// With all that the CPU has beside the tiles.
    fn of_this_cpu() -> Self {
        Self { round: Avx512Bf16::detect(), vbmi: Vbmi::detect() }
    }

    /// Whether tiles and vectors can work at the same time, as pipelined attention does.
    pub(crate) fn can_pipeline(self) -> bool {
        self.vbmi.is_some()
    }

    /// Configures this thread's tile registers until the result is dropped.
    ///
    /// # Panics
    /// If they are configured: dropping the inner of two would release the registers of both.
    #[inline]
    pub(crate) fn configure(self) -> Configured {
        assert!(!CONFIGURED.replace(true), "this thread's tile registers are configured already");
        // SAFETY: `self` proves that the instruction exists; it reads the 64 bytes of a constant,
        // which are a valid configuration, and changes nothing but tile registers, which no
        // compiled code uses.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &CONFIGURATION, options(nostack, readonly, preserves_flags));
        };
        Configured { amx: self, on_this_thread: PhantomData }
    }
}

/// Proof that the CPU has the vector instructions that work in the shadow of tile instructions
/// (AVX-512 VBMI).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vbmi(());

impl Vbmi {
    /// A proof, if the CPU has them. All CPUs with AMX have; one whose AMX is emulated may not.
    fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi");
        all.then_some(Self(()))
    }
}

/// Proof that this thread's tile registers are configured. It cannot be sent to another thread.
pub(crate) struct Configured {
    amx: Amx,
    on_this_thread: PhantomData<*const ()>,
}

impl Configured {
    /// The vector instructions beside the tiles, if the CPU has them.
    pub(crate) fn vbmi(&self) -> Option<Vbmi> {
        self.amx.vbmi
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // SAFETY: the instruction exists, since there was an `Amx`; it changes nothing but tile
        // registers.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        CONFIGURED.set(false);
    }
}

thread_local! {
    /// Whether a [`Configured`] of this thread exists.
    static CONFIGURED: Cell<bool> = const { Cell::new(false) };
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

impl MatmulUnit for &Configured {
    /// 256 deep: 16 KB of B stay in the L1 cache for all rows of a task, and only A comes from L2,
    /// which cannot deliver both as fast as they are used. Sums are fetched and put back more
    /// often, which costs less: against 126 steps, linear layers take 9 % less time.
    const KC_STEPS: usize = 8;
    /// 4032 deep: the 90 steps of a 3×3 window over 320 channels, and its multiples, need few or no
    /// second rounds for the sums. 250 KB of B and an image's rows, of which the nine taps share
    /// nearly all, stay in an L2 cache of 2 MB.
    const WINDOW_KC_STEPS: usize = 126;
    /// As large as the L2 cache. On the virtual machine where this was measured L3 is no faster
    /// than memory (17 GB/s a core), so what is streamed loses nothing: linear layers take 4 % less
    /// time, convolutions of the VAE 10 %.
    const STREAM_FROM: usize = 2 << 20;

    #[inline(always)]
    fn multiply_adds<S: Simd>(self, _: S, rounds: usize) -> Done {
        let mut sums = [PanelRow::ZERO; 2 * TILE_M];
        // SAFETY: `self` proves that the instructions exist and this thread's registers are
        // configured.
        unsafe { tiles::multiply_adds(rounds, &mut sums) };
        let total = sums.iter().flat_map(|row| row.iter()).sum();
        Done { operations: 2 * 32 * NR * 2 * TILE_M * rounds, total }
    }

    #[inline(always)]
    fn multiply<S: Simd>(self, s: S, job: TileJob<'_>, sums: &mut [PanelRow]) {
        self.multiply_ahead(s, job, &[], sums);
    }

    #[inline(always)]
    fn multiply_ahead<S: Simd>(self, _: S, job: TileJob<'_>, ahead: &[BTile], sums: &mut [PanelRow]) {
        job.check(sums);
        match job.lower {
            // SAFETY: `self` proves that the instructions exist and this thread's registers are
            // configured; `check` that all three operands have as many tiles as there are steps,
            // and that there are 32 rows of sums.
            Some(lower) => unsafe { tiles::two_by_two(job, lower, ahead, sums) },
            // SAFETY: as above, with 16 rows of sums.
            None => unsafe { tiles::one_by_two(job, ahead, sums) },
        }
    }

    #[inline(always)]
    fn round_rows(self, rows: &[&[f32]], planes: &mut [&mut [TileRow]], at: usize) {
        match self.amx.round {
            Some(unit) => unit.round_rows(rows, planes, at),
            None => layout::round_rows(rows, planes, at),
        }
    }

    #[inline(always)]
    fn round_line(self, numbers: &[f32; TILE_K], line: &mut TileRow) {
        match self.amx.round {
            Some(unit) => unit.round_line(numbers, line),
            None => layout::round_line(numbers, line),
        }
    }

    #[inline(always)]
    fn round_panel(self, rows: &[PanelRow], steps: &mut [BTile]) {
        match self.amx.round {
            Some(unit) => unit.round_panel(rows, steps),
            None => layout::round_panel(rows, steps),
        }
    }

    #[inline(always)]
    fn split_rows(self, rows: &[&[f32]], planes: HiLoPlanes<'_, '_>, at: usize) {
        match self.amx.round {
            Some(unit) => unit.split_rows(rows, planes, at),
            None => layout::split_rows(rows, planes, at),
        }
    }

    #[inline(always)]
    fn split_panel(self, rows: &[PanelRow], hi: &mut [BTile], lo: &mut [BTile]) {
        match self.amx.round {
            Some(unit) => unit.split_panel(rows, hi, lo),
            None => layout::split_panel(rows, hi, lo),
        }
    }

    #[inline(always)]
    fn round_pairs<S: Simd>(self, s: S, first: S::V, second: S::V, pairs: &mut [Pair]) {
        match self.amx.round {
            Some(unit) => unit.round_pairs(s, first, second, pairs),
            None => layout::round_pairs(s, first, second, pairs),
        }
    }

    #[inline(always)]
    fn amx(&self) -> Option<&Configured> {
        Some(self)
    }

    #[inline(always)]
    fn run<S: Simd, O: UnitOp>(self, s: S, op: O) -> O::Output {
        match self.amx.round {
            Some(unit) => unit.run_with(s, self, op),
            None => op.eval(s, self),
        }
    }
}
