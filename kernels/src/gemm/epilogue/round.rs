//! A product whose sums are rounded as they are complete, for the product behind it.
//!
//! What attention multiplies is rounded anyway: written so, queries, keys and values take half the memory and are not read once more to be rounded.

use std::ops::Range;

use super::store::OutputSink;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{MatmulUnit, TILE_M, TileRow, split_rows};
use crate::gemm::{NR, PanelRow};

/// Rounds sums, and writes them: 32 columns of a row are a line of a plane.
pub(in crate::gemm) struct StoreBf16<'a> {
    /// Of the task's columns, if there is one.
    pub(in crate::gemm) bias: Option<&'a [f32]>,
    /// Columns that the task has.
    pub(in crate::gemm) columns: usize,
    /// The task's rows of its planes, those of the second part behind those of the first.
    pub(in crate::gemm) planes: Vec<&'a mut [TileRow]>,
}

impl OutputSink for StoreBf16<'_> {
    const PANELS: usize = 1;

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
        let bias = self.bias.map(|bias| &bias[panel * NR..][..width]);
        let mut buffer = [PanelRow::ZERO; TILE_M];
        for (sums, first) in sums.chunks(TILE_M).zip(rows.step_by(TILE_M)) {
            let mut numbers: [&[f32]; TILE_M] = [&[]; TILE_M];
            match bias {
                None => numbers.iter_mut().zip(sums).for_each(|(row, sums)| *row = &sums[..width]),
                Some(bias) => {
                    for ((row, sums), buffer) in numbers.iter_mut().zip(sums).zip(&mut buffer) {
                        s.zip(&mut buffer[..width], &sums[..width], bias, |a, b| s.add(a, b));
                        *row = &buffer[..width];
                    }
                }
            }
            split_rows(unit, &numbers[..sums.len()], (hi, lo), first);
        }
    }
}
