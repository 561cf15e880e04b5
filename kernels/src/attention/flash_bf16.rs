//! The same blocks with operands in bf16: both products are jobs for a tile unit.
//!
//! ```text
//! for each head, once:      K in tiles (rows are keys, depth is the head's), Vᵀ in tiles (rows are channels, depth is the keys)
//! for a panel of 32 queries, for each block of keys:
//!     Sᵀ = K·Qᵀ             Qᵀ in pairs along the head's depth
//!     Pᵀ                    f32, as in `blocked.rs`, and rounded as it comes; the scale is applied here, so that Q is rounded as it is
//!     Oᵀ = Oᵀ + Vᵀ·Pᵀ       Pᵀ in pairs along the keys: two neighbouring rows of scores, lane by lane
//! ```
//!
//! A tile unit wants the right operand in pairs of neighbours in the depth. For Pᵀ these are rows, so that joining them needs no
//! shuffling: the transposition that spares `blocked.rs` every horizontal sum spares this one the transposition of P.
//!
//! A tile unit is so fast that most of the time goes to the exponentials, 16 million for each image and head at 64×64. With operands in one part
//! they are powers of 2 to four digits, since P is then rounded to two and a half. Channels are filled up to tiles of 16; where that leaves a row,
//! as a head_dim of 40 does, it is all ones, and Vᵀ·Pᵀ gives the sum of P as well. In `Bf16x3` all four operands, P among them, are split in two,
//! each product is three, and exponentials are as exact as in f32.

use std::cell::RefCell;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::online_softmax::{Coarse, Exact, RunningSoftmax, scale_rows};
use super::transpose::{Contiguous, Place, for_each_panel, hide_later_keys, turn_in, turn_out};
use super::{Attention, check};
use crate::cpu::isa::UnitOp;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{ATile, BStep, Job, Line, Lines, STEP, TILE, Unit, products, split_panel, split_rows};
use crate::gemm::{PanelRow, Row};
use crate::{Isa, Precision};

/// Keys in a block: the scores are 16 KB and the weights 8 KB, and K, Vᵀ of as many keys are read from the L2 cache.
const BLOCK_KEYS: usize = 4 * STEP;

/// Attention in blocks, its operands in bf16; see [`attention`](super::attention()).
///
/// # Panics
/// As [`attention`](super::attention()); also if the precision is f32.
pub fn attention(
    isa: Isa,
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> Tensor<f32, 4> {
    let (images, queries, keys, heads, head_dim) = check(q, k, v);
    assert!(settings.precision != Precision::F32, "attention in f32 is `blocked`");
    assert!(settings.scale > 0.0, "a scale of {} would hide the largest score", settings.scale);
    let mut out = Tensor::recycled([images, queries, heads, head_dim]);
    if out.is_empty() {
        return out;
    }
    let qkv = Contiguous::new([q, k, v]);
    let [q, k, v] = qkv.views();
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

    for_each_panel(&mut out, |place, out| {
        let head = &all_heads[place.image * heads + place.head];
        let task = Task { q: place.queries(q, out.len()), head, keys, place, settings, out };
        SCRATCH.with_borrow_mut(|scratch| isa.run_with_unit(Run { task, scratch }));
    });
    out
}

/// Whether the tiles of Vᵀ have a row to spare for the sum of the weights. In `Bf16x3` the total of `softmax.rs` is more exact.
fn has_row_of_ones(head_dim: usize, parts: usize) -> bool {
    parts == 1 && !head_dim.is_multiple_of(TILE)
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

    /// Rounds the columns of a matrix, 32 rows of it at a time; and a column of ones behind them where there is room.
    #[inline(always)]
    fn pack_columns<S: Simd, U: Unit>((s, unit): (S, U), x: View<'_, f32, 2>, parts: usize) -> Self {
        let [depth, columns] = x.shape();
        let mut packed = Self::recycled([columns, depth], parts);
        let steps = packed.steps;
        let (high, low) = packed.parts_mut();
        let mut turned = vec![PanelRow::ZERO; columns + usize::from(has_row_of_ones(columns, parts))];
        for step in 0..steps {
            let rows = step * STEP..depth.min((step + 1) * STEP);
            if let Some(ones) = turned.get_mut(columns) {
                ones[..rows.len()].fill(1.0);
                ones[rows.len()..].fill(0.0);
            }
            turn_in(s, x.slice(0, rows), 1.0, &mut turned[..columns]);
            for (row_tile, turned) in turned.chunks(TILE).enumerate() {
                let mut rows: [&[f32]; TILE] = [&[]; TILE];
                for (row, numbers) in rows.iter_mut().zip(turned) {
                    *row = &numbers.0;
                }
                let at = row_tile * steps + step;
                let mut high: [&mut [Line]; 1] = [&mut high[at]];
                match low.get_mut(at) {
                    Some(low) => split_rows(unit, &rows, (&mut high, &mut [low]), 0),
                    None => split_rows(unit, &rows, (&mut high, &mut []), 0),
                }
            }
        }
        packed
    }

    /// Where each tile stands.
    fn places(&self) -> Places<'_> {
        Places {
            tiles: self.lines.as_chunks().0.iter().collect(),
            row_tiles: self.row_tiles,
            steps: self.steps,
        }
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
        sums: &mut [PanelRow],
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
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) -> Head<Tiles> {
        Head {
            keys: Tiles::pack(unit, self.k, self.parts),
            values: Tiles::pack_columns((s, unit), self.v, self.parts),
        }
    }
}

