//! Where complete sums go: [`Store`] writes f32 through the epilogue, `rounding.rs` bf16 for the
//! next product, `gated.rs` values times their gates.

use std::ops::Range;

use super::TileOrigin;
use super::stats::{RunningStats, StatsSink, StatsSlots};
use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;
use crate::cpu::tile::MatmulUnit;
use crate::gemm::{Epilogue, NR, PanelRow};

/// What a task does with complete sums, while they are in the cache.
pub(in crate::gemm) trait OutputSink: Send {
    /// Neighbouring panels that it needs at the same time, 1 or 2.
    const PANELS: usize;

    /// Prefetches what [`store`](Self::store) will read for these rows, when their sums are begun.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, _s: S, _panel: usize, _rows: Range<usize>) {}

    /// Takes some rows of a panel, or of two from `panel` on; both rows and panels are counted from
    /// the task's first. A row of sums for each, of the second panel none if one is needed.
    fn store<S: Simd, U: MatmulUnit>(
        &mut self,
        s: S,
        unit: U,
        panel: usize,
        rows: Range<usize>,
        sums: [&[PanelRow]; 2],
    );
}

/// Writes them to rows of an output, through an epilogue.
pub(in crate::gemm) struct Store<'a, T> {
    pub(in crate::gemm) epilogue: &'a Epilogue<'a, T>,
    /// Of the task's first row and column.
    pub(in crate::gemm) place: TileOrigin,
    /// The task's piece of each of its rows.
    pub(in crate::gemm) out: Vec<&'a mut [T]>,
    /// The statistics of each of its blocks, if they are wanted.
    pub(in crate::gemm) stats: Option<StatsSlots<'a>>,
}

impl<T: Stored> Store<'_, T> {
    /// Of a panel, counted from the task's first.
    #[inline(always)]
    fn place_of(&self, panel: usize) -> TileOrigin {
        TileOrigin { column: self.place.column + panel * NR, ..self.place }
    }

    /// Writes some rows of a panel to the output; `stats` sees them.
    #[inline(always)]
    fn write<S: Simd, U: MatmulUnit>(
        &mut self,
        s: S,
        panel: usize,
        rows: Range<usize>,
        sums: &[PanelRow],
        stats: &mut impl StatsSink<S>,
    ) {
        let (m, place) = (self.place.first_row + rows.start, self.place_of(panel));
        let streamed = size_of::<T>() * place.rows * place.columns >= U::STREAM_FROM;
        let (out, column) = (&mut self.out[rows], panel * NR);
        self.epilogue.store_rows(s, sums, (m, place), streamed, (out, column), stats);
    }

    /// Writes rows, all of one block, and updates its statistics.
    #[inline(always)]
    fn write_block<S: Simd, U: MatmulUnit>(
        &mut self,
        s: S,
        panel: usize,
        rows: Range<usize>,
        sums: &[PanelRow],
    ) {
        let at = (self.place.first_row + rows.start, self.place_of(panel));
        let Some(stats) = &mut self.stats else {
            return self.write::<S, U>(s, panel, rows, sums, &mut ());
        };
        let (before, [mean, _]) = stats.at(rows.start, panel * NR);
        if before == 0 {
            // The block's first row initialises the running mean.
            let mut first = [T::default(); NR];
            let first = &mut first[..mean.len()];
            self.epilogue.store(s, &sums[0], at, first, &mut ());
            let mut buffer = [0.0; NR];
            mean.copy_from_slice(T::widen(s, first, &mut buffer[..first.len()]));
        }
        let mut running = RunningStats::new(s, mean);
        self.write::<S, U>(s, panel, rows.clone(), sums, &mut running);
        if let Some(stats) = &mut self.stats {
            let (before, numbers) = stats.at(rows.start, panel * NR);
            running.merge(s, [before, rows.len()], numbers);
        }
    }
}

impl<T: Stored> OutputSink for Store<'_, T> {
    const PANELS: usize = 1;

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, panel: usize, rows: Range<usize>) {
        let first = self.place.first_row;
        self.epilogue.prefetch(s, first + rows.start..first + rows.end, self.place_of(panel));
    }

    #[inline(always)]
    fn store<S: Simd, U: MatmulUnit>(
        &mut self,
        s: S,
        _: U,
        panel: usize,
        rows: Range<usize>,
        [sums, _]: [&[PanelRow]; 2],
    ) {
        let block = self.stats.as_ref().map_or(usize::MAX, |stats| stats.block);
        let (mut start, mut sums) = (rows.start, sums);
        while start < rows.end {
            let end = rows.end.min((start / block + 1).saturating_mul(block));
            let (these, others) = sums.split_at(end - start);
            self.write_block::<S, U>(s, panel, start..end, these);
            (start, sums) = (end, others);
        }
    }
}
