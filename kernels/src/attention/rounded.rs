//! The same blocks with operands in bf16: both products are jobs for a tile unit.
//!
//! ```text
//! for each head, once:      K in tiles (rows are keys, depth is the head's), Vᵀ in tiles (rows are channels, depth is the keys)
//! for a panel of 32 queries, for each block of keys:
//!     Sᵀ = K·Qᵀ             Qᵀ in pairs along the head's depth
//!     Pᵀ, correction        f32, as in `blocked.rs`; the scale is applied here, so that Q is rounded as it is
//!     Oᵀ = Oᵀ·correction + Vᵀ·Pᵀ         Pᵀ in pairs along the keys: two neighbouring rows of scores, lane by lane
//! ```
//!
//! A tile unit wants the right operand in pairs of neighbours in the depth. For Pᵀ these are rows, so that joining them needs no
//! shuffling: the transposition that spares `blocked.rs` every horizontal sum spares this one the transposition of P. Q and V are transposed
//! when they are rounded already, pair by pair.
//!
//! A tile unit is so fast that most of the time goes to the exponentials, 16 million for each image and head at 64×64. With operands in one part
//! they are powers of 2 to four digits, since P is then rounded to two and a half. The running maximum costs one instruction in ten, and makes
//! overflow impossible whatever the scores are. In `Bf16x3` all four operands, P among them, are split in two, each product is three, and
//! exponentials are as exact as in f32.

use std::cell::RefCell;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::blocked::{Exponential, Natural, RunningSoftmax, contiguous_rows, hide_later_keys};
use super::{Attention, check};
use crate::gemm::bf16::{
    ATile, BStep, Job, Line, Lines, STEP, TILE, Unit, ZERO_TILE, products, split_panel, split_rows,
};
use crate::gemm::{PANEL, Panel, Row};
use crate::isa::UnitOp;
use crate::simd::{Simd, math};
use crate::{Isa, Precision};

/// Keys in a block: the scores are 16 KB and the weights 8 KB, and K, Vᵀ of as many keys are read from the L2 cache.
const BLOCK_KEYS: usize = 4 * STEP;

