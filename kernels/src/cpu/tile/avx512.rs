//! `vdpbf16ps`: each of 16 sums gains two products, so one instruction does twice the work of an
//! f32 multiply-add.
//!
//! On AMD (Zen 4 and newer) it is issued as often as the f32 instruction and is therefore twice as
//! fast; Intel's CPUs issue it a quarter as often, and those that have it since 2023 have AMX too,
//! which is what one should use there.
//!
//! The register tile is 8 rows × 32 columns: 16 sums, two vectors of B, one pair of A in all lanes.
//! Eight divides the 16 rows of an `ATile`, so that all rows of a register tile are at fixed
//! distances.

use std::arch::x86_64::*;

use super::{
    ATile, BTile, Bf16Gain, Done, HiLoPlanes, MatmulUnit, NR, Pair, PanelRow, TILE_K, TileJob, TileRow,
    UnitOp, layout,
};
use crate::cpu::simd::Simd;

/// Proof that the CPU has AVX-512 with bf16. The private field keeps [`detect`](Self::detect) the
/// only way to get one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512Bf16(());

/// Rows of the register tile.
const ROWS: usize = 8;

impl Avx512Bf16 {
    /// A proof, if this CPU has the instructions and the operating system saves the registers.
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bf16");
        all.then_some(Self(()))
    }

    /// How much faster than f32 it is, which depends on who made the CPU.
    pub(crate) fn gain(self) -> Bf16Gain {
        let maker = __cpuid(0);
        let maker = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
        if maker.as_flattened() == b"AuthenticAMD" { Bf16Gain::Twice } else { Bf16Gain::None }
    }

    /// Runs `op`, which uses some unit or other, in a function that is compiled for these
    /// instructions.
    #[inline]
    pub(super) fn run_with<S: Simd, U: MatmulUnit, O: UnitOp>(self, s: S, unit: U, op: O) -> O::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512bf16")]
        fn compiled_for_bf16<S: Simd, U: MatmulUnit, O: UnitOp>(s: S, unit: U, op: O) -> O::Output {
            op.eval(s, unit)
        }
        // SAFETY: `self` exists only if `detect` found the features.
        unsafe { compiled_for_bf16(s, unit, op) }
    }
}

impl MatmulUnit for Avx512Bf16 {
    /// 640 deep, or 576: two turns of nine taps. Half as long, B would stay in the L1 cache, but it
    /// comes from L2 as fast as it is used, and sums are fetched and put back half as often: on Zen
    /// 4, convolutions gain 1 to 3 % and linear layers nothing.
    const KC_STEPS: usize = 20;

    #[inline(always)]
    fn multiply_adds<S: Simd>(self, _: S, rounds: usize) -> Done {
        // SAFETY: `self` exists only if `detect` found the features.
        unsafe { multiply_adds(rounds) }
    }

    #[inline(always)]
    fn multiply<S: Simd>(self, _: S, job: TileJob<'_>, sums: &mut [PanelRow]) {
        job.check(sums);
        // SAFETY: `self` exists only if `detect` found the features.
        unsafe { multiply(job, sums) }
    }

    #[inline(always)]
    fn round_rows(self, rows: &[&[f32]], planes: &mut [&mut [TileRow]], at: usize) {
        // SAFETY: as above.
        unsafe { round_rows(rows, planes, at) }
    }

    #[inline(always)]
    fn round_line(self, numbers: &[f32; TILE_K], line: &mut TileRow) {
        // SAFETY: as above.
        unsafe { round_line(numbers, line) }
    }

    #[inline(always)]
    fn round_panel(self, rows: &[PanelRow], k_steps: &mut [BTile]) {
        // SAFETY: as above.
        unsafe { round_panel(rows, k_steps) }
    }

    #[inline(always)]
    fn split_rows(self, rows: &[&[f32]], planes: HiLoPlanes<'_, '_>, at: usize) {
        // SAFETY: as above.
        unsafe { split_rows(rows, planes, at) }
    }

    #[inline(always)]
    fn split_panel(self, rows: &[PanelRow], hi: &mut [BTile], lo: &mut [BTile]) {
        // SAFETY: as above.
        unsafe { split_panel(rows, hi, lo) }
    }

