//! The same blocks with operands in bf16: both products are jobs for a tile unit.
//!
//! ```text
//! for each head, once:      K in tiles (rows are keys, depth is the head's), Vᵀ in tiles (rows are channels, depth is the keys)
//! for a panel of 32 queries, for each block of keys:
//!     Sᵀ = K·Qᵀ             Qᵀ in pairs along the head's depth
//!     Pᵀ, correction        f32, as in `blocked.rs`
//!     Oᵀ = Oᵀ·correction + Vᵀ·Pᵀ         Pᵀ in pairs along the keys: two neighbouring rows of scores, lane by lane
//! ```
//!
//! A tile unit wants the right operand in pairs of neighbours in the depth. For Pᵀ these are rows, so that joining them needs no
//! shuffling: the transposition that spares `blocked.rs` every horizontal sum spares this one the transposition of P.
//!
//! The running maximum costs one instruction a vector of scores, and makes overflow impossible whatever the scores are. In
//! `Bf16x3` all four operands, P among them, are split in two and each product is three.

use std::cell::RefCell;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::blocked::{RunningSoftmax, contiguous_rows, hide_later_keys, transposed};
use super::{Attention, check};
use crate::Isa;
use crate::gemm::bf16::{ATile, BStep, Job, STEP, TILE, Unit, products, split_panel, split_rows};
use crate::gemm::{PANEL, Panel};
use crate::isa::UnitOp;
use crate::simd::Simd;

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
    let parts = settings.precision.parts();
    assert!(parts > 0, "attention in f32 is `blocked`");
    let mut out = Tensor::zeros([images, queries, heads, head_dim]);
    if out.is_empty() {
        return out;
    }
    let (k_copy, v_transposed) = (contiguous_rows(k), transposed(v));
    let k = k_copy.as_ref().map_or(k, Tensor::view);
    let all_heads: Vec<Head> = (0..images * heads)
        .into_par_iter()
        .map(|i| {
            isa.run_with_unit(Pack {
                k: k.select::<3>(0, i / heads).select::<2>(1, i % heads),
                v_transposed: v_transposed.view().select::<3>(0, i / heads).select::<2>(0, i % heads),
                parts,
            })
        })
        .collect();

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

/// Rows of tiles, for each part: `[parts][tiles of rows][steps]`.
struct Tiles {
    tiles: Vec<ATile>,
    row_tiles: usize,
    steps: usize,
}

impl Tiles {
    /// Rounds the rows of a matrix.
    #[inline(always)]
    fn pack<U: Unit>(unit: U, x: View<'_, f32, 2>, parts: usize) -> Self {
        let [rows, depth] = x.shape();
        let (row_tiles, steps) = (rows.div_ceil(TILE), depth.div_ceil(STEP));
        let mut tiles = vec![ATile::ZERO; parts * row_tiles * steps];
        let (high, low) = tiles.split_at_mut(row_tiles * steps);
        let all: Vec<&[f32]> = x.rows().collect();
        for (i, rows) in all.chunks(TILE).enumerate() {
            let range = i * steps..(i + 1) * steps;
            let low = if low.is_empty() { &mut [] } else { &mut low[range.clone()] };
            split_rows(unit, rows, &mut high[range], low);
        }
        Self { tiles, row_tiles, steps }
    }

    /// Some steps of one tile of rows.
    #[inline(always)]
    fn get(&self, part: usize, row_tile: usize, steps: Range<usize>) -> &[ATile] {
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
struct Head {
    /// K: rows are keys.
    keys: Tiles,
    /// Vᵀ: rows are channels.
    values: Tiles,
}

struct Pack<'a> {
    /// `[keys, head_dim]`
    k: View<'a, f32, 2>,
    /// `[head_dim, keys]`
    v_transposed: View<'a, f32, 2>,
    parts: usize,
}

impl UnitOp for Pack<'_> {
    type Output = Head;
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, _: S, unit: U) -> Head {
        Head {
            keys: Tiles::pack(unit, self.k, self.parts),
            values: Tiles::pack(unit, self.v_transposed, self.parts),
        }
    }
}

/// Up to 32 queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    head: &'a Head,
    keys: usize,
    /// The position of the first query among all queries.
    first_query: usize,
    settings: Attention,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
}

/// Buffers that a thread keeps from task to task, all with queries on the lanes; what is rounded has a high and a low part.
#[derive(Default)]
struct Scratch {
    /// scale·Qᵀ: `[head_dim]`
    q: Vec<Panel>,
    /// The same, rounded: `[steps]`
    queries: [Vec<BStep>; 2],
    /// Sᵀ, then Pᵀ: `[keys of a block]`
    scores: Vec<Panel>,
    /// Pᵀ, rounded: `[steps]`
    weights: [Vec<BStep>; 2],
    /// Oᵀ: `[head_dim]`
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
        let Run { task, scratch } = self;
        let [queries, head_dim] = task.q.shape();
        let two_parts = task.settings.precision.parts() == 2;
        let Scratch { q, queries: q_steps, scores, weights, sums } = scratch;
        let Head { keys, values } = task.head;
        q.clear();
        q.resize(head_dim, Panel::ZERO);
        for (lane, row) in (0..queries).map(|i| (i, task.q.select::<1>(0, i))) {
            for (c, x) in row.iter().enumerate() {
                q[c][lane] = x * task.settings.scale;
            }
        }
        round(unit, q, q_steps, two_parts);
        sums.clear();
        sums.resize(values.row_tiles * TILE, Panel::ZERO);
        let mut softmax = RunningSoftmax::new();

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
            round(unit, scores, weights, two_parts);

            for sum in sums.iter_mut() {
                for lanes in (0..PANEL).step_by(S::LANES) {
                    let corrected = s.mul(s.load(&sum[lanes..]), s.load(&correction[lanes..]));
                    s.store(corrected, &mut sum[lanes..]);
                }
            }
            let steps = first / STEP..block.end.div_ceil(STEP);
            values.multiply((s, unit), (0, steps), weights, sums, false);
        }

        let total = softmax.total;
        for (lane, out) in task.out.into_iter().enumerate() {
            for (x, sum) in out.iter_mut().zip(sums.iter()) {
                *x = sum[lane] / total[lane];
            }
        }
    }
}

/// Rounds a panel, and its rest if there are two parts.
#[inline(always)]
fn round<U: Unit>(unit: U, rows: &[Panel], [high, low]: &mut [Vec<BStep>; 2], two_parts: bool) {
    let steps = rows.len().div_ceil(STEP);
    high.resize(steps, BStep::ZERO);
    low.resize(if two_parts { steps } else { 0 }, BStep::ZERO);
    split_panel(unit, rows, high, low);
}