/// Attention in blocks, its operands in bf16; see [`attention`](super::attention()).
///
/// # Panics
/// As [`attention`](super::attention()); also if the precision is f32 or the scale negative.
pub fn attention(
    isa: Isa,
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> Tensor<f32, 4> {
    let (images, queries, keys, heads, head_dim) = check(q, k, v);
    assert!(settings.precision != Precision::F32, "attention in f32 is `blocked`");
    assert!(settings.scale >= 0.0, "a scale of {} would make the largest score the smallest", settings.scale);
    let mut out = Tensor::recycled([images, queries, heads, head_dim]);
    if out.is_empty() {
        return out;
    }
    let copies = [q, k, v].map(contiguous_rows);
    let [q, k, v] = [(0, q), (1, k), (2, v)].map(|(i, x)| copies[i].as_ref().map_or(x, Tensor::view));
    let parts = settings.precision.parts();
    let packed: Vec<Head<Tiles>> = (0..images * heads)
        .into_par_iter()
        .map(|i| {
            let [k, v] = [k, v].map(|x| x.select::<3>(0, i / heads).select::<2>(1, i % heads));
            isa.run_with_unit(Pack { k, v, parts })
        })
        .collect();
    let all_heads: Vec<Head<Places<'_>>> =
        packed.iter().map(|head| Head { keys: head.keys.places(), values: head.values.places() }).collect();

    // One task for each image, panel of queries and head; each gets its pieces of the output rows.
    let panels = queries.div_ceil(PANEL);
    let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
    pieces.resize_with(images * heads * panels, || Vec::with_capacity(PANEL));
    for (i, piece) in out.as_mut_slice().chunks_exact_mut(head_dim).enumerate() {
        let (n, query, head) = (i / heads / queries, i / heads % queries, i % heads);
        pieces[(n * heads + head) * panels + query / PANEL].push(piece);
    }
    pieces.into_par_iter().enumerate().for_each(|(i, out)| {
        let (n, head, first_query) = (i / panels / heads, i / panels % heads, i % panels * PANEL);
        let task = Task {
            q: q.select::<3>(0, n).select::<2>(1, head).slice(0, first_query..first_query + out.len()),
            head: &all_heads[i / panels],
            keys,
            first_query,
            settings,
            out,
        };
        SCRATCH.with_borrow_mut(|scratch| isa.run_with_unit(Run { task, scratch }));
    });
    out
}

/// 2ˣ, coarse: see [`math::coarse_exp2`].
struct Binary;

impl Exponential for Binary {
    const LOG_E: f32 = std::f32::consts::LOG2_E;
    #[inline(always)]
    fn exp<S: Simd>(s: S, x: S::V) -> S::V {
        math::coarse_exp2(s, x)
    }
}

/// Rows of tiles, for each part: `[parts][tiles of rows][steps]`.
struct Tiles {
    lines: Lines,
    row_tiles: usize,
    steps: usize,
}

impl Tiles {
    /// Of any numbers, to be overwritten.
    fn recycled([rows, depth]: [usize; 2], parts: usize) -> Self {
        let (row_tiles, steps) = (rows.div_ceil(TILE), depth.div_ceil(STEP));
        Self { lines: Lines::recycled(parts * row_tiles * steps * TILE), row_tiles, steps }
    }

    /// The tiles of both parts; the second are none if there is only one.
    fn parts_mut(&mut self) -> (&mut [ATile], &mut [ATile]) {
        let (tiles, _) = self.lines.as_chunks_mut();
        tiles.split_at_mut(self.row_tiles * self.steps)
    }

    /// Rounds the rows of a matrix.
    #[inline(always)]
    fn pack<U: Unit>(unit: U, x: View<'_, f32, 2>, parts: usize) -> Self {
        let mut packed = Self::recycled(x.shape(), parts);
        let steps = packed.steps;
        let (high, low) = packed.parts_mut();
        let all: Vec<&[f32]> = x.rows().collect();
        for (i, rows) in all.chunks(TILE).enumerate() {
            let range = i * steps..(i + 1) * steps;
            let mut high: Vec<&mut [Line]> =
                high[range.clone()].iter_mut().map(|tile| &mut tile[..]).collect();
            let mut low: Vec<&mut [Line]> =
                low.iter_mut().take(range.end).skip(range.start).map(|tile| &mut tile[..]).collect();
            split_rows(unit, rows, (&mut high, &mut low), 0);
        }
        packed
    }

    /// Rounds the columns of a matrix, 32 × 32 numbers at a time: as a step of a right operand, which is then turned on its side.
    #[inline(always)]
    fn pack_columns<U: Unit>(unit: U, x: View<'_, f32, 2>, parts: usize) -> Self {
        let [depth, columns] = x.shape();
        let mut packed = Self::recycled([columns, depth], parts);
        let (row_tiles, steps) = (packed.row_tiles, packed.steps);
        let (high, low) = packed.parts_mut();
        let all: Vec<&[f32]> = x.rows().collect();
        let mut rows = [Panel::ZERO; STEP];
        let [mut high_step, mut low_step] = [BStep::ZERO; 2];
        for (step, numbers) in all.chunks(STEP).enumerate() {
            for first in (0..columns).step_by(PANEL) {
                let width = PANEL.min(columns - first);
                for (row, numbers) in rows.iter_mut().zip(numbers) {
                    row[..width].copy_from_slice(&numbers[first..first + width]);
                    row[width..].fill(0.0);
                }
                let low_steps = if low.is_empty() { &mut [] } else { std::slice::from_mut(&mut low_step) };
                let rows = &rows[..numbers.len()];
                split_panel(unit, rows, std::slice::from_mut(&mut high_step), low_steps);
                for (i, row_tile) in (first / TILE..row_tiles).take(2).enumerate() {
                    high[row_tile * steps + step] = high_step.columns(i * TILE);
                    if !low.is_empty() {
                        low[row_tile * steps + step] = low_step.columns(i * TILE);
                    }
                }
            }
        }
        packed
    }

    /// Where each tile stands.
    fn places(&self) -> Places<'_> {
        let (tiles, _) = self.lines.as_chunks();
        Places { tiles: tiles.iter().collect(), row_tiles: self.row_tiles, steps: self.steps }
    }
}

