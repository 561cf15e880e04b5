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
//! job is fetched when the job begins, and the sums go through the epilogue when later jobs are under way, a few rows after each. The panels of its linear
//! layers take turns with all blocks, one or two at a time, for the same reason.
//!
//! The cut depends on the shape alone and each sum has a fixed order, so the result is the same, bit for bit, on any
//! number of threads.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::bf16::rounded::Tiles;
use super::bf16::software::Software;
use super::bf16::{ATile, Job, Rounded, TILE, Unit, ZERO_TILE, products};
use super::cut::{Cut, Size, Task};
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
/// Rows of a task in f32: with its panels their sums take 300 KB, their parts of a block another 240 KB.
const TASK_ROWS: usize = 20 * TILE_ROWS;
/// Panels of a task.
const TASK_PANELS: usize = 10;
/// Rows that are finished together in f32: of all panels before the next rows, so that few pages of the output are written at a time.
const FINISHED_ROWS: usize = 16;
/// Rows of a task in bf16.
const UNIT_TASK_ROWS: usize = 8 * JOB_ROWS;
/// Rows of a full job of a unit.
const JOB_ROWS: usize = 2 * TILE;
/// Tasks in f32.
const F32_TASKS: Size = Size { tile_rows: TILE_ROWS, rows: TASK_ROWS, panels: TASK_PANELS };
/// Tasks in bf16.
const UNIT_TASKS: Size = Size { tile_rows: JOB_ROWS, rows: UNIT_TASK_ROWS, panels: TASK_PANELS };
/// The same where two panels are finished together: of so wide a product each row of A is needed often, and sums of few panels wait at a time. Against
/// 10 panels, Stable Diffusion's layers take 5 to 9 % less time on AMX.
const UNIT_GATED_TASKS: Size = Size { panels: 40, ..UNIT_TASKS };

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
    let cut = Cut::new(rows, weights.out_features(), UNIT_GATED_TASKS, 2);
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
    let cut = Cut::new(out.len(), place.columns, Size { tile_rows, ..UNIT_TASKS }, 1);
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
                let b = w.block(s, panel, start, len, &mut scratch.weights);
                for (a, sums) in a_rows.chunks(TILE_ROWS).zip(sums.chunks_mut(TILE_ROWS)) {
                    tile(s, a, b, sums, i == 0);
                }
            }
        }

        let (rows, sums) = (task.rows.len(), &scratch.sums);
        for first in (0..rows).step_by(FINISHED_ROWS) {
            let rows = first..rows.min(first + FINISHED_ROWS);
            let of = |panel: usize| &sums[panel * padded_rows..][rows.clone()];
            for panel in (0..task.panels.len()).step_by(F::PANELS) {
                let second = if F::PANELS == 2 { of(panel + 1) } else { &[] };
                finish.store(s, Software, panel, rows.clone(), [of(panel), second]);
            }
        }
    }
}

/// A panel's turn with a block of the depth.
struct Turn {
    /// Counted from the task's first.
    panel: usize,
    block: Range<usize>,
}

/// Complete sums that wait for what becomes of them. They are handed over a few rows at a time, each lot behind a job: vectors and tiles work at the
/// same time only if they stand near each other.
struct Waiting {
    /// The first row, and its panel, the last of those that are finished together; both counted from the task's first.
    row: usize,
    panel: usize,
    /// How many rows wait, here and in later panels.
    rows: usize,
}

impl Waiting {
    /// Hands over at most so many, all of one panel. `sums` knows where those of a panel stand.
    #[inline(always)]
    fn store<'s, S: Simd, U: Unit, F: Finish>(
        &mut self,
        (s, unit): (S, U),
        finish: &mut F,
        task_rows: usize,
        at_most: usize,
        sums: impl Fn(usize, Range<usize>) -> &'s [Panel],
    ) {
        if self.rows == 0 {
            return;
        }
        let rows = self.row..task_rows.min(self.row + self.rows.min(at_most));
        self.rows -= rows.len();
        let last = sums(self.panel, rows.clone());
        match F::PANELS {
            1 => finish.store(s, unit, self.panel, rows.clone(), [last, &[]]),
            _ => {
                let first = sums(self.panel - 1, rows.clone());
                finish.store(s, unit, self.panel - 1, rows.clone(), [first, last]);
            }
        }
        self.row = rows.end;
        if self.row == task_rows {
            (self.panel, self.row) = (self.panel + F::PANELS, 0);
        }
    }
}

