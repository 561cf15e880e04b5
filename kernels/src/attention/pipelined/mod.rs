//! Attention for a unit that multiplies while the vectors weigh: `schedule.rs` has what happens at a time.
//!
//! ```text
//! for each head, once:      K in steps (columns are keys), V in groups of 48 columns, a column of ones behind the last
//! for a chunk of queries:   for each of some neighbouring heads:
//!                               Q in tiles; m of each query from its scores for the first 32 keys
//!                               for each block of keys: the beats of all its units for all queries; then the other groups of V
//!                               mean = O / the column of sums
//!                           the means of a query, heads side by side, as f32 or rounded for the layer behind
//! ```
//!
//! `operands.rs` has how they come to stand so. A block of keys stays in the L1 cache while the queries of a chunk come from L2. m is a guess, which real scores do not prove wrong: only if a later
//! score were 2¹²⁷ times as heavy would a weight overflow. The sum of a query's weights tells; an image with such a query is left to
//! [`rounded`](super::rounded).

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
mod pack;
pub(crate) mod schedule;
mod unit;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::transpose::{Contiguous, for_each_chunk};
use super::{Attention, check};
use crate::attention::pipelined::schedule::{
    BLOCK, Buffers, GROUP, KEYS, QUERIES, Schedule, Scores, SumTile, blocks, in_range, shift,
};
use crate::cpu::partition::MIN_TASKS;
use crate::cpu::simd::{MAX_LANES, Simd};
use crate::cpu::tile::UnitOp;
use crate::cpu::tile::{ATile, BTile, MatmulUnit, TILE_K, TILE_M, TileJob, TileRow, ZERO_TILE};
use crate::gemm::{PackedA, PanelRow};
use crate::{Isa, Precision};
pub(super) use pack::PIECE;
use pack::{GROUP_COLUMNS, Head, HeadSource, Pack, groups};
use unit::PipelinedUnit;

/// Queries of a task.
const CHUNK: usize = 32 * QUERIES;
/// Queries of a task where there would be too few tasks.
const SMALL_CHUNK: usize = 8 * QUERIES;

/// Whether this is the fastest form: with a unit that can, and if all keys are seen by all queries.
pub(super) fn pays(isa: Isa, settings: Attention) -> bool {
    settings.precision == Precision::Bf16 && !settings.causal && isa.can_pipeline()
}

