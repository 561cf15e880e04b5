//! The product in bf16, in blocks for a [`MatmulUnit`] that multiplies faster than memory delivers.
//!
//! ```text
//! in parallel, for each MC rows × NC columns of the output (a task):
//!     for each run of k-blocks: all of them if the rows of A fit the L2 cache, else one at a time:
//!         gather the tiles of A                          pointers, or copies where rows are apart
//!         for each panel of NR columns, for each k-block of the run (a pass):
//!             for each 32 rows (a job):
//!                 sums[32][NR] += A[32][KC] · B[KC][NR]  `TileJob`: on AMX one asm! block
//!                 prefetch a share of the next pass's B
//!                 store some pending rows                through the epilogue
//!             after its last k-block: the panel's sums are pending
//!     store what is still pending
//! ```
//!
//! 1. A is not packed here, but by the norm or the activation that makes it (`a/packed.rs`).
//! 2. Sums are stored a few rows behind each job: vectors and tiles work at the same time only if
//!    their instructions are near each other. What the epilogue adds is prefetched a pass before.
//! 3. All k-blocks of a panel at once keep few sums open; that A is read once for each panel costs
//!    nothing while it is in the L2 cache.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::PackedA;
use super::a::packed::TileSource;
use super::epilogue::TileOrigin;
use super::epilogue::geglu::{GegluWeights, StoreGegluBf16};
use super::epilogue::round::StoreBf16;
use super::epilogue::stats::{MAX_STATS_BLOCK, MIN_STATS_BLOCK};
use super::epilogue::store::OutputSink;
use super::partition::{BlockSizes, NC_PANELS, Partition, Task};
use super::{Epilogue, NR, Output, PackedWeights, PanelRow, Rows};
use crate::Isa;
use crate::cpu::partition::for_each_task;
use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;
use crate::cpu::tile::UnitOp;
use crate::cpu::tile::{ATile, MatmulUnit, TILE_K, TILE_M, TileJob, TileRow, ZERO_TILE, term_products};

// | | rows or columns | bytes | why |
// |---|---|---|---|
// | MR | 32 = 2 tiles of 16 (`JOB_ROWS`) | sums: 4 KB | 4 tiles of sums, 2 of A and 2 of B are the 8 registers |
// | NR | 32 = 2 tiles of 16 (a panel) | | each tile that is loaded is multiplied twice |
// | KC | `MatmulUnit::KC_STEPS` · 32 | B: 16 KB (AMX, 8 k-steps) | stays in the L1 cache for all jobs of a pass |
// | KC of windows | `WINDOW_KC_STEPS` · 32 | B: 250 KB (AMX, 126) | nine taps share rows of A; sums stay in registers |
// | MC | 256 = 8 jobs | A: 16 KB a k-step | 64 k-steps (`CACHED_STEPS`) are 1 MB, half of an L2 cache |
// | NC | 320 = 10 panels | sums: 32 KB a panel | open panels and A fit the L2 cache together |
// | NC of GEGLU | 1280 = 40 panels | | pairs are finished, so few are open; A is read less often |

/// Rows of a full job: MR.
const JOB_ROWS: usize = 2 * TILE_M;
/// MC: rows of a task.
const MC: usize = 8 * JOB_ROWS;
/// A task.
const BLOCKS: BlockSizes = BlockSizes { tile_rows: JOB_ROWS, rows: MC, panels: NC_PANELS };
/// A task of GEGLU, which finishes value and gate panels in pairs: N is large, so A's rows are
/// reused often. Against 10 panels, Stable Diffusion's layers take 5 to 9 % less time on AMX.
const GEGLU_BLOCKS: BlockSizes = BlockSizes { panels: 40, ..BLOCKS };
/// Where two panels are finished together, a depth of up to so many steps, K = 320, is one block:
/// sums are neither put away nor fetched again, which on AMX takes 5 % less time than two blocks. 0
/// for blocks of the unit's own length.
const GEGLU_KC_STEPS: usize = 10;
/// Rows that are rounded together if a product gets them in f32: 128 tasks, and no copy of a whole
/// large image.
const ROUNDED_ROWS: usize = 128 * MC;

