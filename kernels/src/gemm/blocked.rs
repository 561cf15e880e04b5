//! The production form: the product cut so that every level of the memory holds what the next one needs.
//!
//! ```text
//! in parallel: for each chunk of rows × group of panels (a task; its sums stay in the L2 cache)
//!     for each block of the depth                       (a block of a panel stays in the L1 cache)
//!         take the rows of A                            (f32: where they are; bf16: rounded, in tiles)
//!         for each panel of the group                   (weights are read once per task, in order)
//!             for each tile of rows                     (its sums live in registers)
//!                 sums += rows · panel
//!     write the sums to the output, through the epilogue
//! ```
//!
//! The weights' precision picks the tile: 12 rows in f32 (`microkernel.rs`) or a job for a unit ([`bf16`](super::bf16)). All else is the same.
//!
//! The cut depends on the shape alone and each sum has a fixed order, so the result is the same, bit for bit, on any
//! number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::bf16::{ATile, Job, STEP, TILE, Unit, ZERO_TILE, products, split_rows};
use super::epilogue::Place;
use super::microkernel::{ROW_STEP, TILE_ROWS, tile};
use super::rows::{MAX_PART, Part, ZEROS};
use super::weights::Panel;
use super::{Epilogue, PANEL, Rows, Weights};
use crate::isa::UnitOp;
use crate::simd::{Op, Simd};
use crate::{Isa, Precision};

/// Depth of a block: 256 rows of a panel are 32 KB, two thirds of today's L1 caches.
const BLOCK_DEPTH: usize = 256;
/// Rows of a task in f32: with [`TASK_PANELS`] panels their sums take 300 KB, their parts of a block another 240 KB.
const TASK_ROWS: usize = 20 * TILE_ROWS;
/// Rows of a task in bf16.
const UNIT_TASK_ROWS: usize = 8 * JOB_ROWS;
/// Rows of a full job of a unit.
const JOB_ROWS: usize = 2 * TILE;
/// Panels of a task.
const TASK_PANELS: usize = 10;
/// With fewer tasks than this, panels are spread over more of them, so that all cores have work.
const MIN_TASKS: usize = 16;

/// `out[m, n] = epilogue(Σₖ a[m, k]·w[n, k])` for `rows` rows; `out: [rows, w.out_features()]`, row-major.
///
/// # Panics
/// If `out` or the epilogue's terms have other sizes.
pub fn product(isa: Isa, rows: usize, a: &impl Rows, w: &Weights, epilogue: &Epilogue<'_>, out: &mut [f32]) {
    let columns = w.out_features();
    assert_eq!(out.len(), rows * columns, "the output must be [{rows}, {columns}]");
    product_into(isa, a, w, epilogue, out.chunks_exact_mut(columns.max(1)).collect());
}

/// The same, row m of the product going to `out[m]`: the rows of the output may stand anywhere.
pub(crate) fn product_into(
    isa: Isa,
    a: &impl Rows,
    w: &Weights,
    epilogue: &Epilogue<'_>,
    out: Vec<&mut [f32]>,
) {
    let (rows, columns) = (out.len(), w.out_features());
    epilogue.check(rows, columns);
    let (tile_rows, task_rows) = match w.precision() {
        Precision::F32 => (TILE_ROWS, TASK_ROWS),
        Precision::Bf16 | Precision::Bf16x3 => (JOB_ROWS, UNIT_TASK_ROWS),
    };
    tasks(columns, [tile_rows, task_rows], out).into_par_iter().for_each(|task| {
        SCRATCH.with_borrow_mut(|scratch| {
            let place = Place { column: task.panels.start * PANEL, rows, columns };
            let run = Run { a, w, epilogue, place, task, scratch };
            match w.precision() {
                Precision::F32 => isa.run(run),
                Precision::Bf16 | Precision::Bf16x3 => isa.run_with_unit(run),
            }
        });
    });
}

/// A part of the output, and the pieces of its rows.
struct Task<'a> {
    rows: Range<usize>,
    panels: Range<usize>,
    out: Vec<&'a mut [f32]>,
}

