//! The production form: the product cut so that every level of the memory holds what the next one needs.
//!
//! ```text
//! in parallel: for each chunk of rows × group of panels (a task; its sums stay in the L2 cache)
//!     for each block of the depth                       (a block of a panel stays in the L1 cache, or in L2 for a tile unit)
//!         find the rows of A                            (f32: anywhere; bf16: in tiles, rounded before)
//!         for each panel of the group                   (weights are read once per task, in order)
//!             for each tile of rows                     (its sums live in registers)
//!                 sums += rows · panel
//!     write the sums to the output, through the epilogue
//! ```
//!
//! The weights' precision picks the tile: 12 rows in f32 (`microkernel.rs`) or a job for a unit ([`bf16`](super::bf16)). A unit is too fast to wait
//! for anything else: rows are rounded before, a panel is fetched from memory while the one before it is used, what the epilogue adds to the sums of a
//! job is fetched when the job begins, and the sums go through the epilogue when the next job is under way, while they are in the L1 cache.
//!
//! The cut depends on the shape alone and each sum has a fixed order, so the result is the same, bit for bit, on any
//! number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::bf16::rounded::Tiles;
use super::bf16::software::Software;
use super::bf16::{ATile, Job, Rounded, TILE, Unit, ZERO_TILE, products};
use super::cut::{Cut, Task};
use super::epilogue::Place;
use super::finish::Finish;
use super::gated::{GatedWeights, RoundGated, StoreGated};
use super::microkernel::{ROW_STEP, TILE_ROWS, tile};
use super::rounding::Round;
use super::rows::{MAX_PART, Part, ZEROS};
use super::weights::Panel;
use super::{Epilogue, PANEL, Rows, Weights};
use crate::isa::UnitOp;
use crate::moments::{MAX_BLOCK, MIN_BLOCK, Taken};
use crate::simd::{Op, Simd};
use crate::{Isa, Precision};

/// Depth of a block: 256 rows of a panel are 32 KB, two thirds of today's L1 caches.
const BLOCK_DEPTH: usize = 256;
/// Rows of a task in f32: with the panels of `cut.rs` their sums take 300 KB, their parts of a block another 240 KB.
const TASK_ROWS: usize = 20 * TILE_ROWS;
/// Rows of a task in bf16.
const UNIT_TASK_ROWS: usize = 8 * JOB_ROWS;
/// Rows of a full job of a unit.
const JOB_ROWS: usize = 2 * TILE;
/// Rows of a tile and of a task in f32.
const F32_TASKS: [usize; 2] = [TILE_ROWS, TASK_ROWS];
/// The same in bf16.
const UNIT_TASKS: [usize; 2] = [JOB_ROWS, UNIT_TASK_ROWS];

/// Rows that are rounded together if a product gets them in f32: 128 tasks, and no copy of a whole large image.
const ROUNDED_ROWS: usize = 128 * UNIT_TASK_ROWS;

/// `out[m, n] = epilogue(Σₖ a[m, k]·w[n, k])` for `rows` rows; `out: [rows, w.out_features()]`, row-major.
///
/// # Panics
/// If `out` or the epilogue's terms have other sizes.
pub fn product(isa: Isa, rows: usize, a: &impl Rows, w: &Weights, epilogue: &Epilogue<'_>, out: &mut [f32]) {
    let columns = w.out_features();
    let mut out = rows_of(out, rows, columns);
    if w.precision() == Precision::F32 {
        return product_into(isa, a, w, epilogue, out);
    }
    epilogue.check(rows, columns);
    let depth = [w.segments(), w.segment_len()];
    for first in (0..rows).step_by(ROUNDED_ROWS) {
        let chunk = first..rows.min(first + ROUNDED_ROWS);
        let x = Rounded::of_rows(isa, w.precision(), a, chunk.clone(), depth);
        let place = Place { first_row: first, ..Place::of(rows, columns) };
        unit_product(isa, &x, w, epilogue, place, out.drain(..chunk.len()).collect());
    }
}

/// The same of a left operand in f32 and weights for f32, row m of the product going to `out[m]`: the rows of the output may stand anywhere.
pub(crate) fn product_into(
    isa: Isa,
    a: &impl Rows,
    w: &Weights,
    epilogue: &Epilogue<'_>,
    out: Vec<&mut [f32]>,
) {
    let (rows, columns) = (out.len(), w.out_features());
    epilogue.check(rows, columns);
    let cut = Cut::new(rows, columns, F32_TASKS, 1);
    multiply(isa, a, w, &cut, cut.stores(epilogue, Place::of(rows, columns), out, None));
}

