//! The production form: a block of scores at a time, with queries on the vector lanes.
//!
//! For a panel of 32 queries and one head, with everything transposed:
//!
//! ```text
//! m = −∞, l = 0, Oᵀ = 0                          running maximum, running sum, running result
//! for each block of keys:
//!     Sᵀ = K·Qᵀ                                  a product: rows of K, panel Qᵀ
//!     if m is too small for Sᵀ:  l, Oᵀ, m = l·r, Oᵀ·r, m'     r corrects what was computed with the old maximum
//!     Pᵀ = exp(Sᵀ − m),  l = l + sum of Pᵀ over the keys      see `softmax.rs`
//!     Oᵀ = Oᵀ + Vᵀ·Pᵀ                            a product: rows of Vᵀ, panel Pᵀ
//! out = (Oᵀ / l)ᵀ
//! ```
//!
//! The running softmax is that of Milakov and Gimelshein (2018, arXiv:1805.02867) and FlashAttention (Dao et al., 2022,
//! arXiv:2205.14135). The transposition is for the CPU: maximum and sum run down the rows, lane by lane, so nothing is
//! ever reduced across a vector; and Pᵀ comes out as the very panel that the second product reads. Both
//! products are the register tile of `gemm`.

use std::cell::RefCell;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::panels::{Place, contiguous_rows, for_each_panel, hide_later_keys, turn_in, turn_out};
use super::softmax::{Exact, RunningSoftmax, scale_rows};
use super::{Attention, check};
use crate::Isa;
use crate::gemm::microkernel::{ROW_STEP, TILE_ROWS, tile};
use crate::gemm::{PANEL, Panel, Row, ZEROS};
use crate::simd::{Op, Simd};

/// Keys in a block: 96 rows of scores are 12 KB, and leave room in an L1 cache for K, Vᵀ and both panels.
const BLOCK_KEYS: usize = 8 * TILE_ROWS;
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
    let (images, queries, keys, heads, head_dim) = check(q, k, v);
    let mut out = Tensor::recycled([images, queries, heads, head_dim]);
    if out.is_empty() {
        return out;
    }
    let copies = [q, k, v].map(contiguous_rows);
    let [q, k, v] = [(0, q), (1, k), (2, v)].map(|(i, x)| copies[i].as_ref().map_or(x, Tensor::view));

    // Vᵀ block by block, so that its rows do not stand a power of two apart: caches find no room for many such.
    let head_len = keys.div_ceil(BLOCK_KEYS) * head_dim * BLOCK_KEYS;
    let mut values = Tensor::<f32, 1>::recycled([images * heads * head_len]);
    values.as_mut_slice().par_chunks_exact_mut(head_len).enumerate().for_each(|(i, out)| {
        isa.run(TurnValues { v: v.select::<3>(0, i / heads).select::<2>(1, i % heads), out });
    });
    for_each_panel(&mut out, |place, out| {
        let task = Task {
            q: place.queries(q, out.len()),
            k: k.select::<3>(0, place.image).select::<2>(1, place.head),
            values: &values.as_slice()[(place.image * heads + place.head) * head_len..][..head_len],
            place,
            settings,
            out,
        };
        SCRATCH.with_borrow_mut(|scratch| isa.run(Run { task, scratch }));
    });
    out
}

/// Vᵀ of a head, a block of keys at a time.
struct TurnValues<'a> {
    /// `[keys, head_dim]`
    v: View<'a, f32, 2>,
    /// `[blocks][head_dim][BLOCK_KEYS]`
    out: &'a mut [f32],
}

impl Op for TurnValues<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let [keys, head_dim] = self.v.shape();
        let mut panel = vec![Panel::ZERO; head_dim];
        for first in (0..keys).step_by(PANEL) {
            turn_in(s, self.v.slice(0, first..keys.min(first + PANEL)), 1.0, &mut panel);
            let block = &mut self.out[first / BLOCK_KEYS * head_dim * BLOCK_KEYS..];
            for (row, numbers) in block.chunks_exact_mut(BLOCK_KEYS).zip(&panel) {
                row[first % BLOCK_KEYS..][..PANEL].copy_from_slice(&numbers.0);
            }
        }
    }
}

/// Up to 32 queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    /// `[keys, head_dim]`
    k: View<'a, f32, 2>,
    /// Vᵀ, `[blocks][head_dim][BLOCK_KEYS]`
    values: &'a [f32],
    place: Place,
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
        q_panel.resize(head_dim, Panel::ZERO);
        turn_in(s, task.q, task.settings.scale, q_panel);
        sums.clear();
        sums.resize(head_dim.next_multiple_of(ROW_STEP), Panel::ZERO);
        let mut softmax = RunningSoftmax::new(1.0); // the queries are scaled

        // No query of this panel sees a key behind its last one.
        let first_query = task.place.first_query;
        let visible = if task.settings.causal { keys.min(first_query + queries) } else { keys };
        let values = task.values.chunks_exact(head_dim * BLOCK_KEYS);
        for (first, values) in (0..visible).step_by(BLOCK_KEYS).zip(values) {
            let block = first..visible.min(first + BLOCK_KEYS);
            scores.resize(block.len().next_multiple_of(ROW_STEP), Panel::ZERO);
            scores_of(s, task.k, block.clone(), q_panel, scores);
            let scores = &mut scores[..block.len()];
            if task.settings.causal {
                hide_later_keys(scores, block.start, first_query);
            }
            if let Some(correction) = softmax.raise(s, scores) {
                scale_rows(s, sums, &correction);
            }
            softmax.weigh::<Exact, S>(s, scores);
            add_values(s, values, scores, sums);
        }
        turn_out(s, &sums[..head_dim], &Row(softmax.total.map(|total| 1.0 / total)), task.out);
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

/// Oᵀ = Oᵀ + Vᵀ·Pᵀ for a block of keys.
#[inline(always)]
fn add_values<S: Simd>(s: S, values: &[f32], weights: &[Panel], sums: &mut [Panel]) {
    for (values, sums) in values.chunks(TILE_ROWS * BLOCK_KEYS).zip(sums.chunks_mut(TILE_ROWS)) {
        let mut rows: [&[f32]; TILE_ROWS] = [&ZEROS; TILE_ROWS];
        for (row, channel) in rows.iter_mut().zip(values.chunks_exact(BLOCK_KEYS)) {
            *row = channel;
        }
        tile(s, &rows[..sums.len()], weights, sums, false);
    }
}