/// Cuts `[rows, columns]` into tasks of whole tiles. They are sorted by panels, so that neighbours read the same weights.
fn tasks(columns: usize, [tile_rows, task_rows]: [usize; 2], out: Vec<&mut [f32]>) -> Vec<Task<'_>> {
    let (rows, panels) = (out.len(), columns.div_ceil(PANEL));
    if rows == 0 || panels == 0 {
        return Vec::new();
    }
    // Equal chunks of whole tiles, and equal groups of panels.
    let chunk = rows.div_ceil(rows.div_ceil(task_rows)).next_multiple_of(tile_rows);
    let chunks = rows.div_ceil(chunk);
    let groups = panels.div_ceil(TASK_PANELS).max(MIN_TASKS.div_ceil(chunks)).min(panels);
    let group = panels.div_ceil(groups);
    let groups = panels.div_ceil(group);

    let mut tasks: Vec<Task<'_>> = (0..groups * chunks)
        .map(|i| {
            let (panel, row) = (i / chunks * group, i % chunks * chunk);
            let rows = row..(row + chunk).min(rows);
            Task { out: Vec::with_capacity(rows.len()), rows, panels: panel..(panel + group).min(panels) }
        })
        .collect();
    for (m, row) in out.into_iter().enumerate() {
        for (i, piece) in row.chunks_mut(group * PANEL).enumerate() {
            tasks[i * chunks + m / chunk].out.push(piece);
        }
    }
    tasks
}

/// Buffers that a thread keeps from task to task.
#[derive(Default)]
struct Scratch {
    /// `[panels][rows]`
    sums: Vec<Panel>,
    /// A block of a panel that had to be converted.
    weights: Vec<Panel>,
    /// A block of A for a unit: `[parts][tiles of rows][steps]`
    tiles: Vec<ATile>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One task, with all that it needs.
struct Run<'a, R> {
    a: &'a R,
    w: &'a Weights,
    epilogue: &'a Epilogue<'a>,
    place: Place,
    task: Task<'a>,
    scratch: &'a mut Scratch,
}

impl<R: Rows> Op for Run<'_, R> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Run { a, w, epilogue, place, task, scratch } = self;
        let padded_rows = task.rows.len().next_multiple_of(ROW_STEP);
        scratch.sums.resize(task.panels.len() * padded_rows, Panel::ZERO);
        scratch.weights.resize(BLOCK_DEPTH, Panel::ZERO);

        let mut a_rows: Vec<&[f32]> = Vec::with_capacity(padded_rows);
        for (i, part) in blocks(w.segments(), w.segment_len()).enumerate() {
            let (start, len) = (part.start, part.range.len());
            a_rows.clear();
            a.gather(task.rows.clone(), part, &mut a_rows);
            a_rows.resize(padded_rows, &ZEROS);
            for (panel, sums) in task.panels.clone().zip(scratch.sums.chunks_exact_mut(padded_rows)) {
                let b = w.block(panel, start, len, &mut scratch.weights);
                for (a, sums) in a_rows.chunks(TILE_ROWS).zip(sums.chunks_mut(TILE_ROWS)) {
                    tile(s, a, b, sums, i == 0);
                }
            }
        }

        store(s, epilogue, place, task, &scratch.sums);
    }
}

impl<R: Rows> UnitOp for Run<'_, R> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) {
        let Run { a, w, epilogue, place, task, scratch } = self;
        let parts = w.precision().parts();
        let row_tiles = task.rows.len().div_ceil(TILE);
        scratch.sums.resize(task.panels.len() * row_tiles * TILE, Panel::ZERO);
        scratch.tiles.resize(parts * row_tiles * U::BLOCK_STEPS, ZERO_TILE);

        for block in unit_blocks(w.steps(), U::BLOCK_STEPS) {
            let steps = block.len();
            let (high, low) = scratch.tiles[..parts * row_tiles * steps].split_at_mut(row_tiles * steps);
            round_block(unit, a, w, task.rows.clone(), block.clone(), high, low);
            let tiles = |part: usize, i: usize| &scratch.tiles[(part * row_tiles + i) * steps..][..steps];
            for (panel, sums) in task.panels.clone().zip(scratch.sums.chunks_exact_mut(row_tiles * TILE)) {
                for (i, sums) in sums.chunks_mut(JOB_ROWS).enumerate() {
                    for (n, &(part_of_a, part_of_b)) in products(parts).iter().enumerate() {
                        let job = Job {
                            upper: tiles(part_of_a, 2 * i),
                            lower: (sums.len() > TILE).then(|| tiles(part_of_a, 2 * i + 1)),
                            b: &w.panel(panel, part_of_b)[block.clone()],
                            first: block.start == 0 && n == 0,
                        };
                        unit.multiply(s, job, sums);
                    }
                }
            }
        }
        store(s, epilogue, place, task, &scratch.sums);
    }
}