/// Attention in bf16, interleaved; see [`attention`](super::attention()). With it come the images whose result is not to be used, because some of their
/// weights were too large to be represented or some of their keys not finite: [`rounded`](super::rounded) can do them.
///
/// # Panics
/// As [`attention`](super::attention()); also if the precision is not bf16, or causal attention is asked for.
pub fn attention(
    isa: Isa,
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> (Tensor<f32, 4>, Vec<usize>) {
    let (images, queries, keys, heads, head_dim) = check(q, k, v);
    let qkv = Contiguous::new([q, k, v]);
    let [q, k, v] = qkv.views();
    let shape = Shape { images, queries, keys, heads, head_dim };
    let mut out = Tensor::recycled([images, queries, heads / shape.together(), shape.width()]);
    if out.is_empty() {
        return (out.reshape([images, queries, heads, head_dim]), Vec::new());
    }
    let whole = AllHeads::new(isa, shape, [q, k, v].map(HeadSource::F32), settings);
    for_each_chunk(&mut out, shape.chunk(), |place, out| {
        whole.attend(place.image, place.head, place.first_query, OutputRows::F32(out));
    });
    (out.reshape([images, queries, heads, head_dim]), whole.overflowed())
}

/// [`attention`] of operands that were rounded as rows for a linear layer, `[images · tokens, heads · head_dim]`; so is the result. Where there are more
/// images of keys than of queries, the queries begin again with their first.
///
/// # Panics
/// As [`attention`], or if heads do not begin at multiples of eight channels.
pub(crate) fn attention_of_packed(
    isa: Isa,
    [q, k, v]: [&PackedA; 3],
    shape: Shape,
    settings: Attention,
) -> (PackedA, Vec<usize>) {
    assert!([q, k, v].iter().all(|x| x.layout().is_rows()), "an image's border is not to be attended to");
    assert!(
        shape.head_dim.is_multiple_of(PIECE),
        "heads of {} channels are not whole pieces",
        shape.head_dim
    );
    let Shape { images, queries, heads, head_dim, .. } = shape;
    let mut out = PackedA::rows(Precision::Bf16, images * queries, heads * head_dim);
    let whole = AllHeads::new(isa, shape, [q, k, v].map(HeadSource::Packed), settings);
    let (chunk, per_group) = (shape.chunk(), shape.width().div_ceil(TILE_K));
    let chunks = queries.div_ceil(chunk);
    let mut pieces: Vec<Vec<&mut [TileRow]>> = Vec::new();
    pieces.resize_with(images * chunks * heads / shape.together(), Vec::new);
    for (step, plane) in out.planes_mut().enumerate() {
        for (image, lines) in plane.chunks_mut(queries).enumerate() {
            for (i, lines) in lines.chunks_mut(chunk).enumerate() {
                pieces[(step / per_group * images + image) * chunks + i].push(lines);
            }
        }
    }
    pieces.into_par_iter().enumerate().for_each(|(i, planes)| {
        whole.attend(
            i / chunks % images,
            i / chunks / images,
            i % chunks * chunk,
            OutputRows::Packed(planes),
        );
    });
    (out, whole.overflowed())
}

/// What there is to attend to.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Images of keys.
    pub(crate) images: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

impl Shape {
    /// Neighbouring heads of a task: so many that their channels are whole lines, if there are so many.
    fn together(&self) -> usize {
        let whole = |&n: &usize| self.heads.is_multiple_of(n) && (n * self.head_dim).is_multiple_of(TILE_K);
        (1..self.heads).find(whole).unwrap_or(self.heads)
    }

    /// Channels of a task.
    fn width(&self) -> usize {
        self.together() * self.head_dim
    }

    /// Queries of a task.
    fn chunk(&self) -> usize {
        let tasks = self.images * self.heads / self.together() * self.queries.div_ceil(CHUNK);
        if tasks >= MIN_TASKS { CHUNK } else { SMALL_CHUNK }
    }
}

/// Where the means of a chunk of queries go.
enum OutputRows<'a> {
    /// A row for each query.
    F32(Vec<&'a mut [f32]>),
    /// HiLoPlanes with a line for each.
    Packed(Vec<&'a mut [TileRow]>),
}

/// All of it, with K and V packed.
struct AllHeads<'a> {
    isa: Isa,
    shape: Shape,
    q: HeadSource<'a>,
    /// `[images][heads]`
    packed: Vec<Head>,
    scale: f32,
    /// `[images]`
    overflowed: Vec<AtomicBool>,
}

impl<'a> AllHeads<'a> {
    fn new(isa: Isa, shape: Shape, [q, k, v]: [HeadSource<'a>; 3], settings: Attention) -> Self {
        let Attention { scale, causal, precision } = settings;
        assert!(precision == Precision::Bf16 && !causal, "interleaved attention is not for {settings:?}");
        assert!(scale > 0.0, "a scale of {scale} would hide the largest score");
        let packed = (0..shape.images * shape.heads)
            .into_par_iter()
            .map(|i| isa.run_with_unit(Pack { k, v, shape, image: i / shape.heads, head: i % shape.heads }))
            .collect();
        let overflowed = (0..shape.images).map(|_| AtomicBool::new(false)).collect();
        Self { isa, shape, q, packed, scale, overflowed }
    }

    /// The means of a chunk of queries of an image, for a task's heads.
    fn attend(&self, image: usize, group: usize, first_query: usize, out: OutputRows<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            let run = PipelinedTask { whole: self, image, group, first_query, out, scratch };
            if !self.isa.run_with_unit(run) {
                self.overflowed[image].store(true, Relaxed);
            }
        });
    }

    /// The images of which something overflowed or was not finite.
    fn overflowed(&self) -> Vec<usize> {
        (0..self.shape.images).filter(|&image| self.overflowed[image].load(Relaxed)).collect()
    }
}

