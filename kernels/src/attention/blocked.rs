//! The production form: a block of scores at a time, with queries on the vector lanes.
//!
//! For a panel of 32 queries and one head, with everything transposed:
//!
//! ```text
//! m = −∞, l = 0, Oᵀ = 0                          running maximum, running sum, running result
//! for each block of keys:
//!     Sᵀ = K·Qᵀ                                  a product: rows of K, panel Qᵀ
//!     m' = max(m, maximum of Sᵀ over the keys)
//!     Pᵀ = exp(Sᵀ − m'),  r = exp(m − m')        r corrects what was computed with the old maximum
//!     l  = l·r + sum of Pᵀ over the keys
//!     Oᵀ = Oᵀ·r + Vᵀ·Pᵀ                          a product: rows of Vᵀ, panel Pᵀ
//! out = (Oᵀ / l)ᵀ
//! ```
//!
//! The running softmax is that of Milakov and Gimelshein (2018, arXiv:1805.02867) and FlashAttention (Dao et al., 2022,
//! arXiv:2205.14135). The transposition is for the CPU: maximum and sum run down the rows, lane by lane, so nothing is
//! ever reduced across a vector; and Pᵀ comes out as the very panel that the second product reads. Both
//! products are the register tile of `gemm`.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::{Attention, check};
use crate::Isa;
use crate::gemm::microkernel::{ROW_STEP, TILE_ROWS, tile};
use crate::gemm::{PANEL, Panel, Row, ZEROS};
use crate::simd::{Op, Simd, math};

/// Keys in a block: 192 rows of scores are 24 KB, half an L1 cache.
const BLOCK_KEYS: usize = 16 * TILE_ROWS;
/// Depth of a block of the first product, for heads as deep as the VAE's 512.
const BLOCK_DEPTH: usize = 256;

/// Attention in blocks; see [`attention`](super::attention()).
///
/// # Panics
/// As [`attention`](super::attention()).
pub fn attention(
    isa: Isa,
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> Tensor<f32, 4> {
    let (images, queries, _, heads, head_dim) = check(q, k, v);
    let mut out = Tensor::recycled([images, queries, heads, head_dim]);
    if out.is_empty() {
        return out;
    }
    let (k_copy, v_transposed) = (contiguous_rows(k), transposed(v));
    let k = k_copy.as_ref().map_or(k, Tensor::view);

    // One task for each image, panel of queries and head; each gets its pieces of the output rows.
    let panels = queries.div_ceil(PANEL);
    let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
    pieces.resize_with(images * panels * heads, || Vec::with_capacity(PANEL));
    for (i, piece) in out.as_mut_slice().chunks_exact_mut(head_dim).enumerate() {
        let (n, query, head) = (i / heads / queries, i / heads % queries, i % heads);
        pieces[(n * heads + head) * panels + query / PANEL].push(piece);
    }
    pieces.into_par_iter().enumerate().for_each(|(i, out)| {
        let (n, head, first_query) = (i / panels / heads, i / panels % heads, i % panels * PANEL);
        let task = Task {
            q: q.select::<3>(0, n).select::<2>(1, head).slice(0, first_query..first_query + out.len()),
            k: k.select::<3>(0, n).select::<2>(1, head),
            v_transposed: v_transposed.view().select::<3>(0, n).select::<2>(0, head),
            first_query,
            settings,
            out,
        };
        SCRATCH.with_borrow_mut(|scratch| isa.run(Run { task, scratch }));
    });
    out
}

/// A copy, if the numbers of a head are not neighbours in memory.
pub(super) fn contiguous_rows(x: View<'_, f32, 4>) -> Option<Tensor<f32, 4>> {
    (x.strides()[3] != 1 && x.shape()[3] > 1).then(|| x.to_tensor())
}

/// `[n, keys, heads, head_dim]` → `[n, heads, head_dim, keys]`
fn transposed(v: View<'_, f32, 4>) -> Tensor<f32, 4> {
    let [images, keys, heads, head_dim] = v.shape();
    let mut out = Tensor::recycled([images, heads, head_dim, keys]);
    out.as_mut_slice().par_chunks_exact_mut(head_dim * keys).enumerate().for_each(|(i, out)| {
        let v = v.select::<3>(0, i / heads).select::<2>(1, i % heads);
        // Sixteen keys at a time, so that a cache line is filled before it is left.
        for first in (0..keys).step_by(16) {
            for c in 0..head_dim {
                for key in first..keys.min(first + 16) {
                    out[c * keys + key] = v.at([key, c]);
                }
            }
        }
    });
    out
}

/// Up to 32 queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    /// `[keys, head_dim]`
    k: View<'a, f32, 2>,
    /// `[head_dim, keys]`
    v_transposed: View<'a, f32, 2>,
    /// The position of the first query among all queries.
    first_query: usize,
    settings: Attention,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
}

