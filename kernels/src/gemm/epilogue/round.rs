//! A product whose sums are rounded as they are complete, for the product behind it.
//!
//! What attention multiplies is rounded anyway: written so, queries, keys and values take half the memory and are not read once more to be rounded.

use std::ops::Range;

use super::store::Finish;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{Line, TILE, Unit, split_rows};
use crate::gemm::{PANEL, PanelRow};

/// Rounds sums, and writes them: 32 columns of a row are a line of a plane.
pub(in crate::gemm) struct StoreRounded<'a> {
    /// Of the task's columns, if there is one.
    pub(in crate::gemm) bias: Option<&'a [f32]>,
    /// Columns that the task has.
    pub(in crate::gemm) columns: usize,
    /// The task's rows of its planes, those of the second part behind those of the first.
    pub(in crate::gemm) planes: Vec<&'a mut [Line]>,
}

impl Finish for StoreRounded<'_> {
    const PANELS: usize = 1;

    #[inline(always)]
    fn store<S: Simd, U: Unit>(
        &mut self,
        s: S,
        unit: U,
        panel: usize,
        rows: Range<usize>,
        [sums, _]: [&[PanelRow]; 2],
    ) {
        let width = PANEL.min(self.columns - panel * PANEL);
        let (high, low) = self.planes.split_at_mut(self.columns.div_ceil(PANEL));
        let low = if low.is_empty() { low } else { &mut low[panel..=panel] };
        let high = &mut high[panel..=panel];
        let bias = self.bias.map(|bias| &bias[panel * PANEL..][..width]);
        let mut room = [PanelRow::ZERO; TILE];
        for (sums, first) in sums.chunks(TILE).zip(rows.step_by(TILE)) {
            let mut numbers: [&[f32]; TILE] = [&[]; TILE];
            match bias {
                None => numbers.iter_mut().zip(sums).for_each(|(row, sums)| *row = &sums[..width]),
                Some(bias) => {
                    for ((row, sums), room) in numbers.iter_mut().zip(sums).zip(&mut room) {
                        s.zip(&mut room[..width], &sums[..width], bias, |a, b| s.add(a, b));
                        *row = &room[..width];
                    }
                }
            }
            split_rows(unit, &numbers[..sums.len()], (high, low), first);
        }
    }
}