/// Up to 32 queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    head: &'a Head<Places<'a>>,
    keys: usize,
    place: Place,
    settings: Attention,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
}

/// Buffers that a thread keeps from task to task; what is rounded has a high and a low part.
#[derive(Default)]
struct Scratch {
    /// Qᵀ in f32: `[head_dim]`, queries on the lanes
    turned: Vec<PanelRow>,
    /// Qᵀ: `[steps]`
    queries: [Vec<BStep>; 2],
    /// Sᵀ, in `Bf16x3` then Pᵀ: `[keys of a block]`, queries on the lanes
    scores: Vec<PanelRow>,
    /// Pᵀ: `[steps]`
    weights: [Vec<BStep>; 2],
    /// Oᵀ: `[head_dim]`, queries on the lanes
    sums: Vec<PanelRow>,
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
        unit.run(s, Attend(self));
    }
}

/// The same, compiled for the unit.
struct Attend<'a>(Run<'a>);

impl UnitOp for Attend<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) {
        let Run { task, scratch } = self.0;
        let [queries, head_dim] = task.q.shape();
        let Head { keys, values } = task.head;
        let parts = task.settings.precision.parts();
        let Scratch { turned, queries: q_steps, scores, weights, sums } = scratch;
        turned.resize(head_dim, PanelRow::ZERO);
        turn_in(s, task.q, 1.0, turned);
        split(unit, turned, q_steps, parts);
        sums.clear();
        sums.resize(values.row_tiles * TILE, PanelRow::ZERO);
        let mut softmax = RunningSoftmax::new(task.settings.scale);
        let has_row_of_ones = has_row_of_ones(head_dim, parts);

        // No query of this panel sees a key behind its last one.
        let first_query = task.place.first_query;
        let visible = if task.settings.causal { task.keys.min(first_query + queries) } else { task.keys };
        for first in (0..visible).step_by(BLOCK_KEYS) {
            let block = first..visible.min(first + BLOCK_KEYS);
            scores.resize(block.len().next_multiple_of(TILE), PanelRow::ZERO);
            keys.multiply((s, unit), (first / TILE, 0..keys.steps), q_steps, scores, true);

            scores.truncate(block.len());
            if task.settings.causal {
                hide_later_keys(scores, block.start, first_query);
            }
            if let Some(correction) = softmax.raise(s, scores) {
                scale_rows(s, sums, &correction);
            }
            if parts == 1 {
                let [steps, _] = &mut *weights;
                steps.resize(scores.len().div_ceil(STEP), BStep::ZERO);
                if has_row_of_ones {
                    softmax.weigh_rounded::<Coarse, S, U, false>((s, unit), scores, steps);
                } else {
                    softmax.weigh_rounded::<Coarse, S, U, true>((s, unit), scores, steps);
                }
            } else {
                softmax.weigh::<Exact, S>(s, scores);
                split(unit, scores, weights, parts);
            }
            let steps = first / STEP..block.end.div_ceil(STEP);
            values.multiply((s, unit), (0, steps), weights, sums, false);
        }

        let total = if has_row_of_ones { &sums[head_dim] } else { &softmax.total };
        let factors = Row(total.map(|total| 1.0 / total));
        turn_out(s, &sums[..head_dim], &factors, task.out);
    }
}

/// Rounds rows of a panel in one part or two.
#[inline(always)]
fn split<U: Unit>(unit: U, rows: &[PanelRow], [high, low]: &mut [Vec<BStep>; 2], parts: usize) {
    let steps = rows.len().div_ceil(STEP);
    high.resize(steps, BStep::ZERO);
    low.resize((parts - 1) * steps, BStep::ZERO);
    split_panel(unit, rows, high, low);
}