/// `out[m] = epilogue(Σₖ a[m, k]·w[n, k])` of a left operand that is rounded here.
pub(crate) fn product<X: Stored, T: Stored>(
    isa: Isa,
    a: &impl Rows<X>,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: Output<'_, T>,
) {
    let Output { rows: mut out, mut stats } = out;
    let (rows, columns) = (out.len(), w.out_features());
    epilogue.check(rows, columns);
    let depth = [w.segments(), w.segment_len()];
    for first in (0..rows).step_by(ROUNDED_ROWS) {
        let chunk = first..rows.min(first + ROUNDED_ROWS);
        let x = PackedA::of_rows(isa, w.precision(), a, chunk.clone(), depth);
        let place = TileOrigin { first_row: first, ..TileOrigin::of(rows, columns) };
        let out = Output { rows: out.drain(..chunk.len()).collect(), stats: stats.as_deref_mut() };
        product_at(isa, &x, w, epilogue, place, out);
    }
}

/// `out[m] = epilogue(Σₖ a[m, k]·w[n, k])` of a left operand that was rounded for the precision of
/// `w`.
pub(crate) fn product_packed<T: Stored>(
    isa: Isa,
    a: &impl TileSource,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: Output<'_, T>,
) {
    let (rows, columns) = (out.rows.len(), w.out_features());
    check_precision(a, w);
    epilogue.check(rows, columns);
    product_at(isa, a, w, epilogue, TileOrigin::of(rows, columns), out);
}

/// [`product_packed`] for a range of the output's rows, `out`, which begins at `place`.
fn product_at<T: Stored>(
    isa: Isa,
    a: &impl TileSource,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    place: TileOrigin,
    out: Output<'_, T>,
) {
    const { assert!(MIN_STATS_BLOCK.is_multiple_of(JOB_ROWS) && MC.is_multiple_of(MAX_STATS_BLOCK)) };
    let Output { rows: out, stats } = out;
    let rows = place.first_row..place.first_row + out.len();
    let slots = stats.and_then(|stats| stats.slots(rows, [place.rows, place.columns]));
    let tile_rows = slots.as_ref().map_or(JOB_ROWS, |slots| slots.block);
    let partition = Partition::new(out.len(), place.columns, BlockSizes { tile_rows, ..BLOCKS }, 1);
    multiply(isa, a, w, &partition, partition.sinks(epilogue, place, out, slots));
}

/// `Σₖ a[m, k]·w[n, k] + bias[n]`, rounded for the next product as `a` was for this one.
pub(crate) fn product_to_packed(
    isa: Isa,
    a: &impl TileSource,
    rows: usize,
    w: &PackedWeights,
    bias: Option<&[f32]>,
) -> PackedA {
    let mut out = PackedA::rows(w.precision(), rows, w.out_features());
    product_to_planes(isa, a, w, [bias, None], out.planes_mut().collect());
    out
}

/// `Σₖ a[m, k]·w[n, k] + bias[n] + residual[m, n]`, rounded to rows of planes, of which `out` has
/// all that the precision of `w` asks for.
pub(crate) fn product_to_planes(
    isa: Isa,
    a: &impl TileSource,
    w: &PackedWeights,
    [bias, residual]: [Option<&[f32]>; 2],
    out: Vec<&mut [TileRow]>,
) {
    check_precision(a, w);
    let (columns, steps) = (w.out_features(), w.out_features().div_ceil(NR));
    let rows = out.first().map_or(0, |plane| plane.len());
    assert_eq!(out.len(), w.precision().terms() * steps, "a plane for each 32 columns of the output");
    Epilogue { bias, residual, ..Epilogue::default() }.check(rows, columns);
    let partition = Partition::new(rows, columns, BLOCKS, 1);
    let sink = |(task, planes): (Task, _)| {
        let range = task.panels.start * NR..columns.min(task.panels.end * NR);
        StoreBf16 {
            columns: range.len(),
            bias: bias.map(|bias| &bias[range.clone()]),
            residual: residual.map(|all| (&all[task.rows.start * columns + range.start..], columns)),
            planes,
        }
    };
    let pieces = partition.split_planes(out.into_iter(), steps, 1);
    let sinks = partition.tasks().into_iter().zip(pieces).map(sink).collect();
    multiply(isa, a, w, &partition, sinks);
}

