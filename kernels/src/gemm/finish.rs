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

impl Finish for Store<'_> {
    const PANELS: usize = 1;

    #[inline(always)]
    fn store<S: Simd, U: Unit>(
        &mut self,
        s: S,
        _: U,
        panel: usize,
        rows: Range<usize>,
        [sums, _]: [&[Panel]; 2],
    ) {
        let Place { first_row, column, .. } = self.place;
        let place = Place { column: column + panel * PANEL, ..self.place };
        for ((r, out), sums) in rows.clone().zip(&mut self.out[rows]).zip(sums) {
            let out = &mut out[panel * PANEL..];
            let width = out.len().min(PANEL);
            self.epilogue.store(s, sums, first_row + r, place, &mut out[..width]);
        }
    }
}
