//! Attention in bf16: a tile unit multiplies while the vectors compute the softmax of other tiles.
//!
//! ```text
//! for each image and head:                      K, V packed                     pack.rs
//! for each chunk of Bq queries:                 a rayon task
//!   for each of its heads:
//!     Q packed; m of each query from its scores for the first 32 keys
//!     for each block of Bk keys:                its K and V stay in L1
//!       for each pair of query tiles:           Q, O come from L2               schedule.rs
//!         S = Q·Kᵀ,  P = 2^(factor·S − m),  O += P·V,   with a column of ones in V
//!     mean = O / O's column of ones
//!   the means, heads side by side, as f32 or rounded for the layer behind
//! ```
//!
//! | | value | why |
//! |---|---|---|
//! | Bq, `CHUNK` | 512 or 128 | K, V of a head come from L3 once for Bq queries |
//! | Bk, `BLOCK` | 64 | the working set is 40 KB for heads of 40 |
//! | pair | 32 queries | each tile of K and V that is loaded is used twice |
//! | `GROUP` | 48 columns of V | heads of 40 and the column of ones |

#[cfg(target_arch = "x86_64")]
mod amx;
mod numerators;
mod pack;
mod portable;
mod schedule;

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::transpose::{Contiguous, for_each_chunk};
use super::{Attention, check};
use crate::cpu::partition::MIN_TASKS;
use crate::cpu::simd::{MAX_LANES, Simd, math};
use crate::cpu::tile::{ATile, MatmulUnit, TILE_K, TILE_M, TileRow, UnitOp, ZERO_TILE};
use crate::gemm::PackedA;
use crate::{Isa, Precision};
use numerators::{SHIFT_OF_ZERO, in_range};
pub(super) use pack::PIECE;
use pack::{GROUP_COLUMNS, Head, HeadSource, Pack, groups};
use portable::Portable;
use schedule::{Buffers, Engine, KEYS, PairSums, QUERIES, ScoreStep, ScoreTile, Work, ZERO_SUMS};

/// Queries of a task.
const CHUNK: usize = 32 * QUERIES;
/// Queries of a task where there would be too few tasks.
const SMALL_CHUNK: usize = 8 * QUERIES;

/// Whether this is the fastest form: with a unit that can, and if all keys are seen by all queries.
pub(super) fn pays(isa: Isa, settings: Attention) -> bool {
    settings.precision == Precision::Bf16 && !settings.causal && isa.can_pipeline()
}

/// Attention in bf16; see [`attention`](super::attention()). With it come the images whose result
/// is not to be used, because numerators overflowed or keys were not finite:
/// [`flash_bf16`](super::flash_bf16) can do them.
///
/// # Panics
/// As [`attention`](super::attention()); also if the precision is not bf16, or causal attention is
/// asked for.
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
    let mut out = Tensor::recycled([images, queries, heads / shape.heads_per_task(), shape.width()]);
    if out.is_empty() {
        return (out.reshape([images, queries, heads, head_dim]), Vec::new());
    }
    let whole = AllHeads::new(isa, shape, [q, k, v].map(HeadSource::F32), settings);
    for_each_chunk(&mut out, shape.chunk(), |place, out| {
        whole.attend(place.image, place.head, place.first_query, OutputRows::F32(out));
    });
    (out.reshape([images, queries, heads, head_dim]), whole.overflowed())
}

/// [`attention`] of activations that were rounded as rows for a linear layer, `[images · tokens,
/// heads · head_dim]`; so is the result. Where there are more images of keys than of queries, the
/// queries begin again with their first.
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
    pieces.resize_with(images * chunks * heads / shape.heads_per_task(), Vec::new);
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
    /// Neighbouring heads of a task: as many as make whole lines of channels, else all.
    fn heads_per_task(&self) -> usize {
        let whole = |&n: &usize| self.heads.is_multiple_of(n) && (n * self.head_dim).is_multiple_of(TILE_K);
        (1..self.heads).find(whole).unwrap_or(self.heads)
    }

    /// Channels of a task.
    fn width(&self) -> usize {
        self.heads_per_task() * self.head_dim
    }

    /// Queries of a task.
    fn chunk(&self) -> usize {
        let tasks = self.images * self.heads / self.heads_per_task() * self.queries.div_ceil(CHUNK);
        if tasks >= MIN_TASKS { CHUNK } else { SMALL_CHUNK }
    }
}

