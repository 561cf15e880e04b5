//! The unit that every CPU has: bf16 widened to f32, which is exact, and the register tile for f32.
//!
//! It is slower than f32 alone, and it is the reason why packing and blocking can be tested on any machine.

use super::{ATile, BStep, Job, STEP, TILE, Unit};
use crate::cpu::peak::{self, Done};
use crate::cpu::simd::Simd;
use crate::gemm::microkernel::{TILE_ROWS, tile};
use crate::gemm::{PANEL, PanelRow};

/// Proof that needs no asking.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Software;

/// Steps that are widened at a time: 16 KB of B.
const CHUNK: usize = 4;

impl Unit for Software {
    const BLOCK_STEPS: usize = 2 * CHUNK;

    /// What remains when the widening costs nothing.
    #[inline(always)]
    fn multiply_adds<S: Simd>(self, s: S, rounds: usize) -> Done {
        peak::of_vectors(s, rounds)
    }

    #[inline(always)]
    fn multiply<S: Simd>(self, s: S, job: Job<'_>, sums: &mut [PanelRow]) {
        job.check(sums);
        if job.b.is_empty() && job.first {
            sums.fill(PanelRow::ZERO);
        }
        let mut a = [[0.0; CHUNK * STEP]; 2 * TILE];
        let mut b = [PanelRow::ZERO; CHUNK * STEP];
        for start in (0..job.b.len()).step_by(CHUNK) {
            let steps = start..job.b.len().min(start + CHUNK);
            let depth = steps.len() * STEP;
            for (k, step) in job.b[steps.clone()].iter().enumerate() {
                widen_b(step, &mut b[k * STEP..]);
            }
            for (i, tiles) in [Some(job.upper), job.lower].into_iter().flatten().enumerate() {
                for (k, tile) in tiles[steps.clone()].iter().enumerate() {
                    widen_a(tile, &mut a[i * TILE..], k * STEP);
                }
            }
            let rows: [&[f32]; 2 * TILE] = std::array::from_fn(|i| &a[i][..depth]);
            for (rows, sums) in rows[..sums.len()].chunks(TILE_ROWS).zip(sums.chunks_mut(TILE_ROWS)) {
                tile(s, rows, &b[..depth], sums, job.first && start == 0);
            }
        }
    }
}

#[inline(always)]
fn widen_a(tile: &ATile, rows: &mut [[f32; CHUNK * STEP]], at: usize) {
    for (line, row) in tile.iter().zip(rows) {
        for (pair, x) in line.0.iter().zip(row[at..].as_chunks_mut().0) {
            *x = [pair.first(), pair.second()];
        }
    }
}

#[inline(always)]
fn widen_b(step: &BStep, rows: &mut [PanelRow]) {
    for (pairs, rows) in step.0.iter().zip(rows.as_chunks_mut().0) {
        let [first, second]: &mut [PanelRow; 2] = rows;
        for i in 0..PANEL {
            first[i] = pairs[i].first();
            second[i] = pairs[i].second();
        }
    }
}
