//! The same blocks with operands in bf16: both products are jobs for a tile unit.
//!
//! ```text
//! for each head, once:      K in tiles of 16 keys, Vᵀ in tiles of 16 channels
//! for a panel of 32 queries, for each block of keys:
//!     Sᵀ = K·Qᵀ             Qᵀ in pairs along the head's depth
//!     Pᵀ                    f32, as in `flash.rs`, then rounded; scaled here, so that Q is not
//!     Oᵀ = Oᵀ + Vᵀ·Pᵀ       Pᵀ in pairs along the keys: two neighbouring rows of scores
//! ```
//!
//! A tile unit wants the right operand in pairs of neighbours in the depth. For Pᵀ these are rows,
//! so joining them needs no shuffling: the transposition that spares `flash.rs` every horizontal
//! sum spares this one the transposition of P.
//!
//! A tile unit is so fast that most of the time goes to the exponentials, 16 million for each image
//! and head at 64×64. In `Bf16` they are powers of 2 to four digits, since P is then rounded to two
//! and a half. Channels are filled up to tiles of 16; where that leaves a row, as a head_dim of 40
//! does, it is all ones, and Vᵀ·Pᵀ gives the sum of P as well. In `Bf16x3` all four operands, P
//! among them, are split in two terms, each product is three, and exponentials are as exact as in
//! f32.

use std::cell::RefCell;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::online_softmax::{Coarse, Exact, OnlineSoftmax, scale_rows};
use super::transpose::{
    Contiguous, QueryBlock, for_each_panel, hide_later_keys, pack_transposed, unpack_transposed,
};
use super::{Attention, check};
use crate::cpu::simd::Simd;
use crate::cpu::tile::UnitOp;
use crate::cpu::tile::{
    ATile, AlignedBuffer, BTile, MatmulUnit, TILE_K, TILE_M, TileJob, TileRow, split_panel, split_rows,
    term_products,
};
use crate::gemm::{PanelRow, Row};
use crate::{Isa, Precision};

/// Keys in a block: the scores are 16 KB, the numerators 8 KB; K, Vᵀ of as many keys come from L2.
const BLOCK_KEYS: usize = 4 * TILE_K;

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
    assert!(settings.precision != Precision::F32, "attention in f32 is `flash`");
    assert!(settings.scale > 0.0, "a scale of {} would hide the largest score", settings.scale);
    let mut out = Tensor::recycled([images, queries, heads, head_dim]);
    if out.is_empty() {
        return out;
    }
    let qkv = Contiguous::new([q, k, v]);
    let [q, k, v] = qkv.views();
    let terms = settings.precision.terms();
    let packed: Vec<Head<Tiles>> = (0..images * heads)
        .into_par_iter()
        .map(|i| {
            let [k, v] = [k, v].map(|x| x.select::<3>(0, i / heads).select::<2>(1, i % heads));
            isa.run_with_unit(Pack { k, v, terms })
        })
        .collect();
    let all_heads: Vec<Head<Places<'_>>> =
        packed.iter().map(|head| Head { keys: head.keys.places(), values: head.values.places() }).collect();

    for_each_panel(&mut out, |place, out| {
        let head = &all_heads[place.image * heads + place.head];
        let task = Task { q: place.queries(q, out.len()), head, keys, place, settings, out };
        SCRATCH.with_borrow_mut(|scratch| isa.run_with_unit(FlashBf16Task { task, scratch }));
    });
    out
}

/// Whether the tiles of Vᵀ have a row to spare for the sum of the numerators. In `Bf16x3` the total
/// of `online_softmax.rs` is more exact.
fn has_row_of_ones(head_dim: usize, terms: usize) -> bool {
    terms == 1 && !head_dim.is_multiple_of(TILE_M)
}

/// Rows of tiles, for each part: `[parts][tiles of rows][steps]`.
struct Tiles {
    lines: AlignedBuffer,
    row_tiles: usize,
    k_steps: usize,
}

impl Tiles {
    /// Of any numbers, to be overwritten.
    fn recycled([rows, depth]: [usize; 2], terms: usize) -> Self {
        let (row_tiles, k_steps) = (rows.div_ceil(TILE_M), depth.div_ceil(TILE_K));
        Self { lines: AlignedBuffer::recycled(terms * row_tiles * k_steps * TILE_M), row_tiles, k_steps }
    }

    /// The tiles of both parts; the second are none if there is only one.
    fn terms_mut(&mut self) -> (&mut [ATile], &mut [ATile]) {
        let (tiles, _) = self.lines.as_chunks_mut();
        tiles.split_at_mut(self.row_tiles * self.k_steps)
    }