impl<T: Tiles, F: Finish> UnitOp for Run<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) {
        let Run { a, w, task, mut finish, scratch } = self;
        let parts = w.precision().parts();
        let (rows, panels) = (task.rows.len(), task.panels.len());
        let row_tiles = rows.div_ceil(TILE);
        let height = row_tiles * TILE;
        let longest = if w.segments() > 1 { U::WINDOW_BLOCK_STEPS } else { U::BLOCK_STEPS };
        let longest = block_steps(w.steps(), w.segments(), longest);
        let blocks: Vec<_> = unit_blocks(w.steps(), longest).collect();
        // If all rows of the task stay in the L2 cache, panels take their turns with all blocks, so that few sums are under way, and their epilogue can be
        // spread over the jobs of the next panels. If not, a block waits until all panels had it. So it must if tiles are copied together, of which
        // there is room for a block's.
        let by_blocks = w.segments() > 1 || a.may_copy() || w.steps() > U::CACHED_STEPS;
        let at_a_time = if by_blocks { 1 } else { blocks.len() };
        let mut turns = Vec::with_capacity(panels * blocks.len());
        for blocks in blocks.chunks(at_a_time) {
            for first in (0..panels).step_by(F::PANELS) {
                for block in blocks {
                    turns
                        .extend((first..first + F::PANELS).map(|panel| Turn { panel, block: block.clone() }));
                }
            }
        }
        // Sums of one panel and one block need room for two jobs only: one under way, one in its epilogue. Of others whole panels are finished while
        // the next are begun.
        let jobs = height.div_ceil(JOB_ROWS);
        let at_once = blocks.len() == 1 && F::PANELS == 1;
        let rooms = if at_a_time < blocks.len() { panels } else { 2 * F::PANELS };
        let place = |panel: usize, rows: Range<usize>| {
            let first = match at_once {
                true => (panel * jobs + rows.start / JOB_ROWS) % 2 * JOB_ROWS + rows.start % JOB_ROWS,
                false => panel % rooms * height + rows.start,
            };
            first..first + rows.len()
        };
        grow(&mut scratch.sums, if at_once { 2 * JOB_ROWS } else { rooms * height }, Panel::ZERO);
        if a.may_copy() {
            grow(&mut scratch.tiles, parts * row_tiles * w.steps().min(longest), ZERO_TILE);
        }
        let Scratch { sums: all_sums, tiles: room, .. } = scratch;
        // So many that all rows of a panel are finished before its room is needed again.
        let pace = if at_once { JOB_ROWS } else { rows.div_ceil(jobs * F::PANELS * at_a_time) };
        let mut waiting = Waiting { row: 0, panel: F::PANELS - 1, rows: 0 };
        let mut upcoming = turns.iter().skip(1);
        for (turns, blocks) in turns.chunks(panels * at_a_time).zip(blocks.chunks(at_a_time)) {
            let depth = blocks[0].start..blocks[blocks.len() - 1].end;
            let mut room = room.iter_mut();
            let mut tiles: Vec<&ATile> = Vec::with_capacity(parts * row_tiles * depth.len());
            for part in 0..parts {
                for i in 0..row_tiles {
                    a.gather(part, task.rows.start + i * TILE, depth.clone(), &mut room, &mut tiles);
                }
            }
            for Turn { panel, block } in turns {
                let within = block.start - depth.start..block.end - depth.start;
                let tiles =
                    |part: usize, i: usize| &tiles[(part * row_tiles + i) * depth.len()..][within.clone()];
                let (number, last) = (task.panels.start + panel, block.end == w.steps());
                let next = upcoming.next();
                for (i, row) in (0..height).step_by(JOB_ROWS).enumerate() {
                    let job_rows = row..height.min(row + JOB_ROWS);
                    if last {
                        finish.expect(s, *panel, row..rows.min(job_rows.end));
                    }
                    let sums = &mut all_sums[place(*panel, job_rows.clone())];
                    for (n, &(part_of_a, part_of_b)) in products(parts).iter().enumerate() {
                        let job = Job {
                            upper: tiles(part_of_a, 2 * i),
                            lower: (job_rows.len() > TILE).then(|| tiles(part_of_a, 2 * i + 1)),
                            b: &w.panel(number, part_of_b)[block.clone()],
                            first: block.start == 0 && n == 0,
                        };
                        // Of each part of what has the next turn every job has its share fetched.
                        let ahead = match next {
                            Some(next) if n < parts => {
                                let next = &w.panel(task.panels.start + next.panel, n)[next.block.clone()];
                                share(next, i, jobs)
                            }
                            _ => &[],
                        };
                        unit.multiply_ahead(s, job, ahead, sums);
                    }
                    waiting.store((s, unit), &mut finish, rows, pace, |panel, rows| {
                        &all_sums[place(panel, rows)]
                    });
                    if last && panel % F::PANELS == F::PANELS - 1 {
                        waiting.rows += rows.min(job_rows.end) - row;
                    }
                }
            }
        }
        while waiting.rows > 0 {
            waiting.store((s, unit), &mut finish, rows, rows, |panel, rows| &all_sums[place(panel, rows)]);
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
