//! Products of bf16 numbers: one micro-kernel on three back-ends. A job is 32 rows of A times 32
//! columns of B, any number of k-steps deep:
//!
//! ```text
//! sums[32][32] += Σ over k-steps  A[32 rows][32 deep] · B[32 deep][32 columns]
//! ```
//!
//! | unit | where | how |
//! |---|---|---|
//! | `amx` | Intel servers since 2023 | one instruction multiplies 16×32 by 32×16 numbers |
//! | `avx512` | Zen 4, Cooper Lake and newer | one instruction adds 16 products of two pairs |
//! | `software` | everywhere | widens to f32 and uses the f32 register tile: what the others are tested against |
//!
//! All read the same two layouts, which AMX dictates. Neighbours in the depth form one `Pair`,
//! since the instructions add two products to each sum; 16 pairs of 16 rows are a tile register of
//! A (`ATile`), 16 pairs of 32 columns are two registers of B (`BTile`).
//!
//! Read next: `layout.rs`, `software.rs`, `avx512.rs`, `amx/mod.rs`; then `gemm/tiled.rs`.
//! Sources: Intel, *Architecture Instruction Set Extensions Programming Reference*, chapter "Intel
//! AMX"; Burgess et al., *Bfloat16 Processing for Neural Networks* (2019).

mod aligned_buffer;
#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod layout;
pub(crate) mod microkernel;
mod panel;
pub(crate) mod software;

pub(crate) use aligned_buffer::AlignedBuffer;
pub use layout::BTile;
pub(crate) use layout::{ATile, HiLoPlanes, Pair, TILE_K, TILE_M, TileRow, ZERO_TILE, split_bf16};
pub(crate) use panel::MAX_VECTORS;
pub use panel::{NR, PanelRow, Row};

use crate::cpu::simd::Simd;

/// A job: one or two tiles of rows, each with as many k-steps as B has, anywhere in memory.
#[derive(Clone, Copy)]
pub(crate) struct TileJob<'a> {
    /// The upper 16 rows.
    pub(crate) upper: &'a [&'a ATile],
    /// The lower 16 rows, if the job has them.
    pub(crate) lower: Option<&'a [&'a ATile]>,
    /// 32 columns.
    pub(crate) b: &'a [BTile],
    /// Whether the sums begin at zero; otherwise at what they are.
    pub(crate) first: bool,
    /// How much of the last step's depth there is: behind it A and B are zero, and a unit that can
    /// leave that out does.
    pub(crate) last_depth: usize,
}

impl TileJob<'_> {
    /// Panics unless all parts fit each other and the sums. The units rely on it.
    #[inline(always)]
    fn check(&self, sums: &[PanelRow]) {
        let k_steps = self.b.len();
        assert!(self.upper.len() == k_steps && self.lower.is_none_or(|lower| lower.len() == k_steps));
        let rows = if self.lower.is_some() { 2 * TILE_M } else { TILE_M };
        assert_eq!(sums.len(), rows, "a row of sums for each row of A");
    }
}

/// A back-end of the micro-kernel. Holding one proves that the CPU has the instructions.
pub(crate) trait MatmulUnit: Copy {
    /// KC in k-steps: a block of B stays in the L1 cache while all rows of a task use it.
    const KC_STEPS: usize;
    /// KC of a convolution, in k-steps: its taps read nearly the same lines of A.
    const WINDOW_KC_STEPS: usize = Self::KC_STEPS;
    /// Depth in k-steps up to which the 256 rows of a task stay in the L2 cache: 64 are 1 MB, half
    /// the L2 cache of a CPU with a tile unit.
    const CACHED_STEPS: usize = 64;
    /// Outputs of at least this many bytes are written past the caches (streaming stores): they
    /// would not stay there, and each line would be fetched before it is overwritten.
    const STREAM_FROM: usize = usize::MAX;

    /// Rounds of multiply-adds that never leave the registers; see
    /// [`peak`](crate::cpu::peak).
    fn multiply_adds<S: Simd>(self, s: S, rounds: usize) -> Done;

