//! The product in f32, cut so that every level of the memory holds what the next one needs.
//!
//! ```text
//! in parallel: for each chunk of rows × group of panels (a task; its sums stay in the L2 cache)
//!     for each block of the depth                       (a block of a panel stays in the L1 cache)
//!         find the rows of A                            (anywhere in memory)
//!         for each panel of the group                   (weights are read once per task, in order)
//!             for each MR rows                          (sums in registers: `microkernel.rs`)
//!                 sums += rows · panel
//!     write the sums to the output, through the epilogue
//! ```
//!
//! Products in bf16 are cut alike; what a tile unit needs beyond that is in `tiled.rs`.
//!
//! The cut depends on the shape alone and each sum has a fixed order, so the result is the same,
//! bit for bit, on any number of threads.

use std::cell::RefCell;

use rayon::prelude::*;

use super::a::rows::{DepthRange, MAX_DEPTH_RANGE, ZEROS};
use super::epilogue::TileOrigin;
use super::epilogue::geglu::{GegluWeights, StoreGeglu};
use super::epilogue::store::OutputSink;
use super::partition::{BlockSizes, NC_PANELS, Partition, Task};
use super::{Epilogue, NR, PackedWeights, Rows};
use crate::Isa;
use crate::cpu::simd::{Op, Simd};
use crate::cpu::stored::Stored;
use crate::cpu::tile::PanelRow;
use crate::cpu::tile::microkernel::{MR, MR_STEP, tile};
use crate::cpu::tile::software::Software;

/// Depth of a block: 256 rows of a panel (NR = 32) are 32 KB, two thirds of today's L1 caches.
const KC: usize = 256;
/// Rows of a task: with its panels their sums take 300 KB, their parts of a block another 240 KB.
const MC: usize = 20 * MR;
/// Rows that are finished together: of all panels before the next rows, so that few pages of the
/// output are written at a time.
const FINISHED_ROWS: usize = 16;
/// A task.
const BLOCKS: BlockSizes = BlockSizes { tile_rows: MR, rows: MC, panels: NC_PANELS };

/// `out[m] = epilogue(Σₖ a[m, k]·w[n, k])` with weights for f32; the rows of the output may stand
/// anywhere.
pub(crate) fn product<T: Stored>(
    isa: Isa,
    a: &impl Rows,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: Vec<&mut [T]>,
) {
    let (rows, columns) = (out.len(), w.out_features());
    epilogue.check(rows, columns);
    let partition = Partition::new(rows, columns, BLOCKS, 1);
    multiply(isa, a, w, &partition, partition.sinks(epilogue, TileOrigin::of(rows, columns), out, None));
}

/// `out[m, j] = value·gelu(gate)` for as many rows of A as there are of the output.
pub(crate) fn geglu_product(isa: Isa, a: &impl Rows, w: &GegluWeights, out: Vec<&mut [f32]>) {
    let GegluWeights { weights, bias, .. } = w;
    let partition = Partition::new(out.len(), weights.out_features(), BLOCKS, 2);
    let pieces = partition.split_output(out, partition.group * NR / 2);
    let sink = |(task, out): (Task, _)| StoreGeglu { bias: &bias[task.panels.start * NR..], out };
    let sinks = partition.tasks().into_iter().zip(pieces).map(sink).collect();
    multiply(isa, a, weights, &partition, sinks);
}

/// Does all tasks of a product.
fn multiply<F: OutputSink>(isa: Isa, a: &impl Rows, w: &PackedWeights, partition: &Partition, sinks: Vec<F>) {
    partition.tasks().into_par_iter().zip(sinks).for_each(|(task, sink)| {
        SCRATCH.with_borrow_mut(|scratch| isa.run(BlockedTask { a, w, task, sink, scratch }));
    });
}

/// Buffers that a thread keeps from task to task.
#[derive(Default)]
struct BlockedBuffers {
    /// `[panels][rows]`
    sums: Vec<PanelRow>,
    /// A block of a panel that had to be converted.
    weights: Vec<PanelRow>,
}

thread_local! {
    static SCRATCH: RefCell<BlockedBuffers> = RefCell::default();
}

/// One task, with all that it needs.
struct BlockedTask<'a, R, F> {
    a: &'a R,
    w: &'a PackedWeights,
    task: Task,
    sink: F,
    scratch: &'a mut BlockedBuffers,
}

impl<R: Rows, F: OutputSink> Op for BlockedTask<'_, R, F> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let BlockedTask { a, w, task, mut sink, scratch } = self;
        let padded_rows = task.rows.len().next_multiple_of(MR_STEP);
        scratch.sums.resize(task.panels.len() * padded_rows, PanelRow::ZERO);
        scratch.weights.resize(KC, PanelRow::ZERO);

        let mut a_rows: Vec<&[f32]> = Vec::with_capacity(padded_rows);
        // A list, lest the inner loop compute the ends of its block again and again.
        let depths: Vec<DepthRange> = blocks(w.segments(), w.segment_len()).collect();
        for (i, depth) in depths.iter().enumerate() {
            let (start, len) = (depth.start, depth.range.len());
            a_rows.clear();
            a.gather(task.rows.clone(), depth.clone(), &mut a_rows);
            a_rows.resize(padded_rows, &ZEROS);
            for (panel, sums) in task.panels.clone().zip(scratch.sums.chunks_exact_mut(padded_rows)) {
                let b = w.block(s, panel, start, len, &mut scratch.weights);
                let (panel, ahead) = match task.panels.contains(&(panel + 1)) {
                    true => (panel + 1, Some(depth)),
                    false => (task.panels.start, depths.get(i + 1)),
                };
                if let Some(ahead) = ahead {
                    w.prefetch(s, panel, ahead.start, ahead.range.len());
                }
                for (a, sums) in a_rows.chunks(MR).zip(sums.chunks_mut(MR)) {
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
                sink.store(s, Software, panel, rows.clone(), [of(panel), second]);
            }
        }
    }
}

/// The depth as blocks of nearly equal length, none crossing the border of a segment; an empty one
/// if there is none, which makes the sums zero.
fn blocks(segments: usize, segment_len: usize) -> impl Iterator<Item = DepthRange> {
    const { assert!(KC <= MAX_DEPTH_RANGE) };
    let segment_len = if segments == 0 { 0 } else { segment_len };
    let count = segment_len.div_ceil(KC).max(1);
    let len = segment_len.div_ceil(count);
    (0..(segments * count).max(1)).map(move |i| {
        let (segment, block) = (i / count, i % count);
        let range = block * len..((block + 1) * len).min(segment_len);
        DepthRange { segment, start: segment * segment_len + range.start, range }
    })
}