/// `value·gelu(gate)`, rounded for the next product as `a` was for this one.
pub(crate) fn geglu_to_packed(isa: Isa, a: &impl TileSource, rows: usize, w: &GegluWeights) -> PackedA {
    let GegluWeights { weights, bias, .. } = w;
    check_precision(a, weights);
    let mut out = PackedA::rows(w.precision(), rows, w.features());
    let partition = Partition::new(rows, weights.out_features(), GEGLU_BLOCKS, 2);
    let sink = |(task, planes): (Task, _)| StoreGegluBf16 {
        bias: &bias[task.panels.start * NR..],
        columns: w.features().min(task.panels.end / 2 * NR) - task.panels.start / 2 * NR,
        planes,
    };
    let k_steps = w.features().div_ceil(NR);
    let pieces = partition.split_planes(out.planes_mut(), k_steps, 2);
    let sinks = partition.tasks().into_iter().zip(pieces).map(sink).collect();
    multiply(isa, a, weights, &partition, sinks);
    out
}

fn check_precision(a: &impl TileSource, w: &PackedWeights) {
    let (found, expected) = (a.precision(), w.precision());
    assert_eq!(found, expected, "an operand that was rounded for {found} meets weights for {expected}");
}

/// Does all tasks of a product.
fn multiply<F: OutputSink>(
    isa: Isa,
    a: &impl TileSource,
    w: &PackedWeights,
    partition: &Partition,
    sinks: Vec<F>,
) {
    for_each_task(partition.tasks().into_par_iter().zip(sinks), |(task, sink)| {
        SCRATCH.with_borrow_mut(|scratch| isa.run_with_unit(TiledTask { a, w, task, sink, scratch }));
    });
}

/// Buffers that a thread keeps from task to task.
#[derive(Default)]
struct TiledBuffers {
    sums: Vec<PanelRow>,
    /// TileSource of A that had to be copied together.
    tiles: Vec<ATile>,
}

thread_local! {
    static SCRATCH: RefCell<TiledBuffers> = RefCell::default();
}

/// One task, with all that it needs.
struct TiledTask<'a, T, F> {
    a: &'a T,
    w: &'a PackedWeights,
    task: Task,
    sink: F,
    scratch: &'a mut TiledBuffers,
}

/// A panel meets a block of the depth.
struct Pass {
    /// Counted from the task's first.
    panel: usize,
    block: Range<usize>,
}

/// Where sums stand while jobs add to them and while they wait for their epilogue.
#[derive(Clone, Copy)]
enum AccumulatorLayout {
    /// Each sum takes one job: there is room for two jobs, one under way, one in its epilogue.
    Jobs {
        /// Jobs of a panel.
        of_panel: usize,
    },
    /// There is room for whole panels: for all of them if each waits for the next block of the
    /// depth, else for those under way and those in their epilogue.
    Panels { number: usize, height: usize },
}

impl AccumulatorLayout {
    /// Rows of sums.
    fn len(self) -> usize {
        match self {
            AccumulatorLayout::Jobs { .. } => 2 * JOB_ROWS,
            AccumulatorLayout::Panels { number, height } => number * height,
        }
    }

    /// The place of some rows of a panel, all of one job if there is room for no more; both counted
    /// from the task's first.
    #[inline(always)]
    fn place(self, panel: usize, rows: Range<usize>) -> Range<usize> {
        let first = match self {
            AccumulatorLayout::Jobs { of_panel } => {
                (panel * of_panel + rows.start / JOB_ROWS) % 2 * JOB_ROWS + rows.start % JOB_ROWS
            }
            AccumulatorLayout::Panels { number, height } => panel % number * height + rows.start,
        };
        first..first + rows.len()
    }
}

/// Complete sums that wait for what becomes of them. They are handed over a few rows at a time,
/// each lot behind a job: vectors and tiles work at the same time only if they stand near each
/// other.
struct PendingRows {
    /// The first row, and its panel, the last of those that are finished together; both counted
    /// from the task's first.
    row: usize,
    panel: usize,
    /// How many rows wait, here and in later panels.
    rows: usize,
}