    /// Rounds the rows of a matrix.
    #[inline(always)]
    fn pack<U: MatmulUnit>(unit: U, x: View<'_, f32, 2>, terms: usize) -> Self {
        let mut packed = Self::recycled(x.shape(), terms);
        let k_steps = packed.k_steps;
        let (hi, lo) = packed.terms_mut();
        let all: Vec<&[f32]> = x.rows().collect();
        for (i, rows) in all.chunks(TILE_M).enumerate() {
            let range = i * k_steps..(i + 1) * k_steps;
            let mut hi: Vec<&mut [TileRow]> =
                hi[range.clone()].iter_mut().map(|tile| &mut tile[..]).collect();
            let mut lo: Vec<&mut [TileRow]> =
                lo.iter_mut().take(range.end).skip(range.start).map(|tile| &mut tile[..]).collect();
            split_rows(unit, rows, (&mut hi, &mut lo), 0);
        }
        packed
    }

    /// Rounds the columns of a matrix, 32 rows of it at a time, and a column of ones behind them
    /// where there is room.
    #[inline(always)]
    fn pack_columns<S: Simd, U: MatmulUnit>((s, unit): (S, U), x: View<'_, f32, 2>, terms: usize) -> Self {
        let [depth, columns] = x.shape();
        let mut packed = Self::recycled([columns, depth], terms);
        let k_steps = packed.k_steps;
        let (hi, lo) = packed.terms_mut();
        let mut transposed = vec![PanelRow::ZERO; columns + usize::from(has_row_of_ones(columns, terms))];
        for step in 0..k_steps {
            let rows = step * TILE_K..depth.min((step + 1) * TILE_K);
            if let Some(ones) = transposed.get_mut(columns) {
                ones[..rows.len()].fill(1.0);
                ones[rows.len()..].fill(0.0);
            }
            pack_transposed(s, x.slice(0, rows), 1.0, &mut transposed[..columns]);
            for (row_tile, transposed) in transposed.chunks(TILE_M).enumerate() {
                let mut rows: [&[f32]; TILE_M] = [&[]; TILE_M];
                for (row, numbers) in rows.iter_mut().zip(transposed) {
                    *row = &numbers.0;
                }
                let at = row_tile * k_steps + step;
                let mut hi: [&mut [TileRow]; 1] = [&mut hi[at]];
                match lo.get_mut(at) {
                    Some(lo) => split_rows(unit, &rows, (&mut hi, &mut [lo]), 0),
                    None => split_rows(unit, &rows, (&mut hi, &mut []), 0),
                }
            }
        }
        packed
    }

    /// Where each tile begins.
    fn places(&self) -> Places<'_> {
        Places {
            tiles: self.lines.as_chunks().0.iter().collect(),
            row_tiles: self.row_tiles,
            k_steps: self.k_steps,
        }
    }
}

/// The places of rows of tiles, in the same order.
struct Places<'a> {
    tiles: Vec<&'a ATile>,
    row_tiles: usize,
    k_steps: usize,
}

impl Places<'_> {
    /// Some steps of one tile of rows.
    #[inline(always)]
    fn get(&self, term: usize, row_tile: usize, k_steps: Range<usize>) -> &[&ATile] {
        &self.tiles[(term * self.row_tiles + row_tile) * self.k_steps..][k_steps]
    }

    /// `sums (+)= rows · b` for all terms; the rows begin at `row_tile`, one for each row of sums.
    #[inline(always)]
    fn multiply<S: Simd, U: MatmulUnit>(
        &self,
        (s, unit): (S, U),
        (row_tile, k_steps, last_depth): (usize, Range<usize>, usize),
        b: &[Vec<BTile>; 2],
        sums: &mut [PanelRow],
        first: bool,
    ) {
        let terms = self.tiles.len() / (self.row_tiles * self.k_steps);
        for (i, sums) in sums.chunks_mut(2 * TILE_M).enumerate() {
            let row_tile = row_tile + 2 * i;
            for (n, &(term, term_of_b)) in term_products(terms).iter().enumerate() {
                let job = TileJob {
                    upper: self.get(term, row_tile, k_steps.clone()),
                    lower: (sums.len() > TILE_M).then(|| self.get(term, row_tile + 1, k_steps.clone())),
                    b: &b[term_of_b][..k_steps.len()],
                    first: first && n == 0,
                    last_depth,
                };
                unit.multiply(s, job, sums);
            }
        }
    }
}

/// Of a depth, what is left for its last step: of a head_dim of 40 only 8 numbers.
fn last_depth(depth: usize) -> usize {
    depth - (depth.div_ceil(TILE_K).max(1) - 1) * TILE_K
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
    terms: usize,
}