    #[inline(always)]
    fn round_pairs<S: Simd>(self, s: S, first: S::V, second: S::V, pairs: &mut [Pair]) {
        if S::LANES != 16 {
            return layout::round_pairs(s, first, second, pairs);
        }
        // A detour that the compiler sees through: all three are the same register.
        let mut rows = [[0.0; 16]; 2];
        s.store(first, &mut rows[0]);
        s.store(second, &mut rows[1]);
        // SAFETY: as above.
        unsafe { round_pairs(&rows[0], &rows[1], pairs) }
    }

    #[inline(always)]
    fn run<S: Simd, O: UnitOp>(self, s: S, op: O) -> O::Output {
        self.run_with(s, self, op)
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply(job: TileJob<'_>, sums: &mut [PanelRow]) {
    let tiles = [Some(job.upper), job.lower].into_iter().flatten();
    for (a, sums) in tiles.zip(sums.chunks_exact_mut(2 * ROWS)) {
        let (upper, lower) = sums.split_at_mut(ROWS);
        register_tile::<0>(a, job, upper);
        register_tile::<ROWS>(a, job, lower);
    }
}

/// Rows FIRST to FIRST + 8 of A.
#[target_feature(enable = "avx512f,avx512bf16")]
fn register_tile<const FIRST: usize>(a: &[&ATile], job: TileJob<'_>, sums: &mut [PanelRow]) {
    let TileJob { b, first, last_depth, .. } = job;
    let mut sum = [[_mm512_setzero_ps(); 2]; ROWS];
    if let (Some((last_a, a)), Some((last_b, b))) = (a.split_last(), b.split_last()) {
        for (a, b) in a.iter().zip(b) {
            add_step::<FIRST>(a, &b.0, &mut sum);
        }
        match last_b.0.get(..last_depth.div_ceil(2)) {
            Some(pairs) if last_depth < TILE_K => add_step::<FIRST>(last_a, pairs, &mut sum),
            _ => add_step::<FIRST>(last_a, &last_b.0, &mut sum),
        }
    }
    for (sum, out) in sum.into_iter().zip(sums) {
        for (sum, out) in sum.into_iter().zip(out.as_chunks_mut::<16>().0) {
            let before = if first { _mm512_setzero_ps() } else { load(out) };
            let after = _mm512_add_ps(before, sum);
            // SAFETY: writes 16 numbers that `out` borrows.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), after) };
        }
    }
}

/// The products of a step, or of as many pairs of its depth as `b` has.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_step<const FIRST: usize>(a: &ATile, b: &[[Pair; NR]], sum: &mut [[__m512; 2]; ROWS]) {
    for (k, row) in b.iter().enumerate() {
        let b = [load_pairs(&row[..16]), load_pairs(&row[16..])].map(as_bf16);
        for i in 0..ROWS {
            let a = as_bf16(_mm512_set1_epi32(bits(a[FIRST + i].0[k])));
            for j in 0..2 {
                sum[i][j] = _mm512_dpbf16_ps(sum[i][j], a, b[j]);
            }
        }
    }
}

/// ½·¼ + ½·¼ to each lane of twenty sums, over and over: six cycles of latency hide behind twelve
/// instructions at two a cycle.
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_adds(rounds: usize) -> Done {
    const SUMS: usize = 20;
    let [a, b] = [0.5f32, 0.25].map(|x| Pair::of(x.to_bits(), x.to_bits()));
    let [a, b] = [a, b].map(|pair| as_bf16(_mm512_set1_epi32(bits(pair))));
    // Opaque, or the compiler would see that all are equal.
    let mut sums = std::hint::black_box([_mm512_setzero_ps(); SUMS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, a, b);
        }
    }
    let total = sums.into_iter().fold(_mm512_setzero_ps(), |a, b| _mm512_add_ps(a, b));
    Done { operations: 4 * 16 * SUMS * rounds, total: _mm512_reduce_add_ps(total) }
}

/// Sixteen numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(numbers: &[f32]) -> __m512 {
    let numbers: &[f32; 16] = numbers.first_chunk().expect("a vector's worth of numbers");
    // SAFETY: reads 64 bytes that `numbers` borrows.
    unsafe { _mm512_loadu_ps(numbers.as_ptr()) }
}

/// Sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_pairs(pairs: &[Pair]) -> __m512i {
    let pairs: &[Pair; 16] = pairs.first_chunk().expect("a vector's worth of pairs");
    // SAFETY: reads 64 bytes that `pairs` borrows; a `Pair` is a `u32`.
    unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
}

/// Writes sixteen pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_pairs(v: __m512i, pairs: &mut [Pair]) {
    let pairs: &mut [Pair; 16] = pairs.first_chunk_mut().expect("room for a vector of pairs");
    // SAFETY: writes 64 bytes that `pairs` borrows; a `Pair` is a `u32`, for which any bits will
    // do.
    unsafe { _mm512_storeu_si512(pairs.as_mut_ptr().cast(), v) }
}

/// The same bits, called bf16.
#[inline(always)]
fn as_bf16(pairs: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of plain data.
    unsafe { std::mem::transmute(pairs) }
}

/// The same bits, called integers.
#[inline(always)]
fn as_integers(pairs: __m512bh) -> __m512i {
    // SAFETY: both are 512 bits of plain data.
    unsafe { std::mem::transmute(pairs) }
}

#[inline(always)]
fn bits(pair: Pair) -> i32 {
    pair.bits().cast_signed()
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn round_rows(rows: &[&[f32]], planes: &mut [&mut [TileRow]], at: usize) {
    layout::fill_rows(rows, planes.len(), |row, step, x| {
        round_line(x, &mut planes[step][at + row]);
    });
}

/// 32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round_line(numbers: &[f32; TILE_K], line: &mut TileRow) {
    store_pairs(as_integers(_mm512_cvtne2ps_pbh(load(&numbers[16..]), load(numbers))), &mut line.0);
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round_panel(rows: &[PanelRow], k_steps: &mut [BTile]) {
    layout::fill_panel(rows, k_steps.len(), |step, row, first, second| {
        for column in [0, 16] {
            round_pairs(&first[column..], &second[column..], &mut k_steps[step].0[row][column..]);
        }
    });
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn split_rows(rows: &[&[f32]], (hi, lo): HiLoPlanes<'_, '_>, at: usize) {
    layout::fill_rows(rows, hi.len(), |row, step, x| {
        let hi_lo = split(load(x), load(&x[16..]));
        for (planes, half) in [&mut *hi, &mut *lo].into_iter().zip(hi_lo) {
            store_pairs(half, &mut planes[step][at + row].0);
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn split_panel(rows: &[PanelRow], hi: &mut [BTile], lo: &mut [BTile]) {
    layout::fill_panel(rows, hi.len(), |step, row, first, second| {
        for column in [0, 16] {
            let hi_lo = split(load(&first[column..]), load(&second[column..]));
            for (k_steps, half) in [&mut *hi, &mut *lo].into_iter().zip(hi_lo) {
                store_pairs(in_pairs(half), &mut k_steps[step].0[row][column..]);
            }
        }
    });
}

/// The nearest bf16 of 32 numbers, and the nearest of what is left of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn split(first: __m512, second: __m512) -> [__m512i; 2] {
    let hi = as_integers(_mm512_cvtne2ps_pbh(second, first));
    let widened = |half: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
    let first = _mm512_sub_ps(first, widened(_mm512_castsi512_si256(hi)));
    let second = _mm512_sub_ps(second, widened(_mm512_extracti64x4_epi64::<1>(hi)));
    [hi, as_integers(_mm512_cvtne2ps_pbh(second, first))]
}

/// Sixteen pairs `(first[i], second[i])`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round_pairs(first: &[f32], second: &[f32], pairs: &mut [Pair]) {
    store_pairs(in_pairs(as_integers(_mm512_cvtne2ps_pbh(load(second), load(first)))), pairs);
}

/// Sixteen numbers of a row and sixteen of the next, with neighbours in the depth side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_pairs(rows: __m512i) -> __m512i {
    // Word 2i of the result is word i, one of the first row; word 2i + 1 is word i + 16, one of the
    // second.
    let mut order = [Pair::default(); 16];
    for (i, pair) in (0..).zip(&mut order) {
        *pair = Pair::of(i << 16, (i + 16) << 16);
    }
    _mm512_permutexvar_epi16(load_pairs(&order), rows)
}