/// A chunk of queries of an image, and some heads.
struct PipelinedTask<'a> {
    whole: &'a AllHeads<'a>,
    image: usize,
    group: usize,
    first_query: usize,
    out: OutputRows<'a>,
    scratch: &'a mut PipelinedBuffers,
}

/// Buffers that a thread keeps from task to task.
struct PipelinedBuffers {
    /// Q of a head: `[tiles of queries][steps]`
    queries: Vec<ATile>,
    scores: [Scores; 2],
    weights: Vec<ATile>,
    /// `[groups][tiles of queries + 1]`
    sums: Vec<[SumTile; GROUP]>,
    /// `[queries][heads][head_dim]`
    means: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<PipelinedBuffers> = const {
        RefCell::new(PipelinedBuffers {
            queries: Vec::new(),
            scores: [Scores::ZERO; 2],
            weights: Vec::new(),
            sums: Vec::new(),
            means: Vec::new(),
        })
    };
}

impl UnitOp for PipelinedTask<'_> {
    /// Whether the sums can be in_range.
    type Output = bool;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> bool {
        let PipelinedTask { whole, image, group, first_query, out, scratch } = self;
        let Shape { keys, heads, head_dim, .. } = whole.shape;
        let count = match &out {
            OutputRows::F32(rows) => rows.len(),
            OutputRows::Packed(planes) => planes.first().map_or(0, |plane| plane.len()),
        };
        let (together, width) = (whole.shape.together(), whole.shape.width());
        scratch.means.resize(count * width, 0.0);
        let mut good = true;
        for i in 0..together {
            let head = group * together + i;
            let rows = whole.q.rows(image, whole.shape.queries).start + first_query;
            let attend = Attend {
                q: (whole.q, (image, head, head_dim), rows..rows + count),
                head: &whole.packed[image * heads + head],
                keys,
                factor: whole.scale * std::f32::consts::LOG2_E,
                at: [i * head_dim, width],
            };
            good &= attend.run((s, unit), scratch);
        }
        let means = scratch.means.chunks_exact(width);
        match out {
            OutputRows::F32(rows) => {
                rows.into_iter().zip(means).for_each(|(row, means)| row.copy_from_slice(means));
            }
            OutputRows::Packed(mut planes) => unit.round_rows(&means.collect::<Vec<_>>(), &mut planes, 0),
        }
        good
    }
}

/// One head of a task.
struct Attend<'a> {
    /// Where Q comes from: image, head and head_dim, and the rows.
    q: (HeadSource<'a>, (usize, usize, usize), Range<usize>),
    head: &'a Head,
    keys: usize,
    factor: f32,
    /// Where the means go: the first column of the scratch's, and how many columns there are.
    at: [usize; 2],
}

