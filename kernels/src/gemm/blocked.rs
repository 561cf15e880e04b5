//! The production form: the product cut so that every level of the memory holds what the next one needs.
//!
//! ```text
//! in parallel: for each chunk of rows × group of panels (a task; its sums stay in the L2 cache)
//!     for each block of the depth                       (a block of a panel stays in the L1 cache)
//!         for each panel of the group                   (weights are read once per task, in order)
//!             for each tile of 12 rows                  (its 384 sums live in registers)
//!                 sums += rows · panel
//!     write the sums to the output, through the epilogue
//! ```
//!
//! The cut depends on the shape alone and each sum has a fixed order, so the result is the same, bit for bit, on any
//! number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::epilogue::Place;
use super::microkernel::{ROW_STEP, TILE_ROWS, tile};
use super::rows::{MAX_PART, Part, ZEROS};
use super::weights::Panel;
use super::{Epilogue, PANEL, Rows, Weights};
use crate::Isa;
use crate::simd::{Op, Simd};

/// Depth of a block: 256 rows of a panel are 32 KB, two thirds of today's L1 caches.
const BLOCK_DEPTH: usize = 256;
/// Rows of a task: with [`TASK_PANELS`] panels their sums take 300 KB, their parts of a block another 240 KB.
const TASK_ROWS: usize = 20 * TILE_ROWS;
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
    tasks(columns, out).into_par_iter().for_each(|task| {
        SCRATCH.with_borrow_mut(|scratch| {
            let place = Place { column: task.panels.start * PANEL, rows, columns };
            isa.run(Run { a, w, epilogue, place, task, scratch });
        });
    });
}

/// A part of the output, and the pieces of its rows.
struct Task<'a> {
    rows: Range<usize>,
    panels: Range<usize>,
    out: Vec<&'a mut [f32]>,
}

/// Cuts `[rows, columns]` into tasks. They are sorted by panels, so that neighbours read the same weights.
fn tasks(columns: usize, out: Vec<&mut [f32]>) -> Vec<Task<'_>> {
    let (rows, panels) = (out.len(), columns.div_ceil(PANEL));
    if rows == 0 || panels == 0 {
        return Vec::new();
    }
    // Equal chunks of whole tiles, and equal groups of panels.
    let chunk = rows.div_ceil(rows.div_ceil(TASK_ROWS)).next_multiple_of(TILE_ROWS);
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
    sums: Vec<Panel>,
    weights: Vec<Panel>,
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
        scratch.sums.resize(task.panels.len() * padded_rows, [0.0; PANEL]);
        scratch.weights.resize(BLOCK_DEPTH, [0.0; PANEL]);

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

        for ((r, m), out) in task.rows.enumerate().zip(task.out) {
            for (i, out) in out.chunks_mut(PANEL).enumerate() {
                let place = Place { column: place.column + i * PANEL, ..place };
                epilogue.store(s, &scratch.sums[i * padded_rows + r], m, place, out);
            }
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