/// Where the means of a chunk of queries go.
enum OutputRows<'a> {
    /// A row for each query.
    F32(Vec<&'a mut [f32]>),
    /// Planes with a line for each.
    Packed(Vec<&'a mut [TileRow]>),
}

/// All heads, K and V packed.
struct AllHeads<'a> {
    isa: Isa,
    shape: Shape,
    q: HeadSource<'a>,
    /// `[images][heads]`
    packed: Vec<Head>,
    /// log₂e times the scale.
    factor: f32,
    /// `[images]`
    overflowed: Vec<AtomicBool>,
}

impl<'a> AllHeads<'a> {
    fn new(isa: Isa, shape: Shape, [q, k, v]: [HeadSource<'a>; 3], settings: Attention) -> Self {
        let Attention { scale, causal, precision } = settings;
        assert!(precision == Precision::Bf16 && !causal, "pipelined attention is not for {settings:?}");
        assert!(scale > 0.0, "a scale of {scale} would hide the largest score");
        let packed = (0..shape.images * shape.heads)
            .into_par_iter()
            .map(|i| isa.run_with_unit(Pack { k, v, shape, image: i / shape.heads, head: i % shape.heads }))
            .collect();
        let overflowed = (0..shape.images).map(|_| AtomicBool::new(false)).collect();
        Self { isa, shape, q, packed, factor: scale * std::f32::consts::LOG2_E, overflowed }
    }

    /// The means of a chunk of queries of an image, for a task's heads.
    fn attend(&self, image: usize, group: usize, first_query: usize, out: OutputRows<'_>) {
        SCRATCH.with_borrow_mut(|scratch| {
            let task = PipelinedTask { whole: self, image, group, first_query, out, scratch };
            if !self.isa.run_with_unit(task) {
                self.overflowed[image].store(true, Relaxed);
            }
        });
    }

    /// The images in which something overflowed or was not finite.
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
    scratch: &'a mut Scratch,
}

/// Memory that a thread keeps from task to task.
struct Scratch {
    /// Q of a head: `[pairs][2][steps]`
    queries: Vec<ATile>,
    /// Of each query: `[pairs][2]`
    shifts: Vec<[f32; QUERIES]>,
    buffers: Buffers,
    /// `[groups][pairs]`
    sums: Vec<PairSums>,
    /// `[queries][heads][head_dim]`
    means: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch {
            queries: Vec::new(),
            shifts: Vec::new(),
            buffers: Buffers::ZERO,
            sums: Vec::new(),
            means: Vec::new(),
        })
    };
}

impl UnitOp for PipelinedTask<'_> {
    /// Whether all totals are in range and all keys finite.
    type Output = bool;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Some(engine) = unit.amx().and_then(|tiles| amx::Amx::new(tiles, self.whole.factor)) {
            return self.run((s, unit), &engine);
        }
        let engine = Portable { factor: self.whole.factor };
        self.run((s, unit), engine)
    }
}