impl PendingRows {
    /// Hands over at most `count`, all of one panel. `sums` knows where those of a panel begin.
    #[inline(always)]
    fn store<'s, S: Simd, U: MatmulUnit, F: OutputSink>(
        &mut self,
        (s, unit): (S, U),
        sink: &mut F,
        task_rows: usize,
        at_most: usize,
        sums: impl Fn(usize, Range<usize>) -> &'s [PanelRow],
    ) {
        if self.rows == 0 {
            return;
        }
        let rows = self.row..task_rows.min(self.row + self.rows.min(at_most));
        self.rows -= rows.len();
        let last = sums(self.panel, rows.clone());
        match F::PANELS {
            1 => sink.store(s, unit, self.panel, rows.clone(), [last, &[]]),
            _ => {
                let first = sums(self.panel - 1, rows.clone());
                sink.store(s, unit, self.panel - 1, rows.clone(), [first, last]);
            }
        }
        self.row = rows.end;
        if self.row == task_rows {
            (self.panel, self.row) = (self.panel + F::PANELS, 0);
        }
    }
}

impl<T: TileSource, F: OutputSink> UnitOp for TiledTask<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) {
        let TiledTask { a, w, task, mut sink, scratch } = self;
        let terms = w.precision().terms();
        let (rows, panels) = (task.rows.len(), task.panels.len());
        let row_tiles = rows.div_ceil(TILE_M);
        let height = row_tiles * TILE_M;
        let longest = match F::PANELS {
            _ if w.segments() > 1 => U::WINDOW_KC_STEPS,
            2 if w.k_steps() <= GEGLU_KC_STEPS => U::KC_STEPS.max(GEGLU_KC_STEPS),
            _ => U::KC_STEPS,
        };
        let longest = kc_steps(w.k_steps(), w.segments(), longest);
        let blocks: Vec<_> = k_blocks(w.k_steps(), longest).collect();
        // TileSource that are copied together have room for a block's only.
        let by_blocks = w.segments() > 1 || a.may_copy() || w.k_steps() > U::CACHED_STEPS;
        let at_a_time = if by_blocks { 1 } else { blocks.len() };
        let passes = passes(panels, &blocks, at_a_time, F::PANELS);
        let jobs = height.div_ceil(JOB_ROWS);
        let layout = match (blocks.len() == 1 && F::PANELS == 1, at_a_time < blocks.len()) {
            (true, _) => AccumulatorLayout::Jobs { of_panel: jobs },
            (_, true) => AccumulatorLayout::Panels { number: panels, height },
            _ => AccumulatorLayout::Panels { number: 2 * F::PANELS, height },
        };
        grow(&mut scratch.sums, layout.len(), PanelRow::ZERO);
        if a.may_copy() {
            grow(&mut scratch.tiles, terms * row_tiles * w.k_steps().min(longest), ZERO_TILE);
        }
        let TiledBuffers { sums: all_sums, tiles: copies } = scratch;
        // So many that all rows of a panel are finished before its room is needed again. A power of
        // two that follows from the depth alone, also for the last rows: so moments are taken in
        // the same runs wherever in a batch an image is.
        let rows_per_job = match layout {
            AccumulatorLayout::Jobs { .. } => JOB_ROWS,
            AccumulatorLayout::Panels { .. } => JOB_ROWS.div_ceil(F::PANELS * at_a_time).next_power_of_two(),
        };
        let mut pending = PendingRows { row: 0, panel: F::PANELS - 1, rows: 0 };
        let mut upcoming = passes.iter().skip(1);
        for (passes, blocks) in passes.chunks(panels * at_a_time).zip(blocks.chunks(at_a_time)) {
            let depth = blocks[0].start..blocks[blocks.len() - 1].end;
            let mut copies = copies.iter_mut();
            let mut tiles: Vec<&ATile> = Vec::with_capacity(terms * row_tiles * depth.len());
            for term in 0..terms {
                for i in 0..row_tiles {
                    a.gather(term, task.rows.start + i * TILE_M, depth.clone(), &mut copies, &mut tiles);
                }
            }
            for Pass { panel, block } in passes {
                let within = block.start - depth.start..block.end - depth.start;
                let tiles =
                    |term: usize, i: usize| &tiles[(term * row_tiles + i) * depth.len()..][within.clone()];
                let (number, last) = (task.panels.start + panel, block.end == w.k_steps());
                let next = upcoming.next();
                for (i, row) in (0..height).step_by(JOB_ROWS).enumerate() {
                    let job_rows = row..height.min(row + JOB_ROWS);
                    if last {
                        sink.prefetch(s, *panel, row..rows.min(job_rows.end));
                    }
                    let sums = &mut all_sums[layout.place(*panel, job_rows.clone())];
                    for (n, &(term_of_a, term_of_b)) in term_products(terms).iter().enumerate() {
                        let job = TileJob {
                            upper: tiles(term_of_a, 2 * i),
                            lower: (job_rows.len() > TILE_M).then(|| tiles(term_of_a, 2 * i + 1)),
                            b: &w.panel_k_steps(number, term_of_b)[block.clone()],
                            first: block.start == 0 && n == 0,
                            last_depth: TILE_K,
                        };
                        // Each job prefetches its share of the next pass's weights (`hi` and `lo`).
                        let ahead = match next {
                            Some(next) if n < terms => {
                                let next =
                                    &w.panel_k_steps(task.panels.start + next.panel, n)[next.block.clone()];
                                share(next, i, jobs)
                            }
                            _ => &[],
                        };
                        unit.multiply_ahead(s, job, ahead, sums);
                    }
                    pending.store((s, unit), &mut sink, rows, rows_per_job, |panel, rows| {
                        &all_sums[layout.place(panel, rows)]
                    });
                    if last && panel % F::PANELS == F::PANELS - 1 {
                        pending.rows += rows.min(job_rows.end) - row;
                    }
                }
            }
        }
        while pending.rows > 0 {
            pending.store((s, unit), &mut sink, rows, rows_per_job, |panel, rows| {
                &all_sums[layout.place(panel, rows)]
            });
        }
        s.drain();
    }
}