/// The places of rows of tiles, in the same order.
struct Places<'a> {
    tiles: Vec<&'a ATile>,
    row_tiles: usize,
    steps: usize,
}

impl Places<'_> {
    /// Some steps of one tile of rows.
    #[inline(always)]
    fn get(&self, part: usize, row_tile: usize, steps: Range<usize>) -> &[&ATile] {
        &self.tiles[(part * self.row_tiles + row_tile) * self.steps..][steps]
    }

    /// `sums (+)= rows · b` for all parts; the rows begin at `row_tile` and are as many as there are sums.
    #[inline(always)]
    fn multiply<S: Simd, U: Unit>(
        &self,
        (s, unit): (S, U),
        (row_tile, steps): (usize, Range<usize>),
        b: &[Vec<BStep>; 2],
        sums: &mut [Panel],
        first: bool,
    ) {
        let parts = self.tiles.len() / (self.row_tiles * self.steps);
        for (i, sums) in sums.chunks_mut(2 * TILE).enumerate() {
            let row_tile = row_tile + 2 * i;
            for (n, &(part, part_of_b)) in products(parts).iter().enumerate() {
                let job = Job {
                    upper: self.get(part, row_tile, steps.clone()),
                    lower: (sums.len() > TILE).then(|| self.get(part, row_tile + 1, steps.clone())),
                    b: &b[part_of_b][..steps.len()],
                    first: first && n == 0,
                };
                unit.multiply(s, job, sums);
            }
        }
    }
}

/// What all queries of a head share.
struct Head<T> {
    /// K: rows are keys.
    keys: T,
    /// Vᵀ: rows are channels.
    values: T,
}

/// K and V of a head, `[keys, head_dim]`.
struct Pack<'a> {
    k: View<'a, f32, 2>,
    v: View<'a, f32, 2>,
    parts: usize,
}

impl UnitOp for Pack<'_> {
    type Output = Head<Tiles>;
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, _: S, unit: U) -> Head<Tiles> {
        Head {
            keys: Tiles::pack(unit, self.k, self.parts),
            values: Tiles::pack_columns(unit, self.v, self.parts),
        }
    }
}

/// Up to 32 queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    head: &'a Head<Places<'a>>,
    keys: usize,
    /// The position of the first query among all queries.
    first_query: usize,
    settings: Attention,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
}

/// Buffers that a thread keeps from task to task; what is rounded has a high and a low part.
#[derive(Default)]
struct Scratch {
    /// Some rows of Q: `[steps]`
    rows: [Vec<ATile>; 2],
    /// Qᵀ: `[steps]`
    queries: [Vec<BStep>; 2],
    /// Sᵀ, then Pᵀ in f32: `[keys of a block]`, queries on the lanes
    scores: Vec<Panel>,
    /// Pᵀ: `[steps]`
    weights: [Vec<BStep>; 2],
    /// Oᵀ: `[head_dim]`, queries on the lanes
    sums: Vec<Panel>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

struct Run<'a> {
    task: Task<'a>,
    scratch: &'a mut Scratch,
}

impl UnitOp for Run<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) {
        match self.task.settings.precision {
            Precision::Bf16x3 => self.attend::<S, U, Natural>(s, unit),
            Precision::Bf16 | Precision::F32 => self.attend::<S, U, Binary>(s, unit),
        }
    }
}