/// Buffers that a thread keeps from task to task, all with queries on the lanes.
#[derive(Default)]
struct Scratch {
    /// scale·Qᵀ: `[head_dim]`
    queries: Vec<Panel>,
    /// Sᵀ, then Pᵀ: `[keys of a block]`
    scores: Vec<Panel>,
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

impl Op for Run<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let Run { task, scratch } = self;
        let ([queries, head_dim], [keys, _]) = (task.q.shape(), task.k.shape());
        let Scratch { queries: q_panel, scores, sums } = scratch;
        q_panel.clear();
        q_panel.resize(head_dim, Panel::ZERO);
        for (lane, row) in (0..queries).map(|i| (i, task.q.select::<1>(0, i))) {
            for (c, x) in row.iter().enumerate() {
                q_panel[c][lane] = x * task.settings.scale;
            }
        }
        sums.clear();
        sums.resize(head_dim.next_multiple_of(ROW_STEP), Panel::ZERO);
        let mut softmax = RunningSoftmax::<Natural>::new(1.0); // the queries are scaled

        // No query of this panel sees a key behind its last one.
        let visible = if task.settings.causal { keys.min(task.first_query + queries) } else { keys };
        for first in (0..visible).step_by(BLOCK_KEYS) {
            let block = first..visible.min(first + BLOCK_KEYS);
            scores.resize(block.len().next_multiple_of(ROW_STEP), Panel::ZERO);
            scores_of(s, task.k, block.clone(), q_panel, scores);
            if task.settings.causal {
                hide_later_keys(&mut scores[..block.len()], block.start, task.first_query);
            }
            let correction = softmax.update(s, &mut scores[..block.len()]);
            add_values(s, task.v_transposed, block.clone(), &scores[..block.len()], correction, sums);
        }

        let total = softmax.total;
        for (lane, out) in task.out.into_iter().enumerate() {
            for (x, sum) in out.iter_mut().zip(sums.iter()) {
                *x = sum[lane] / total[lane];
            }
        }
    }
}

/// Sᵀ = K·Qᵀ for a block of keys.
#[inline(always)]
fn scores_of<S: Simd>(
    s: S,
    k: View<'_, f32, 2>,
    block: Range<usize>,
    q_panel: &[Panel],
    scores: &mut [Panel],
) {
    for (first, scores) in block.clone().step_by(TILE_ROWS).zip(scores.chunks_mut(TILE_ROWS)) {
        for depth in (0..q_panel.len()).step_by(BLOCK_DEPTH) {
            let q_panel = &q_panel[depth..q_panel.len().min(depth + BLOCK_DEPTH)];
            let mut rows: [&[f32]; TILE_ROWS] = [&ZEROS; TILE_ROWS];
            let keys =
                k.slice(0, first..block.end.min(first + TILE_ROWS)).slice(1, depth..depth + q_panel.len());
            for (row, key) in rows.iter_mut().zip(keys.rows()) {
                *row = key;
            }
            tile(s, &rows[..scores.len()], q_panel, scores, depth == 0);
        }
    }
}

/// Gives keys behind a query's own position the score −∞.
pub(super) fn hide_later_keys(scores: &mut [Panel], first_key: usize, first_query: usize) {
    for (key, row) in (first_key..).zip(scores) {
        let seeing = key.saturating_sub(first_query).min(PANEL);
        row[..seeing].fill(f32::NEG_INFINITY);
    }
}

