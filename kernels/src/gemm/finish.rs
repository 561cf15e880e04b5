//! What becomes of the sums of a product when they are complete.

use std::ops::Range;

use super::bf16::Unit;
use super::epilogue::Place;
use super::{Epilogue, PANEL, Panel};
use crate::simd::Simd;

/// What a task does with complete sums, while they are in the cache.
pub(super) trait Finish: Send {
    /// Neighbouring panels that it needs at the same time, 1 or 2.
    const PANELS: usize;

    /// Has fetched what [`store`](Self::store) will read of other memory for these rows of a panel, when their sums are begun.
    #[inline(always)]
    fn expect<S: Simd>(&self, _s: S, _panel: usize, _rows: Range<usize>) {}

    /// Takes some rows of a panel, or of two from `panel` on; both rows and panels are counted from the task's first. A row of sums
    /// for each, of the second panel none if one is needed.
    fn store<S: Simd, U: Unit>(
        &mut self,
        s: S,
        unit: U,
        panel: usize,
        rows: Range<usize>,
        sums: [&[Panel]; 2],
    );
}

/// Writes them to rows of an output, through an epilogue.
pub(super) struct Store<'a> {
    pub(super) epilogue: &'a Epilogue<'a>,
    /// Of the task's first row and column.
    pub(super) place: Place,
    /// The task's piece of each of its rows.
    pub(super) out: Vec<&'a mut [f32]>,
}

impl Store<'_> {
    /// Of a panel, counted from the task's first.
    #[inline(always)]
    fn place_of(&self, panel: usize) -> Place {
        Place { column: self.place.column + panel * PANEL, ..self.place }
    }
}

impl Finish for Store<'_> {
    const PANELS: usize = 1;

    #[inline(always)]
    fn expect<S: Simd>(&self, s: S, panel: usize, rows: Range<usize>) {
        let place = self.place_of(panel);
        for (r, out) in rows.clone().zip(self.out.get(rows).unwrap_or_default()) {
            let width = (out.len() - panel * PANEL).min(PANEL);
            self.epilogue.prefetch(s, self.place.first_row + r, place, width);
        }
    }

    #[inline(always)]
    fn store<S: Simd, U: Unit>(
        &mut self,
        s: S,
        _: U,
        panel: usize,
        rows: Range<usize>,
        [sums, _]: [&[Panel]; 2],
    ) {
        let (first_row, place) = (self.place.first_row, self.place_of(panel));
        let streamed = size_of::<f32>() * place.rows * place.columns >= U::STREAM_FROM;
        for ((r, out), sums) in rows.clone().zip(&mut self.out[rows]).zip(sums) {
            let out = &mut out[panel * PANEL..];
            let width = out.len().min(PANEL);
            self.epilogue.store(s, sums, first_row + r, place, streamed, &mut out[..width]);
        }
    }
}