impl Run<'_> {
    #[inline(always)]
    fn attend<S: Simd, U: Unit, E: Exponential>(self, s: S, unit: U) {
        let Run { task, scratch } = self;
        let [queries, _] = task.q.shape();
        let Head { keys, values } = task.head;
        let parts = task.settings.precision.parts();
        scratch.round_queries(unit, task.q, parts);
        let Scratch { queries: q_steps, scores, weights, sums, .. } = scratch;
        sums.clear();
        sums.resize(values.row_tiles * TILE, Panel::ZERO);
        let mut softmax = RunningSoftmax::<E>::new(task.settings.scale);

        // No query of this panel sees a key behind its last one.
        let visible =
            if task.settings.causal { task.keys.min(task.first_query + queries) } else { task.keys };
        for first in (0..visible).step_by(BLOCK_KEYS) {
            let block = first..visible.min(first + BLOCK_KEYS);
            scores.resize(block.len().next_multiple_of(TILE), Panel::ZERO);
            keys.multiply((s, unit), (first / TILE, 0..keys.steps), q_steps, scores, true);

            scores.truncate(block.len());
            if task.settings.causal {
                hide_later_keys(scores, block.start, task.first_query);
            }
            let correction = softmax.update(s, scores);
            let steps = scores.len().div_ceil(STEP);
            let [high, low] = weights;
            high.resize(steps, BStep::ZERO);
            low.resize((parts - 1) * steps, BStep::ZERO);
            split_panel(unit, scores, high, low);

            scale_rows(s, sums, correction);
            let steps = first / STEP..block.end.div_ceil(STEP);
            values.multiply((s, unit), (0, steps), weights, sums, false);
        }

        scale_rows(s, sums, Row(softmax.total.map(|total| 1.0 / total)));
        for (lane, out) in task.out.into_iter().enumerate() {
            for (x, sum) in out.iter_mut().zip(sums.iter()) {
                *x = sum[lane];
            }
        }
    }
}

impl Scratch {
    /// Rounds up to 32 rows of Q and turns them on their side.
    #[inline(always)]
    fn round_queries<U: Unit>(&mut self, unit: U, q: View<'_, f32, 2>, parts: usize) {
        let [queries, head_dim] = q.shape();
        let steps = head_dim.div_ceil(STEP);
        let [high, low] = &mut self.rows;
        high.resize(steps, ZERO_TILE);
        low.resize((parts - 1) * steps, ZERO_TILE);
        for (part, steps_of_part) in self.queries.iter_mut().enumerate() {
            steps_of_part.clear();
            steps_of_part.resize(if part < parts { steps } else { 0 }, BStep::ZERO);
        }
        for first in (0..queries).step_by(TILE) {
            let mut rows: [&[f32]; TILE] = [&[]; TILE];
            for (row, query) in rows.iter_mut().zip(first..queries) {
                *row = q.select::<1>(0, query).as_slice().expect("the numbers of a query are neighbours");
            }
            for part in [&mut *high, &mut *low] {
                part.fill(ZERO_TILE);
            }
            let [mut planes, mut low_planes] = [&mut *high, &mut *low]
                .map(|part| part.iter_mut().map(|tile| &mut tile[..]).collect::<Vec<&mut [Line]>>());
            split_rows(unit, &rows[..(queries - first).min(TILE)], (&mut planes, &mut low_planes), 0);
            for (steps, tiles) in self.queries.iter_mut().zip([&*high, &*low]) {
                for (step, tile) in steps.iter_mut().zip(tiles) {
                    step.set_columns(first, tile);
                }
            }
        }
    }
}

/// Multiplies each lane of all rows by a factor of its own.
#[inline(always)]
fn scale_rows<S: Simd>(s: S, rows: &mut [Panel], factors: Panel) {
    for row in rows {
        for lanes in (0..PANEL).step_by(S::LANES) {
            let scaled = s.mul(s.load(&row[lanes..]), s.load(&factors[lanes..]));
            s.store(scaled, &mut row[lanes..]);
        }
    }
}
