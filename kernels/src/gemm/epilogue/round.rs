//! A product whose sums are rounded as they are complete, for the product behind it.
//!
//! What attention multiplies is rounded anyway: written so, queries, keys and values take half the
//! memory and are not read once more to be rounded. So is the last residual sum of a transformer.

use std::ops::Range;

use super::store::OutputSink;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{MatmulUnit, TILE_M, TileRow, split_rows};
use crate::gemm::{NR, PanelRow};

/// Rounds sums, and writes them: 32 columns of a row are a line of a plane.
pub(in crate::gemm) struct StoreBf16<'a> {
    /// Of the task's columns, if there is one.
    pub(in crate::gemm) bias: Option<&'a [f32]>,
    /// From the task's first row and column on, and the numbers from a row to the next, if there is
    /// one.
    pub(in crate::gemm) residual: Option<(&'a [f32], usize)>,
    /// Columns that the task has.
    pub(in crate::gemm) columns: usize,
    /// The task's rows of its planes, those of the second part behind those of the first.
    pub(in crate::gemm) planes: Vec<&'a mut [TileRow]>,
}

impl OutputSink for StoreBf16<'_> {
    const PANELS: usize = 1;

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, panel: usize, rows: Range<usize>) {
        let Some((residual, pitch)) = self.residual else { return };
        let width = NR.min(self.columns - panel * NR);
        for row in rows {
            s.prefetch(&residual[row * pitch + panel * NR..][..width]);
        }
    }

    #[inline(always)]
    fn store<S: Simd, U: MatmulUnit>(
        &mut self,
        s: S,
        unit: U,
        panel: usize,
        rows: Range<usize>,
        [sums, _]: [&[PanelRow]; 2],
    ) {
        let width = NR.min(self.columns - panel * NR);
        let (hi, lo) = self.planes.split_at_mut(self.columns.div_ceil(NR));
        let lo = if lo.is_empty() { lo } else { &mut lo[panel..=panel] };
        let hi = &mut hi[panel..=panel];
        let bias = self.bias.map_or(ABSENT, |bias| padded(&bias[panel * NR..][..width]));
        let mut buffer = [PanelRow::ZERO; TILE_M];
        for (sums, first) in sums.chunks(TILE_M).zip(rows.step_by(TILE_M)) {
            let mut numbers: [&[f32]; TILE_M] = [&[]; TILE_M];
            if self.bias.is_none() && self.residual.is_none() {
                numbers.iter_mut().zip(sums).for_each(|(row, sums)| *row = &sums[..width]);
            } else {
                let rows = numbers.iter_mut().zip(sums).zip(&mut buffer);
                for (i, ((row, sums), buffer)) in (first..).zip(rows) {
                    let residual = self.residual.map_or(ABSENT, |(residual, pitch)| {
                        padded(&residual[i * pitch + panel * NR..][..width])
                    });
                    for lanes in (0..NR).step_by(S::LANES) {
                        let sum = s.add(s.load(&sums[lanes..]), s.load(&bias[lanes..]));
                        s.store(s.add(sum, s.load(&residual[lanes..])), &mut buffer[lanes..]);
                    }
                    *row = &buffer[..width];
                }
            }
            split_rows(unit, &numbers[..sums.len()], (hi, lo), first);
        }
    }
}

/// Terms that there are not: −0 can be added to any number, even to −0, and changes nothing.
const ABSENT: [f32; NR] = [-0.0; NR];

/// The columns of a panel; of the last one there may be fewer.
#[inline(always)]
fn padded(columns: &[f32]) -> [f32; NR] {
    columns.first_chunk().copied().unwrap_or_else(|| {
        let mut all = ABSENT;
        all[..columns.len()].copy_from_slice(columns);
        all
    })
}