impl UnitOp for Pack<'_> {
    type Output = Head<Tiles>;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> Head<Tiles> {
        Head {
            keys: Tiles::pack(unit, self.k, self.terms),
            values: Tiles::pack_columns((s, unit), self.v, self.terms),
        }
    }
}

/// Up to 32 queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    head: &'a Head<Places<'a>>,
    keys: usize,
    place: QueryBlock,
    settings: Attention,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
}

/// Buffers that a thread keeps from task to task; what is rounded has a high and a low part.
#[derive(Default)]
struct FlashBf16Buffers {
    /// Qᵀ in f32: `[head_dim]`, queries on the lanes
    transposed: Vec<PanelRow>,
    /// Qᵀ: `[steps]`
    queries: [Vec<BTile>; 2],
    /// Sᵀ, in `Bf16x3` then Pᵀ: `[keys of a block]`, queries on the lanes
    scores: Vec<PanelRow>,
    /// Pᵀ: `[steps]`
    numerators: [Vec<BTile>; 2],
    /// Oᵀ: `[head_dim]`, queries on the lanes
    sums: Vec<PanelRow>,
}

thread_local! {
    static SCRATCH: RefCell<FlashBf16Buffers> = RefCell::default();
}

struct FlashBf16Task<'a> {
    task: Task<'a>,
    scratch: &'a mut FlashBf16Buffers,
}

impl UnitOp for FlashBf16Task<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) {
        unit.run(s, Attend(self));
    }
}

/// The same, compiled for the unit.
struct Attend<'a>(FlashBf16Task<'a>);

impl UnitOp for Attend<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) {
        let FlashBf16Task { task, scratch } = self.0;
        let [queries, head_dim] = task.q.shape();
        let Head { keys, values } = task.head;
        let terms = task.settings.precision.terms();
        let FlashBf16Buffers { transposed, queries: q_steps, scores, numerators, sums } = scratch;
        transposed.resize(head_dim, PanelRow::ZERO);
        pack_transposed(s, task.q, 1.0, transposed);
        split(unit, transposed, q_steps, terms);
        sums.clear();
        sums.resize(values.row_tiles * TILE_M, PanelRow::ZERO);
        let mut softmax = OnlineSoftmax::new(task.settings.scale);
        let has_row_of_ones = has_row_of_ones(head_dim, terms);

        // No query of this panel sees a key behind its last one.
        let first_query = task.place.first_query;
        let visible = if task.settings.causal { task.keys.min(first_query + queries) } else { task.keys };
        for first in (0..visible).step_by(BLOCK_KEYS) {
            let block = first..visible.min(first + BLOCK_KEYS);
            scores.resize(block.len().next_multiple_of(TILE_M), PanelRow::ZERO);
            let channels = (first / TILE_M, 0..keys.k_steps, last_depth(head_dim));
            keys.multiply((s, unit), channels, q_steps, scores, true);

            scores.truncate(block.len());
            if task.settings.causal {
                hide_later_keys(scores, block.start, first_query);
            }
            if let Some(correction) = softmax.raise(s, scores) {
                scale_rows(s, sums, &correction);
            }
            if terms == 1 {
                let [k_steps, _] = &mut *numerators;
                k_steps.resize(scores.len().div_ceil(TILE_K), BTile::ZERO);
                if has_row_of_ones {
                    softmax.exp_scores_bf16::<Coarse, S, U, false>((s, unit), scores, k_steps);
                } else {
                    softmax.exp_scores_bf16::<Coarse, S, U, true>((s, unit), scores, k_steps);
                }
            } else {
                softmax.exp_scores::<Exact, S>(s, scores);
                split(unit, scores, numerators, terms);
            }
            let k_steps = first / TILE_K..block.end.div_ceil(TILE_K);
            values.multiply((s, unit), (0, k_steps, last_depth(block.len())), numerators, sums, false);
        }

        let total = if has_row_of_ones { &sums[head_dim] } else { &softmax.total };
        let factors = Row(total.map(|total| 1.0 / total));
        unpack_transposed(s, &sums[..head_dim], &factors, task.out);
    }
}

/// Rounds rows of a panel in one part or two.
#[inline(always)]
fn split<U: MatmulUnit>(unit: U, rows: &[PanelRow], [hi, lo]: &mut [Vec<BTile>; 2], terms: usize) {
    let k_steps = rows.len().div_ceil(TILE_K);
    hi.resize(k_steps, BTile::ZERO);
    lo.resize((terms - 1) * k_steps, BTile::ZERO);
    split_panel(unit, rows, hi, lo);
}