/// Oᵀ = Oᵀ·correction + Vᵀ·Pᵀ for a block of keys.
#[inline(always)]
fn add_values<S: Simd>(
    s: S,
    v_transposed: View<'_, f32, 2>,
    block: Range<usize>,
    weights: &[Panel],
    correction: Panel,
    sums: &mut [Panel],
) {
    let [head_dim, _] = v_transposed.shape();
    let values = v_transposed.slice(1, block);
    for (first, sums) in (0..head_dim).step_by(TILE_ROWS).zip(sums.chunks_mut(TILE_ROWS)) {
        for sum in sums.iter_mut() {
            for lanes in (0..PANEL).step_by(S::LANES) {
                let corrected = s.mul(s.load(&sum[lanes..]), s.load(&correction[lanes..]));
                s.store(corrected, &mut sum[lanes..]);
            }
        }
        let mut rows: [&[f32]; TILE_ROWS] = [&ZEROS; TILE_ROWS];
        let channels = values.slice(0, first..head_dim.min(first + TILE_ROWS));
        for (row, channel) in rows.iter_mut().zip(channels.rows()) {
            *row = channel;
        }
        tile(s, &rows[..sums.len()], weights, sums, false);
    }
}

/// An exponential function on vectors, as the weights of a softmax.
pub(super) trait Exponential {
    /// Its base to this power is e.
    const LOG_E: f32;
    /// The base to the power x, for x ≤ 0; nothing or next to nothing at −∞.
    fn exp<S: Simd>(s: S, x: S::V) -> S::V;
}

/// eˣ, exact to the last digit or so.
pub(super) struct Natural;

impl Exponential for Natural {
    const LOG_E: f32 = 1.0;
    #[inline(always)]
    fn exp<S: Simd>(s: S, x: S::V) -> S::V {
        math::exp(s, x)
    }
}

/// The softmax of 32 queries over keys that arrive in blocks.
pub(super) struct RunningSoftmax<E> {
    /// What scores are multiplied by.
    factor: f32,
    /// The largest score so far, multiplied.
    largest: Panel,
    pub(super) total: Panel,
    exponential: PhantomData<E>,
}

/// Vectors in a row of a panel, if they are the shortest.
const MAX_VECTORS: usize = PANEL / 8;

impl<E: Exponential> RunningSoftmax<E> {
    /// Of scores that are to be multiplied by `scale`, which is not negative.
    pub(super) fn new(scale: f32) -> Self {
        let factor = scale * E::LOG_E;
        Self { factor, largest: Row([f32::MIN; PANEL]), total: Panel::ZERO, exponential: PhantomData }
    }

    /// Turns scores into weights `exp(scale·score − largest so far)`; gives the factor that corrects earlier weights.
    #[inline(always)]
    pub(super) fn update<S: Simd>(&mut self, s: S, scores: &mut [Panel]) -> Panel {
        let vectors = PANEL / S::LANES;
        // Two rows at a time, so that no comparison waits for the one before.
        let mut chains = [[s.splat(f32::MIN); MAX_VECTORS]; 2];
        let (pairs, rest) = scores.as_chunks::<2>();
        for pair in pairs {
            for (chain, row) in chains.iter_mut().zip(pair) {
                for j in 0..vectors {
                    chain[j] = s.max(chain[j], s.load(&row[j * S::LANES..]));
                }
            }
        }
        for row in rest {
            for j in 0..vectors {
                chains[0][j] = s.max(chains[0][j], s.load(&row[j * S::LANES..]));
            }
        }

        let factor = s.splat(self.factor);
        let mut minus_largest = [s.zero(); MAX_VECTORS];
        let mut correction = Panel::ZERO;
        for j in 0..vectors {
            let lanes = j * S::LANES;
            let before = s.load(&self.largest[lanes..]);
            let largest = s.max(before, s.mul(s.max(chains[0][j], chains[1][j]), factor));
            minus_largest[j] = s.sub(s.zero(), largest);
            s.store(largest, &mut self.largest[lanes..]);
            s.store(E::exp(s, s.sub(before, largest)), &mut correction[lanes..]);
        }

        let mut totals = [s.zero(); MAX_VECTORS];
        for row in scores.iter_mut() {
            for j in 0..vectors {
                let score = &mut row[j * S::LANES..];
                let weight = E::exp(s, s.mul_add(s.load(score), factor, minus_largest[j]));
                totals[j] = s.add(totals[j], weight);
                s.store(weight, score);
            }
        }
        for j in 0..vectors {
            let before = &mut self.total[j * S::LANES..];
            let total = s.mul_add(s.load(before), s.load(&correction[j * S::LANES..]), totals[j]);
            s.store(total, before);
        }
        correction
    }
}