/// `out[m, j] = value·gelu(gate)` for as many rows of A as there are of the output.
pub(crate) fn gated_product_into(isa: Isa, a: &impl Rows, w: &GatedWeights, out: Vec<&mut [f32]>) {
    let GatedWeights { weights, bias, .. } = w;
    let cut = Cut::new(out.len(), weights.out_features(), F32_TASKS, 2);
    let pieces = cut.deal(out, cut.group * PANEL / 2);
    let finish = |(task, out): (Task, _)| StoreGated { bias: &bias[task.panels.start * PANEL..], out };
    let finishes = cut.tasks().into_iter().zip(pieces).map(finish).collect();
    multiply(isa, a, weights, &cut, finishes);
}

/// The same of a left operand that was rounded; so is the result.
pub(crate) fn gated_rounded_product(isa: Isa, a: &impl Tiles, rows: usize, w: &GatedWeights) -> Rounded {
    let GatedWeights { weights, bias, .. } = w;
    check_precision(a, weights);
    let mut out = Rounded::rows(w.precision(), rows, w.features());
    let cut = Cut::new(rows, weights.out_features(), UNIT_TASKS, 2);
    let finish = |(task, planes): (Task, _)| RoundGated {
        bias: &bias[task.panels.start * PANEL..],
        columns: w.features().min(task.panels.end / 2 * PANEL) - task.panels.start / 2 * PANEL,
        planes,
    };
    let steps = w.features().div_ceil(PANEL);
    let pieces = cut.deal_planes(out.planes_mut(), steps, 2);
    let finishes = cut.tasks().into_iter().zip(pieces).map(finish).collect();
    multiply_rounded(isa, a, weights, &cut, finishes);
    out
}

/// `out[m, n] = Σₖ a[m, k]·w[n, k] + bias[n]`, rounded as the operands are.
pub(crate) fn rounding_product(
    isa: Isa,
    a: &impl Tiles,
    rows: usize,
    w: &Weights,
    bias: Option<&[f32]>,
) -> Rounded {
    check_precision(a, w);
    let columns = w.out_features();
    Epilogue::bias(bias).check(rows, columns);
    let mut out = Rounded::rows(w.precision(), rows, columns);
    let cut = Cut::new(rows, columns, UNIT_TASKS, 1);
    let finish = |(task, planes): (Task, _)| {
        let range = task.panels.start * PANEL..columns.min(task.panels.end * PANEL);
        Round { columns: range.len(), bias: bias.map(|bias| &bias[range]), planes }
    };
    let pieces = cut.deal_planes(out.planes_mut(), columns.div_ceil(PANEL), 1);
    let finishes = cut.tasks().into_iter().zip(pieces).map(finish).collect();
    multiply_rounded(isa, a, w, &cut, finishes);
    out
}

/// The same of a left operand that was rounded, and weights for that precision.
pub(crate) fn rounded_product_into(
    isa: Isa,
    a: &impl Tiles,
    w: &Weights,
    epilogue: &Epilogue<'_>,
    out: Vec<&mut [f32]>,
) {
    let (rows, columns) = (out.len(), w.out_features());
    check_precision(a, w);
    epilogue.check(rows, columns);
    unit_product(isa, a, w, epilogue, Place::of(rows, columns), out);
}

/// The same for the rows of the output from `place` on.
fn unit_product(
    isa: Isa,
    a: &impl Tiles,
    w: &Weights,
    epilogue: &Epilogue<'_>,
    place: Place,
    out: Vec<&mut [f32]>,
) {
    const { assert!(MIN_BLOCK.is_multiple_of(JOB_ROWS) && UNIT_TASK_ROWS.is_multiple_of(MAX_BLOCK)) };
    let mut moments = epilogue.moments.map(Taken::open);
    let rows = place.first_row..place.first_row + out.len();
    let room = moments.as_mut().and_then(|moments| moments.room(rows, [place.rows, place.columns]));
    let tile_rows = room.as_ref().map_or(JOB_ROWS, |room| room.block);
    let cut = Cut::new(out.len(), place.columns, [tile_rows, UNIT_TASK_ROWS], 1);
    multiply_rounded(isa, a, w, &cut, cut.stores(epilogue, place, out, room));
}

fn check_precision(a: &impl Tiles, w: &Weights) {
    let (found, expected) = (a.precision(), w.precision());
    assert_eq!(found, expected, "an operand that was rounded for {found} meets weights for {expected}");
}

/// Does all tasks of a product in f32.
fn multiply<F: Finish>(isa: Isa, a: &impl Rows, w: &Weights, cut: &Cut, finishes: Vec<F>) {
    cut.tasks().into_par_iter().zip(finishes).for_each(|(task, finish)| {
        SCRATCH.with_borrow_mut(|scratch| isa.run(Run { a, w, task, finish, scratch }));
    });
}