/// All passes of a task, in order: with so many blocks `at_a_time`, all panels, of which some
/// finish `together`.
fn passes(panels: usize, blocks: &[Range<usize>], at_a_time: usize, together: usize) -> Vec<Pass> {
    let mut passes = Vec::with_capacity(panels * blocks.len());
    for blocks in blocks.chunks(at_a_time) {
        for first in (0..panels).step_by(together) {
            for block in blocks {
                passes.extend((first..first + together).map(|panel| Pass { panel, block: block.clone() }));
            }
        }
    }
    passes
}

/// Part `i` of a slice that is cut into `parts` nearly equal ones.
#[inline(always)]
fn share<T>(all: &[T], i: usize, terms: usize) -> &[T] {
    &all[i * all.len() / terms..(i + 1) * all.len() / terms]
}

/// Makes a buffer at least so long.
#[inline(always)]
fn grow<T: Copy>(buffer: &mut Vec<T>, len: usize, filler: T) {
    if buffer.len() < len {
        buffer.resize(len, filler);
    }
}

/// The steps of each block but the last: as nearly equal as they can be, each with whole turns of
/// the segments, unless one is longer than `longest`.
fn kc_steps(k_steps: usize, segments: usize, longest: usize) -> usize {
    let unit = if segments <= longest { segments.max(1) } else { 1 };
    let units = k_steps.div_ceil(unit);
    let count = units.div_ceil(longest / unit).max(1);
    units.div_ceil(count) * unit
}

/// The steps of a unit's depth as blocks; one of no steps if there are none, which makes the sums
/// zero.
fn k_blocks(k_steps: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    let count = k_steps.div_ceil(block.max(1)).max(1);
    (0..count).map(move |i| i * block..((i + 1) * block).min(k_steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_take_whole_turns_of_the_segments() {
        for ((k_steps, segments, longest), expected) in [
            ((90, 9, 126), vec![(0, 90)]),
            ((360, 9, 126), vec![(0, 126), (126, 252), (252, 360)]),
            ((90, 9, 20), vec![(0, 18), (18, 36), (36, 54), (54, 72), (72, 90)]),
            ((40, 1, 20), vec![(0, 20), (20, 40)]),
            ((40, 1, 15), vec![(0, 14), (14, 28), (28, 40)]),
            ((49, 49, 20), vec![(0, 17), (17, 34), (34, 49)]), // a turn is longer than a block
            ((0, 0, 20), vec![(0, 0)]),
        ] {
            let block = kc_steps(k_steps, segments, longest);
            let found: Vec<_> = k_blocks(k_steps, block).map(|block| (block.start, block.end)).collect();
            assert_eq!(found, expected, "{k_steps} steps, {segments} segments, {longest}");
        }
    }
}
