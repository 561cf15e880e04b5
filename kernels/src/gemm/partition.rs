//! How a product is cut into tasks, and its output dealt to them.
//!
//! ```text
//!             group 0   group 1   …        of panels of 32 columns
//! chunk 0    [ task ]  [ task ]
//! chunk 1    [ task ]  [ task ]            of whole tiles of rows
//! ```
//!
//! Each task gets its pieces of the output as slices that are its own: no two can write to the same
//! place, and the compiler knows it.
//!
//! A thread does neighbouring tasks one after the other. Of what they have in common, a chunk's
//! rows or a group's weights, the larger is to stay in its cache: so chunk after chunk, if a chunk
//! has more rows than a group has columns, else group after group.

use std::ops::Range;

use super::epilogue::TileOrigin;
use super::epilogue::stats::StatsSlots;
use super::epilogue::store::Store;
use super::{Epilogue, NR};
use crate::cpu::partition::min_tasks;
use crate::cpu::stored::Stored;
use crate::cpu::tile::TileRow;

/// NC: panels of a task, 320 columns.
pub(super) const NC_PANELS: usize = 10;

/// What a task should have, if the product has as much.
#[derive(Clone, Copy)]
pub(super) struct BlockSizes {
    /// Rows of a tile.
    pub(super) tile_rows: usize,
    pub(super) rows: usize,
    pub(super) panels: usize,
}

/// A part of the product.
pub(super) struct Task {
    pub(super) rows: Range<usize>,
    pub(super) panels: Range<usize>,
}

/// How a product is cut into tasks.
pub(super) struct Partition {
    rows: usize,
    panels: usize,
    /// Rows of a task.
    chunk: usize,
    /// Panels of a task.
    pub(super) group: usize,
    /// Whether all tasks of a chunk are neighbours, not all of a group.
    by_chunks: bool,
}

impl Partition {
    /// Equal chunks of whole tiles, and equal groups of panels, of which some are finished
    /// `together`.
    pub(super) fn new(rows: usize, columns: usize, size: BlockSizes, together: usize) -> Self {
        let panels = columns.div_ceil(NR);
        if rows == 0 || panels == 0 {
            return Self { rows, panels, chunk: 1, group: together, by_chunks: false };
        }
        let chunk = rows.div_ceil(rows.div_ceil(size.rows)).next_multiple_of(size.tile_rows);
        let chunks = rows.div_ceil(chunk);
        let groups = panels.div_ceil(size.panels).max(min_tasks().div_ceil(chunks)).min(panels);
        let group = panels.div_ceil(groups).next_multiple_of(together);
        Self { rows, panels, chunk, group, by_chunks: chunk > group * NR }
    }

    /// Chunks of rows, groups of panels.
    fn counts(&self) -> [usize; 2] {
        [self.rows.div_ceil(self.chunk), self.panels.div_ceil(self.group)]
    }

    /// From the number of a task to that with the next chunk, and to that with the next group.
    fn strides(&self) -> [usize; 2] {
        let [chunks, groups] = self.counts();
        if self.by_chunks { [groups, 1] } else { [1, chunks] }
    }

    /// All of them, by number.
    pub(super) fn tasks(&self) -> Vec<Task> {
        let Self { rows, panels, chunk, group, by_chunks } = *self;
        let [chunks, groups] = self.counts();
        let task = |i: usize| {
            let [i, j] = if by_chunks { [i / groups, i % groups] } else { [i % chunks, i / chunks] };
            let (row, panel) = (i * chunk, j * group);
            Task { rows: row..(row + chunk).min(rows), panels: panel..(panel + group).min(panels) }
        };
        (0..groups * chunks).map(task).collect()
    }

    /// For each task its pieces of the rows of an output of which a group of panels has `width`
    /// columns.
    pub(super) fn split_output<'a, T>(&self, out: Vec<&'a mut [T]>, width: usize) -> Vec<Vec<&'a mut [T]>> {
        self.split_output_rows(out, self.chunk, width)
    }

    /// Deals an output that has `chunk` rows for each chunk of the product's.
    fn split_output_rows<'a, T>(
        &self,
        out: Vec<&'a mut [T]>,
        chunk: usize,
        width: usize,
    ) -> Vec<Vec<&'a mut [T]>> {
        let ([chunks, groups], [to_chunk, to_group]) = (self.counts(), self.strides());
        let mut pieces: Vec<_> = (0..chunks * groups).map(|_| Vec::with_capacity(chunk)).collect();
        if pieces.is_empty() {
            return pieces;
        }
        for (m, row) in out.into_iter().enumerate() {
            for (i, piece) in row.chunks_mut(width).enumerate() {
                pieces[m / chunk * to_chunk + i * to_group].push(piece);
            }
        }
        pieces
    }

    /// For each task its rows of planes that take `panels` panels each, all `steps` of a part and
    /// then those of the next.
    pub(super) fn split_planes<'a>(
        &self,
        planes: impl Iterator<Item = &'a mut [TileRow]>,
        steps: usize,
        panels: usize,
    ) -> Vec<Vec<&'a mut [TileRow]>> {
        let ([chunks, groups], [to_chunk, to_group]) = (self.counts(), self.strides());
        let mut pieces: Vec<_> = (0..chunks * groups).map(|_| Vec::new()).collect();
        for (i, plane) in planes.enumerate() {
            for (chunk, piece) in plane.chunks_mut(self.chunk).enumerate() {
                pieces[chunk * to_chunk + i % steps / (self.group / panels) * to_group].push(piece);
            }
        }
        pieces
    }

    /// For each task the place where it stores its part of `out`, whose first row and column stand
    /// at `place`, and of the moments of its blocks, of which a chunk has whole ones.
    pub(super) fn sinks<'a, T: Stored>(
        &self,
        epilogue: &'a Epilogue<'a, T>,
        place: TileOrigin,
        out: Vec<&'a mut [T]>,
        stats: Option<StatsSlots<'a>>,
    ) -> Vec<Store<'a, T>> {
        let width = self.group * NR;
        let pieces = self.split_output(out, width);
        let slots = stats.map(|StatsSlots { block, numbers }| {
            let pieces = self.split_output_rows(numbers, 2 * self.chunk / block, width);
            pieces.into_iter().map(move |numbers| StatsSlots { block, numbers })
        });
        let mut slots = slots.into_iter().flatten();
        let store = |(task, out): (Task, _)| {
            let (first_row, column) = (place.first_row + task.rows.start, task.panels.start * NR);
            Store { epilogue, place: TileOrigin { first_row, column, ..place }, out, stats: slots.next() }
        };
        self.tasks().into_iter().zip(pieces).map(store).collect()
    }
}

/// The rows of an output of `[rows, columns]`.
///
/// # Panics
/// If it has another size.
pub(crate) fn rows_of<T>(out: &mut [T], rows: usize, columns: usize) -> Vec<&mut [T]> {
    assert_eq!(out.len(), rows * columns, "the output must be [{rows}, {columns}]");
    out.chunks_exact_mut(columns.max(1)).collect()
}