/// Does all tasks of a product of rounded operands.
fn multiply_rounded<F: Finish>(isa: Isa, a: &impl Tiles, w: &Weights, cut: &Cut, finishes: Vec<F>) {
    cut.tasks().into_par_iter().zip(finishes).for_each(|(task, finish)| {
        SCRATCH.with_borrow_mut(|scratch| isa.run_with_unit(Run { a, w, task, finish, scratch }));
    });
}

/// The rows of an output of `[rows, columns]`.
///
/// # Panics
/// If it has another size.
pub(crate) fn rows_of(out: &mut [f32], rows: usize, columns: usize) -> Vec<&mut [f32]> {
    assert_eq!(out.len(), rows * columns, "the output must be [{rows}, {columns}]");
    out.chunks_exact_mut(columns.max(1)).collect()
}

/// Buffers that a thread keeps from task to task.
#[derive(Default)]
struct Scratch {
    /// `[panels][rows]`
    sums: Vec<Panel>,
    /// A block of a panel that had to be converted.
    weights: Vec<Panel>,
    /// Tiles of A that had to be copied together.
    tiles: Vec<ATile>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One task, with all that it needs.
struct Run<'a, R, F> {
    a: &'a R,
    w: &'a Weights,
    task: Task,
    finish: F,
    scratch: &'a mut Scratch,
}

impl<R: Rows, F: Finish> Op for Run<'_, R, F> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Run { a, w, task, mut finish, scratch } = self;
        let padded_rows = task.rows.len().next_multiple_of(ROW_STEP);
        scratch.sums.resize(task.panels.len() * padded_rows, Panel::ZERO);
        scratch.weights.resize(BLOCK_DEPTH, Panel::ZERO);

        let mut a_rows: Vec<&[f32]> = Vec::with_capacity(padded_rows);
        // A list, lest the inner loop compute the ends of its block again and again.
        let parts: Vec<Part> = blocks(w.segments(), w.segment_len()).collect();
        for (i, part) in parts.into_iter().enumerate() {
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

        let sums = &scratch.sums;
        for r in 0..task.rows.len() {
            for panel in (0..task.panels.len()).step_by(F::PANELS) {
                let of = |panel: usize| std::slice::from_ref(&sums[panel * padded_rows + r]);
                let second = if F::PANELS == 2 { of(panel + 1) } else { &[] };
                finish.store(s, Software, panel, r..r + 1, [of(panel), second]);
            }
        }
    }
}

/// Complete sums that wait for what becomes of them.
#[derive(Clone, Copy)]
struct Finished {
    /// Where they stand in the scratch.
    start: usize,
    /// The first of their rows, and their panel, the last of those that are finished together; both counted from the task's first.
    row: usize,
    panel: usize,
}

impl Finished {
    /// Hands them over; those of an earlier panel stand `height` rows before.
    #[inline(always)]
    fn store<S: Simd, U: Unit, F: Finish>(
        self,
        (s, unit): (S, U),
        finish: &mut F,
        task: &Task,
        sums: &[Panel],
        height: usize,
    ) {
        let rows = self.row..task.rows.len().min(self.row + JOB_ROWS);
        let last = &sums[self.start..][..rows.len()];
        match F::PANELS {
            1 => finish.store(s, unit, self.panel, rows, [last, &[]]),
            _ => {
                let first = &sums[self.start - height..][..rows.len()];
                finish.store(s, unit, self.panel - 1, rows, [first, last]);
            }
        }
    }
}

impl<T: Tiles, F: Finish> UnitOp for Run<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) {
        let Run { a, w, task, mut finish, scratch } = self;
        let parts = w.precision().parts();
        let (rows, panels) = (task.rows.len(), task.panels.clone());
        let row_tiles = rows.div_ceil(TILE);
        let longest = if w.segments() > 1 { U::WINDOW_BLOCK_STEPS } else { U::BLOCK_STEPS };
        let longest = block_steps(w.steps(), w.segments(), longest);
        let one_block = w.steps() <= longest;
        let height = row_tiles * TILE;
        // Sums that are finished in one block need room for two jobs only: one under way, one in its epilogue. Of two panels that are finished
        // together, the first waits for the second; then the next two are begun elsewhere.
        let all_sums = match (one_block, F::PANELS) {
            (true, 1) => 2 * JOB_ROWS,
            (true, _) => 2 * F::PANELS * height,
            (false, _) => panels.len() * height,
        };
        grow(&mut scratch.sums, all_sums, Panel::ZERO);
        if a.may_copy() {
            grow(&mut scratch.tiles, parts * row_tiles * w.steps().min(longest), ZERO_TILE);
        }
        let Scratch { sums: all_sums, tiles: room, .. } = scratch;

