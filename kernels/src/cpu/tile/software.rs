//! The unit that every CPU has: bf16 widened to f32, which is exact, and the register tile for f32.
//!
//! It is slower than f32 alone, and it is the reason why packing and blocking can be tested on any
//! machine.

use super::microkernel::{MR, tile};
use super::{ATile, BTile, Done, MatmulUnit, NR, PanelRow, TILE_K, TILE_M, TileJob};
use crate::cpu::simd::Simd;

/// Proof that needs no asking.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Software;

/// Steps that are widened at a time: 16 KB of B.
const CHUNK: usize = 4;

impl MatmulUnit for Software {
    const KC_STEPS: usize = 2 * CHUNK;

    /// What remains when the widening costs nothing.
    #[inline(always)]
    fn multiply_adds<S: Simd>(self, s: S, rounds: usize) -> Done {
        multiply_adds(s, rounds)
    }

    #[inline(always)]
    fn multiply<S: Simd>(self, s: S, job: TileJob<'_>, sums: &mut [PanelRow]) {
        job.check(sums);
        if job.b.is_empty() && job.first {
            sums.fill(PanelRow::ZERO);
        }
        let mut a = [[0.0; CHUNK * TILE_K]; 2 * TILE_M];
        let mut b = [PanelRow::ZERO; CHUNK * TILE_K];
        for start in (0..job.b.len()).step_by(CHUNK) {
            let k_steps = start..job.b.len().min(start + CHUNK);
            let depth = k_steps.len() * TILE_K;
            for (k, step) in job.b[k_steps.clone()].iter().enumerate() {
                widen_b(step, &mut b[k * TILE_K..]);
            }
            for (i, tiles) in [Some(job.upper), job.lower].into_iter().flatten().enumerate() {
                for (k, tile) in tiles[k_steps.clone()].iter().enumerate() {
                    widen_a(tile, &mut a[i * TILE_M..], k * TILE_K);
                }
            }
            let rows: [&[f32]; 2 * TILE_M] = std::array::from_fn(|i| &a[i][..depth]);
            for (rows, sums) in rows[..sums.len()].chunks(MR).zip(sums.chunks_mut(MR)) {
                tile(s, rows, &b[..depth], sums, job.first && start == 0);
            }
        }
    }
}

#[inline(always)]
fn widen_a(tile: &ATile, rows: &mut [[f32; CHUNK * TILE_K]], at: usize) {
    for (line, row) in tile.iter().zip(rows) {
        for (pair, x) in line.0.iter().zip(row[at..].as_chunks_mut().0) {
            *x = [pair.first(), pair.second()];
        }
    }
}

#[inline(always)]
fn widen_b(step: &BTile, rows: &mut [PanelRow]) {
    for (pairs, rows) in step.0.iter().zip(rows.as_chunks_mut().0) {
        let [first, second]: &mut [PanelRow; 2] = rows;
        for i in 0..NR {
            first[i] = pairs[i].first();
            second[i] = pairs[i].second();
        }
    }
}

/// Independent sums, at most: eight hide four cycles of latency at two multiply-adds a cycle, and a
/// few more do no harm.
const SUMS: usize = 12;
pub(crate) const START: f32 = 0.5;
pub(crate) const FACTOR: f32 = 0.999;
pub(crate) const SUMMAND: f32 = 0.001;

/// `sum = sum·0.999 + 0.001` in all lanes of independent sums.
#[inline(always)]
fn multiply_adds<S: Simd>(s: S, rounds: usize) -> Done {
    let sums = SUMS.min(S::REGISTERS - 2); // the others hold what is multiplied and added
    let (factor, summand) = (s.splat(FACTOR), s.splat(SUMMAND));
    let mut sum = [s.splat(START); SUMS];
    for _ in 0..rounds {
        for sum in &mut sum[..sums] {
            *sum = s.mul_add(*sum, factor, summand);
        }
    }
    let total = sum[..sums].iter().fold(s.zero(), |a, &b| s.add(a, b));
    Done { operations: 2 * S::LANES * sums * rounds, total: s.sum(total) }
}