impl Attend<'_> {
    /// Whether the sums can be in_range.
    #[inline(always)]
    fn run<S: Simd, U: MatmulUnit>(self, (s, unit): (S, U), scratch: &mut PipelinedBuffers) -> bool {
        let Self { q: (numbers, place, rows), head, keys, factor, at: [first_column, width] } = self;
        let (_, _, head_dim) = place;
        let (count, tiles) = (rows.len(), rows.len().div_ceil(QUERIES));
        let (steps, units, groups) = (head_dim.div_ceil(TILE_K), keys.div_ceil(KEYS), groups(head_dim));
        let (k, v) = (head.keys.steps(), head.values.as_chunks::<TILE_M>().0);
        let values = |group: usize| &v[group * units * GROUP..][..units * GROUP];

        let PipelinedBuffers { queries, scores, weights, sums, means } = scratch;
        queries.resize(tiles * steps, ZERO_TILE);
        for (tile, first) in queries.chunks_mut(steps).zip((rows.start..).step_by(QUERIES)) {
            let mut steps: Vec<&mut [TileRow]> = tile.iter_mut().map(|step| &mut step[..]).collect();
            numbers.lines(unit, place, first..rows.end.min(first + QUERIES), &mut steps);
        }
        let shifts = estimate((s, unit), queries, &k[..steps], keys.min(KEYS), factor);

        sums.clear();
        sums.resize(groups * (tiles + 1), [SumTile::ZERO; GROUP]);
        let plan_of = |units: usize| Schedule::new(tiles, units, steps, groups > 1);
        let mut schedule = plan_of(units.min(BLOCK));
        weights.resize(schedule.weights(), ZERO_TILE);
        for block in blocks(units) {
            if block.len() < BLOCK {
                schedule = plan_of(block.len());
            }
            let buffers = Buffers {
                factor,
                queries,
                keys: &k[block.start * steps..],
                values: &values(0)[block.start * GROUP..],
                shifts: &shifts,
                scores,
                weights,
                sums: &mut sums[..=tiles],
            };
            unit.run_schedule(&schedule, buffers);
            for group in 1..groups {
                let values = &values(group)[block.start * GROUP..block.end * GROUP];
                let sums = &mut sums[group * (tiles + 1)..][..tiles];
                for (weights, sums) in weights.chunks(block.len()).zip(sums) {
                    unit.add_values(weights, values, sums);
                }
            }
        }

        let column = |i: usize, column: usize| -> &[f32; TILE_M] {
            let (group, tile) = (column / GROUP_COLUMNS, column % GROUP_COLUMNS / TILE_M);
            &sums[group * (tiles + 1) + i / QUERIES][tile].0[i % QUERIES]
        };
        let mut good = head.keys_are_finite;
        for (i, means) in means.chunks_exact_mut(width).take(count).enumerate() {
            let total = column(i, head_dim)[head_dim % TILE_M];
            good &= in_range(total);
            let factor = s.splat(1.0 / total);
            let means = &mut means[first_column..][..head_dim];
            for (first, means) in (0..head_dim).step_by(TILE_M).zip(means.chunks_mut(TILE_M)) {
                let sums = column(i, first);
                for (lane, means) in (0..TILE_M).step_by(S::LANES).zip(means.chunks_mut(S::LANES)) {
                    let mean = s.mul(s.load(&sums[lane..]), factor);
                    if means.len() == S::LANES { s.store(mean, means) } else { s.store_part(mean, means) }
                }
            }
        }
        good
    }
}

/// The shift of each query for an m that is its largest score for the keys of the first unit, rounded up.
#[inline(always)]
fn estimate<S: Simd, U: MatmulUnit>(
    (s, unit): (S, U),
    queries: &[ATile],
    keys: &[BTile],
    count: usize,
    factor: f32,
) -> Vec<[f32; QUERIES]> {
    let steps = keys.len();
    let mut sums = [PanelRow::ZERO; 2 * TILE_M];
    let mut shifts = Vec::with_capacity(queries.len() / steps + 1);
    for pair in queries.chunks(2 * steps) {
        let tiles: Vec<&ATile> = pair.iter().collect();
        let (upper, lower) = tiles.split_at(steps);
        let lower = (!lower.is_empty()).then_some(lower);
        let rows = if lower.is_some() { 2 * TILE_M } else { TILE_M };
        unit.multiply(s, TileJob { upper, lower, b: keys, first: true }, &mut sums[..rows]);
        for rows in sums[..rows].chunks(TILE_M) {
            let mut tile = [0.0; QUERIES];
            for (rows, tile) in rows.chunks(S::LANES).zip(tile.chunks_mut(S::LANES)) {
                let mut largest = [s.splat(f32::MIN); MAX_LANES];
                for (largest, row) in largest.iter_mut().zip(rows) {
                    *largest = s.reduce(&row[..count], f32::MIN, *largest, |a, b| s.max(a, b));
                }
                s.transpose(&mut largest);
                let all = largest[..S::LANES].iter().fold(largest[0], |a, &b| s.max(a, b));
                s.store(all, tile);
            }
            shifts.push(tile.map(|largest| shift((largest * factor).ceil())));
        }
    }
    shifts
}
