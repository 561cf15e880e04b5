//! `vdpbf16ps`: each of 16 sums gains two products, so one instruction does twice the work of an f32 multiply-add.
//!
//! On AMD (Zen 4 and newer) it is issued as often as the f32 instruction and is therefore twice as fast; Intel's CPUs issue it a quarter as
//! often, and those that have it since 2023 have AMX too, which is what one should use there.
//!
//! The register tile is 8 rows × 32 columns: 16 sums, two vectors of B, one pair of A in all lanes. Eight divides the 16 rows of
//! an [`ATile`], so that all rows of a register tile are at fixed distances.

use std::arch::x86_64::*;

use super::super::Panel;
use super::{ATile, BStep, Job, Pair, Unit, layout};
use crate::simd::Simd;

/// Proof that the CPU has AVX-512 with bf16. The private field keeps [`detect`](Self::detect) the only way to get one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512Bf16(());

/// Rows of the register tile.
const ROWS: usize = 8;

impl Avx512Bf16 {
    /// A proof, if this CPU has the instructions and the operating system saves the registers.
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        all.then_some(Self(()))
    }
}

impl Unit for Avx512Bf16 {
    /// 320 deep, as many SD's channels are multiples of: 20 KB of B stay in the L1 cache.
    const BLOCK_STEPS: usize = 10;

    #[inline(always)]
    fn multiply<S: Simd>(self, _: S, job: Job<'_>, sums: &mut [Panel]) {
        job.check(sums);
        // SAFETY: `self` exists only if `detect` found the features.
        unsafe { multiply(job, sums) }
    }

    #[inline(always)]
    fn round_rows(self, rows: &[&[f32]], tiles: &mut [ATile]) {
        // SAFETY: as above.
        unsafe { round_rows(rows, tiles) }
    }

    #[inline(always)]
    fn round_panel(self, rows: &[Panel], steps: &mut [BStep]) {
        // SAFETY: as above.
        unsafe { round_panel(rows, steps) }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply(job: Job<'_>, sums: &mut [Panel]) {
    let tiles = [Some(job.upper), job.lower].into_iter().flatten();
    for (a, sums) in tiles.zip(sums.chunks_exact_mut(2 * ROWS)) {
        let (upper, lower) = sums.split_at_mut(ROWS);
        register_tile::<0>(a, job.b, job.first, upper);
        register_tile::<ROWS>(a, job.b, job.first, lower);
    }
}

/// Rows FIRST to FIRST + 8 of A.
#[target_feature(enable = "avx512f,avx512bf16")]
fn register_tile<const FIRST: usize>(a: &[ATile], b: &[BStep], first: bool, sums: &mut [Panel]) {
    let mut sum = [[_mm512_setzero_ps(); 2]; ROWS];
    for (a, b) in a.iter().zip(b) {
        for (k, row) in b.0.iter().enumerate() {
            let b = [load(&row[..16]), load(&row[16..])].map(as_bf16);
            for i in 0..ROWS {
                let a = as_bf16(_mm512_set1_epi32(bits(a.0[FIRST + i][k])));
                for j in 0..2 {
                    sum[i][j] = _mm512_dpbf16_ps(sum[i][j], a, b[j]);
                }
            }
        }
    }
    for (sum, out) in sum.into_iter().zip(sums) {
        for (sum, out) in sum.into_iter().zip(out.as_chunks_mut::<16>().0) {
            // SAFETY: reads 16 numbers that `out` borrows.
            let before = if first { _mm512_setzero_ps() } else { unsafe { _mm512_loadu_ps(out.as_ptr()) } };
            // SAFETY: writes 16 numbers that `out` borrows.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_add_ps(before, sum)) };
        }
    }
}

/// Sixteen pairs.
#[target_feature(enable = "avx512f")]
fn load(pairs: &[Pair]) -> __m512i {
    let pairs: &[Pair; 16] = pairs.first_chunk().expect("a vector's worth of pairs");
    // SAFETY: reads 64 bytes that `pairs` borrows; a `Pair` is a `u32`.
    unsafe { _mm512_loadu_si512(pairs.as_ptr().cast()) }
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
fn round_rows(rows: &[&[f32]], tiles: &mut [ATile]) {
    layout::fill_rows(rows, tiles.len(), |row, step, x| {
        // SAFETY: reads 32 numbers that `x` borrows and writes 64 bytes of a tile that is borrowed for the call; this function is compiled for
        // the features that it is called with.
        #[allow(
            clippy::multiple_unsafe_ops_per_block,
            reason = "two loads, one conversion and one store are one idea"
        )]
        unsafe {
            let [lower, upper] = [0, 16].map(|i| _mm512_loadu_ps(x.as_ptr().add(i)));
            let rounded = as_integers(_mm512_cvtne2ps_pbh(upper, lower));
            _mm512_storeu_si512(tiles[step].0[row].as_mut_ptr().cast(), rounded);
        }
    });
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round_panel(rows: &[Panel], steps: &mut [BStep]) {
    // Word 2i of the result is word i of the lower row, word 2i + 1 is word i of the upper.
    let mut order = [0i16; 32];
    for (i, word) in order.iter_mut().enumerate() {
        *word = (i / 2 + i % 2 * 16) as i16;
    }
    // SAFETY: reads 64 bytes that `order` borrows.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    layout::fill_panel(rows, steps.len(), |step, row, first, second| {
        for column in [0, 16] {
            // SAFETY: reads 16 numbers of each of two rows of 32, and writes as many pairs of a row of 32, all borrowed for the call; this function
            // is compiled for the features that it is called with.
            #[allow(
                clippy::multiple_unsafe_ops_per_block,
                reason = "two loads, a conversion and a store are one idea"
            )]
            unsafe {
                let [first, second] = [first, second].map(|row| _mm512_loadu_ps(row.as_ptr().add(column)));
                let rounded = as_integers(_mm512_cvtne2ps_pbh(second, first));
                let pairs = _mm512_permutexvar_epi16(order, rounded);
                _mm512_storeu_si512(steps[step].0[row].as_mut_ptr().add(column).cast(), pairs);
            }
        }
    });
}