/// Rounds a block of A, `[tiles of rows][steps]`: its numbers are rounded once per task and used for all its panels.
#[inline(always)]
fn round_block<U: Unit>(
    unit: U,
    a: &impl Rows,
    w: &Weights,
    rows: Range<usize>,
    block: Range<usize>,
    high: &mut [ATile],
    low: &mut [ATile],
) {
    let mut a_rows: Vec<&[f32]> = Vec::with_capacity(rows.len());
    let steps = block.len();
    for (at, part) in parts_of(block, w.segment_len()) {
        a_rows.clear();
        let part_steps = part.range.len().div_ceil(STEP);
        a.gather(rows.clone(), part, &mut a_rows);
        for (i, rows) in a_rows.chunks(TILE).enumerate() {
            let range = i * steps + at..i * steps + at + part_steps;
            let low = if low.is_empty() { &mut [] } else { &mut low[range.clone()] };
            split_rows(unit, rows, &mut high[range], low);
        }
    }
}

/// Writes finished sums, `[panels][rows]`, to the output.
#[inline(always)]
fn store<S: Simd>(s: S, epilogue: &Epilogue<'_>, place: Place, task: Task<'_>, sums: &[Panel]) {
    let rows = sums.len() / task.panels.len();
    for ((r, m), out) in task.rows.enumerate().zip(task.out) {
        for (i, out) in out.chunks_mut(PANEL).enumerate() {
            let place = Place { column: place.column + i * PANEL, ..place };
            epilogue.store(s, &sums[i * rows + r], m, place, out);
        }
    }
}

/// The depth as blocks of nearly equal length, none crossing the border of a segment.
fn blocks(segments: usize, segment_len: usize) -> impl Iterator<Item = Part> {
    const { assert!(BLOCK_DEPTH <= MAX_PART) };
    let count = segment_len.div_ceil(BLOCK_DEPTH).max(1);
    let len = segment_len.div_ceil(count);
    (0..segments * count).map(move |i| {
        let (segment, block) = (i / count, i % count);
        let range = block * len..((block + 1) * len).min(segment_len);
        Part { segment, start: segment * segment_len + range.start, range }
    })
}

/// The steps of a unit's depth as blocks of nearly equal length; one of no steps if there are none, which makes the sums zero.
fn unit_blocks(steps: usize, longest: usize) -> impl Iterator<Item = Range<usize>> {
    let count = steps.div_ceil(longest).max(1);
    let len = steps.div_ceil(count);
    (0..count).map(move |i| i * len..((i + 1) * len).min(steps))
}

/// The parts of rows of A that fill a block of steps, each with the step at which it begins, counted from the block's first.
fn parts_of(block: Range<usize>, segment_len: usize) -> impl Iterator<Item = (usize, Part)> {
    let per_segment = segment_len.div_ceil(STEP).max(1);
    let mut step = block.start;
    std::iter::from_fn(move || {
        let (segment, first) = (step / per_segment, step % per_segment);
        let steps = (per_segment - first).min(MAX_PART / STEP).min(block.end - step);
        let range = first * STEP..((first + steps) * STEP).min(segment_len);
        let part = Part { segment, start: segment * segment_len + range.start, range };
        let at = step - block.start;
        step += steps;
        (steps > 0).then_some((at, part))
    })
}