    /// Does a job.
    fn multiply<S: Simd>(self, s: S, job: TileJob<'_>, sums: &mut [PanelRow]);

    /// Does a job, and meanwhile prefetches `ahead` into the L2 cache: tiles of B for later jobs.
    /// A unit may ignore it, if it is slow enough for the CPU's own prefetching to keep up.
    #[inline(always)]
    fn multiply_ahead<S: Simd>(self, s: S, job: TileJob<'_>, _ahead: &[BTile], sums: &mut [PanelRow]) {
        self.multiply(s, job, sums);
    }

    /// Rounds rows of equal length, 32 numbers for each of the planes; row i becomes line `at + i`
    /// of each. What is missing of a line becomes zero.
    #[inline(always)]
    fn round_rows(self, rows: &[&[f32]], planes: &mut [&mut [TileRow]], at: usize) {
        layout::round_rows(rows, planes, at);
    }

    /// Rounds 32 numbers of a row. Fast inside of [`run`](Self::run).
    #[inline(always)]
    fn round_line(self, numbers: &[f32; TILE_K], line: &mut TileRow) {
        layout::round_line(numbers, line);
    }

    /// Rounds rows of a panel and joins neighbours to pairs, 32 rows to a step; what is missing
    /// becomes zero.
    #[inline(always)]
    fn round_panel(self, rows: &[PanelRow], k_steps: &mut [BTile]) {
        layout::round_panel(rows, k_steps);
    }

    /// As [`round_rows`](Self::round_rows), split in two terms: `hi`, the nearest bf16, and `lo`,
    /// the nearest of the rest.
    #[inline(always)]
    fn split_rows(self, rows: &[&[f32]], planes: HiLoPlanes<'_, '_>, at: usize) {
        layout::split_rows(rows, planes, at);
    }

    /// As [`round_panel`](Self::round_panel), split in two terms.
    #[inline(always)]
    fn split_panel(self, rows: &[PanelRow], hi: &mut [BTile], lo: &mut [BTile]) {
        layout::split_panel(rows, hi, lo);
    }

    /// Rounds two vectors that are neighbours in the depth: `pairs[i] = (first[i], second[i])`.
    /// Fast inside of [`run`](Self::run).
    #[inline(always)]
    fn round_pairs<S: Simd>(self, s: S, first: S::V, second: S::V, pairs: &mut [Pair]) {
        layout::round_pairs(s, first, second, pairs);
    }

    /// The tile registers, if this unit is AMX: for a kernel that has tile instructions of its own.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn amx(&self) -> Option<&amx::Configured> {
        None
    }

    /// Runs an operation in a function that is compiled for the unit's instructions too, so that it
    /// can hold what is smaller than a job.
    #[inline(always)]
    fn run<S: Simd, O: UnitOp>(self, s: S, op: O) -> O::Output {
        op.eval(s, self)
    }
}

/// An inner loop that uses vectors and a unit for bf16.
pub(crate) trait UnitOp {
    /// What it computes, if not written in place.
    type Output;
    /// The loop. Implementations must be marked `#[inline(always)]`.
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> Self::Output;
}

/// How much faster products are in bf16 than in f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bf16Gain {
    /// Not at all: operands are widened first, or the instruction is as slow as that.
    None,
    /// Twice: an instruction for pairs at the rate of f32's.
    Twice,
    /// An order of magnitude: a tile unit.
    Tiles,
}

/// What a loop of multiply-adds did.
pub(crate) struct Done {
    pub(crate) operations: usize,
    /// The sum of all lanes of all sums.
    pub(crate) total: f32,
}

/// Rows of A as `hi` and `lo` terms; only rounded if there are no planes for `lo`.
#[inline(always)]
pub(crate) fn split_rows<U: MatmulUnit>(unit: U, rows: &[&[f32]], (hi, lo): HiLoPlanes<'_, '_>, at: usize) {
    match lo {
        [] => unit.round_rows(rows, hi, at),
        _ => unit.split_rows(rows, (hi, lo), at),
    }
}

/// Rows of a panel as `hi` and `lo` terms; only rounded if `lo` is empty.
#[inline(always)]
pub(crate) fn split_panel<U: MatmulUnit>(unit: U, rows: &[PanelRow], hi: &mut [BTile], lo: &mut [BTile]) {
    match lo {
        [] => unit.round_panel(rows, hi),
        _ => unit.split_panel(rows, hi, lo),
    }
}

/// Which term of A meets which term of B: `hi·hi`, or `hi·hi + hi·lo + lo·hi`.
#[inline(always)]
pub(crate) fn term_products(terms: usize) -> &'static [(usize, usize)] {
    if terms == 1 { &[(0, 0)] } else { &[(0, 0), (0, 1), (1, 0)] }
}

#[cfg(test)]
mod tests;