        let mut finished: Option<Finished> = None;
        for block in unit_blocks(w.steps(), longest) {
            let (steps, last) = (block.len(), block.end == w.steps());
            let mut room = room.iter_mut();
            let mut tiles: Vec<&ATile> = Vec::with_capacity(parts * row_tiles * steps);
            for part in 0..parts {
                for i in 0..row_tiles {
                    a.gather(part, task.rows.start + i * TILE, block.clone(), &mut room, &mut tiles);
                }
            }
            let tiles = |part: usize, i: usize| &tiles[(part * row_tiles + i) * steps..][..steps];
            for (panel, number) in panels.clone().enumerate() {
                // The block of weights behind this one: the next panel's, or the first panel's next.
                let (next, next_block) = match number + 1 < panels.end {
                    true => (number + 1, block.clone()),
                    false => (panels.start, block.end..w.steps().min(block.end + longest)),
                };
                for (i, row) in (0..height).step_by(JOB_ROWS).enumerate() {
                    let job_rows = JOB_ROWS.min(height - row);
                    let start = match (one_block, F::PANELS) {
                        (true, 1) => finished.map_or(0, |before| JOB_ROWS - before.start),
                        (true, _) => panel % (2 * F::PANELS) * height + row,
                        (false, _) => panel * height + row,
                    };
                    if last {
                        finish.expect(s, panel, row..rows.min(row + job_rows));
                    }
                    let sums = &mut all_sums[start..start + job_rows];
                    for (n, &(part_of_a, part_of_b)) in products(parts).iter().enumerate() {
                        let job = Job {
                            upper: tiles(part_of_a, 2 * i),
                            lower: (job_rows > TILE).then(|| tiles(part_of_a, 2 * i + 1)),
                            b: &w.panel(number, part_of_b)[block.clone()],
                            first: block.start == 0 && n == 0,
                        };
                        // Of each part of the next block every job has its share fetched.
                        let ahead = match n < parts {
                            true => share(&w.panel(next, n)[next_block.clone()], i, row_tiles.div_ceil(2)),
                            false => &[],
                        };
                        unit.multiply_ahead(s, job, ahead, sums);
                    }
                    let complete = last && panel % F::PANELS == F::PANELS - 1;
                    if complete && let Some(before) = finished.replace(Finished { start, row, panel }) {
                        before.store((s, unit), &mut finish, &task, all_sums, height);
                    }
                }
            }
        }
        if let Some(last) = finished {
            last.store((s, unit), &mut finish, &task, all_sums, height);
        }
        s.drain();
    }
}

/// Part `i` of a slice that is cut into so many nearly equal ones.
#[inline(always)]
fn share<T>(all: &[T], i: usize, parts: usize) -> &[T] {
    &all[i * all.len() / parts..(i + 1) * all.len() / parts]
}

/// Makes a buffer at least so long.
#[inline(always)]
fn grow<T: Copy>(buffer: &mut Vec<T>, len: usize, filler: T) {
    if buffer.len() < len {
        buffer.resize(len, filler);
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

/// The steps of each block but the last: as nearly equal as they can be, each with whole turns of the segments, unless one is longer than `longest`.
fn block_steps(steps: usize, segments: usize, longest: usize) -> usize {
    let unit = if segments <= longest { segments.max(1) } else { 1 };
    let units = steps.div_ceil(unit);
    let count = units.div_ceil(longest / unit).max(1);
    units.div_ceil(count) * unit
}

/// The steps of a unit's depth as blocks; one of no steps if there are none, which makes the sums zero.
fn unit_blocks(steps: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    let count = steps.div_ceil(block.max(1)).max(1);
    (0..count).map(move |i| i * block..((i + 1) * block).min(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_whole_turns_of_the_segments() {
        for ((steps, segments, longest), expected) in [
            ((90, 9, 126), vec![(0, 90)]),
            ((360, 9, 126), vec![(0, 126), (126, 252), (252, 360)]),
            ((90, 9, 20), vec![(0, 18), (18, 36), (36, 54), (54, 72), (72, 90)]),
            ((40, 1, 20), vec![(0, 20), (20, 40)]),
            ((40, 1, 15), vec![(0, 14), (14, 28), (28, 40)]),
            ((49, 49, 20), vec![(0, 17), (17, 34), (34, 49)]), // a turn is longer than a block
            ((0, 0, 20), vec![(0, 0)]),
        ] {
            let block = block_steps(steps, segments, longest);
            let found: Vec<_> = unit_blocks(steps, block).map(|block| (block.start, block.end)).collect();
            assert_eq!(found, expected, "{steps} steps, {segments} segments, {longest}");
        }
    }
}