impl PipelinedTask<'_> {
    #[inline(always)]
    fn run<S: Simd, U: MatmulUnit>(self, (s, unit): (S, U), engine: impl Engine) -> bool {
        let Self { whole, image, group, first_query, out, scratch } = self;
        let Shape { queries, keys, heads, head_dim, .. } = whole.shape;
        let count = match &out {
            OutputRows::F32(rows) => rows.len(),
            OutputRows::Packed(planes) => planes.first().map_or(0, |plane| plane.len()),
        };
        let (together, width) = (whole.shape.heads_per_task(), whole.shape.width());
        let first_row = whole.q.rows(image, queries).start + first_query;
        scratch.means.resize(count * width, 0.0);
        let mut good = true;
        for i in 0..together {
            let head = group * together + i;
            let task = HeadTask {
                q: (whole.q, (image, head, head_dim), first_row..first_row + count),
                head: &whole.packed[image * heads + head],
                keys,
                factor: whole.factor,
                at: [i * head_dim, width],
            };
            good &= task.run((s, unit), engine, scratch);
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
struct HeadTask<'a> {
    /// Where Q comes from: image, head and head_dim, and the rows.
    q: (HeadSource<'a>, (usize, usize, usize), Range<usize>),
    head: &'a Head,
    keys: usize,
    factor: f32,
    /// Where the means go: the first column of the scratch's, and how many columns there are.
    at: [usize; 2],
}

impl HeadTask<'_> {
    #[inline(always)]
    fn run<S: Simd, U: MatmulUnit>(
        self,
        (s, unit): (S, U),
        engine: impl Engine,
        scratch: &mut Scratch,
    ) -> bool {
        let Self { q: (source, place, rows), head, keys, factor, at: [first_column, width] } = self;
        let (_, _, head_dim) = place;
        let (count, pairs) = (rows.len(), rows.len().div_ceil(2 * QUERIES));
        let (steps, groups) = (head_dim.div_ceil(TILE_K), groups(head_dim));
        let (k, v) = (head.keys.steps(), head.values.as_chunks::<TILE_M>().0);
        let Scratch { queries, shifts, buffers, sums, means } = scratch;

        // The last tile of an odd number is followed by one of any numbers, whose sums are not
        // used.
        queries.resize(2 * pairs * steps, ZERO_TILE);
        for (tile, first) in queries.chunks_mut(steps).zip(rows.clone().step_by(QUERIES)) {
            let mut steps: Vec<&mut [TileRow]> = tile.iter_mut().map(|step| &mut step[..]).collect();
            source.lines(unit, place, first..rows.end.min(first + QUERIES), &mut steps);
        }
        shifts.clear();
        for pair in queries.chunks(2 * steps) {
            let mut scores = [ScoreTile::ZERO; 2];
            engine.scores(ScoreStep { queries: pair, keys: &k[..steps], scores: &mut scores }, None);
            shifts.extend(scores.each_ref().map(|scores| shifts_of(s, scores, keys.min(KEYS), factor)));
        }

        sums.clear();
        sums.resize(groups * pairs, ZERO_SUMS);
        let keys = &k[..keys.div_ceil(KEYS) * steps];
        schedule::run(engine, Work { queries, keys, values: v, shifts, sums }, buffers);

        let mut good = head.keys_are_finite;
        for (tile, rows) in means.chunks_mut(QUERIES * width).take(count.div_ceil(QUERIES)).enumerate() {
            let sums_at = |column: usize| {
                let sums = &sums[column / GROUP_COLUMNS * pairs + tile / 2][tile % 2];
                &sums[column % GROUP_COLUMNS / TILE_M].0
            };
            let totals = sums_at(head_dim).map(|sums| sums[head_dim % TILE_M]);
            good &= totals[..rows.len() / width].iter().all(|&total| in_range(total));
            let factors = totals.map(|total| 1.0 / total);
            for column in (0..head_dim).step_by(TILE_M) {
                let end = head_dim.min(column + TILE_M);
                let rows = rows.chunks_exact_mut(width).map(|row| &mut row[first_column..][column..end]);
                for ((means, sums), &factor) in rows.zip(sums_at(column)).zip(&factors) {
                    scale(s, sums, factor, means);
                }
            }
        }
        good
    }
}

/// `means = factor·sums`, of 16 columns or of the fewer that are left.
#[inline(always)]
fn scale<S: Simd>(s: S, sums: &[f32; TILE_M], factor: f32, means: &mut [f32]) {
    let factor = s.splat(factor);
    let mut all = [0.0; TILE_M];
    let whole = means.len() == TILE_M;
    let out = if whole { &mut *means } else { &mut all[..] };
    for lane in (0..TILE_M).step_by(S::LANES) {
        s.store(s.mul(s.load(&sums[lane..]), factor), &mut out[lane..]);
    }
    if !whole {
        means.copy_from_slice(&all[..means.len()]);
    }
}

/// The shift of each query for an m that is its largest score for the first `count` keys, rounded.
///
/// m only has to keep the powers from overflowing, which takes a later score that is 2¹²⁷ times as
/// heavy. The sum of the query's numerators tells.
#[inline(always)]
fn shifts_of<S: Simd>(s: S, scores: &ScoreTile, count: usize, factor: f32) -> [f32; QUERIES] {
    let mut shifts = [0.0; QUERIES];
    for (rows, shifts) in scores.0.chunks(S::LANES).zip(shifts.chunks_mut(S::LANES)) {
        let mut largest = [s.splat(f32::MIN); MAX_LANES];
        for (largest, row) in largest.iter_mut().zip(rows) {
            *largest = s.reduce(&row[..count], f32::MIN, *largest, |a, b| s.max(a, b));
        }
        s.transpose(&mut largest);
        let all = largest[..S::LANES].iter().fold(largest[0], |a, &b| s.max(a, b));
        let m = math::round(s, s.mul(all, s.splat(factor)));
        s.store(s.sub(s.splat(SHIFT_OF_ZERO), m), shifts);
    }
    shifts
}
