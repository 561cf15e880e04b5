//! The form in f32: a block of scores at a time, with queries on the vector lanes.
//!
//! For some queries of one head, in panels of 32, with everything transposed:
//!
//! ```text
//! of each panel  m = −∞, l = 0, Oᵀ = 0               running maximum, running sum, running result
//! for each block of keys, for each panel:            the second panel finds K and V in the cache
//!     Sᵀ = K·Qᵀ                                      a product: rows of K, panel Qᵀ
//!     if m is too small for Sᵀ:  l, Oᵀ, m = l·r, Oᵀ·r, m'     r corrects for the old maximum
//!     Pᵀ = exp(Sᵀ − m),  l = l + sum of Pᵀ over the keys      see `online_softmax.rs`
//!     Oᵀ = Oᵀ + Vᵀ·Pᵀ                                a product: rows of Vᵀ, panel Pᵀ
//! out = (Oᵀ / l)ᵀ
//! ```
//!
//! The online softmax is that of Milakov and Gimelshein (2018, arXiv:1805.02867) and FlashAttention
//! (Dao et al., 2022, arXiv:2205.14135). The transposition is for the CPU: maximum and sum run down
//! the rows, lane by lane, so nothing is ever reduced across a vector; and Pᵀ comes out as the very
//! panel that the second product reads. Both products are the register tile of `gemm`.

use std::cell::RefCell;
use std::ops::Range;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::online_softmax::{Exact, OnlineSoftmax, scale_rows};
use super::transpose::{
    Contiguous, QueryBlock, for_each_chunk, hide_later_keys, pack_transposed, unpack_transposed,
};
use super::{Attention, check};
use crate::Isa;
use crate::cpu::simd::{Op, Simd};
use crate::cpu::tile::microkernel::{MR, MR_STEP, tile};
use crate::gemm::{NR, PanelRow, Row, ZEROS};

/// Keys in a block: 96 rows of scores are 12 KB; K, Vᵀ and both panels fit the L1 cache beside
/// them.
const BLOCK_KEYS: usize = 8 * MR;
/// Rows that the panels Qᵀ of a task have together, 40 KB: all of them use K and Vᵀ of a block
/// while these are in the cache. With one panel a task, 4096 tokens of 8×40 reach 56 instead of 64
/// % of the peak (AVX2, Zen 1).
const TASK_DEPTH: usize = 320;
/// Panels of a task, at most, so that all cores have work; nor are there more than blocks of keys.
const MAX_PANELS: usize = 8;
/// Depth of a block of the first product, for heads as deep as the VAE's 512.
const KC: usize = 256;

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
    let qkv = Contiguous::new([q, k, v]);
    let [q, k, v] = qkv.views();

    // Vᵀ block by block, so that its rows are not a power of two apart and compete for cache sets.
    let head_len = keys.div_ceil(BLOCK_KEYS) * head_dim * BLOCK_KEYS;
    let mut values = Tensor::<f32, 1>::recycled([images * heads * head_len]);
    values.as_mut_slice().par_chunks_exact_mut(head_len).enumerate().for_each(|(i, out)| {
        isa.run(TransposeValues { v: v.select::<3>(0, i / heads).select::<2>(1, i % heads), out });
    });
    let panels = (TASK_DEPTH / head_dim).min(keys / BLOCK_KEYS).clamp(1, MAX_PANELS);
    for_each_chunk(&mut out, panels * NR, |place, out| {
        let task = Task {
            q: place.queries(q, out.len()),
            k: k.select::<3>(0, place.image).select::<2>(1, place.head),
            values: &values.as_slice()[(place.image * heads + place.head) * head_len..][..head_len],
            place,
            settings,
            out,
        };
        SCRATCH.with_borrow_mut(|scratch| isa.run(FlashTask { task, scratch }));
    });
    out
}

/// Vᵀ of a head, a block of keys at a time.
struct TransposeValues<'a> {
    /// `[keys, head_dim]`
    v: View<'a, f32, 2>,
    /// `[blocks][head_dim][BLOCK_KEYS]`
    out: &'a mut [f32],
}

impl Op for TransposeValues<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let [keys, head_dim] = self.v.shape();
        let mut panel = vec![PanelRow::ZERO; head_dim];
        for first in (0..keys).step_by(NR) {
            pack_transposed(s, self.v.slice(0, first..keys.min(first + NR)), 1.0, &mut panel);
            let block = &mut self.out[first / BLOCK_KEYS * head_dim * BLOCK_KEYS..];
            for (row, numbers) in block.chunks_exact_mut(BLOCK_KEYS).zip(&panel) {
                row[first % BLOCK_KEYS..][..NR].copy_from_slice(&numbers.0);
            }
        }
    }
}

/// Some queries of one head of one image.
struct Task<'a> {
    /// `[queries, head_dim]`
    q: View<'a, f32, 2>,
    /// `[keys, head_dim]`
    k: View<'a, f32, 2>,
    /// Vᵀ, `[blocks][head_dim][BLOCK_KEYS]`
    values: &'a [f32],
    place: QueryBlock,
    settings: Attention,
    /// A row for each query, `[queries][head_dim]`.
    out: Vec<&'a mut [f32]>,
}

/// Buffers that a thread keeps from task to task, for each panel of queries, queries on the lanes.
#[derive(Default)]
struct FlashBuffers {
    /// scale·Qᵀ: `[panels][head_dim]`
    queries: Vec<PanelRow>,
    /// Sᵀ, then Pᵀ: `[keys of a block]`
    scores: Vec<PanelRow>,
    /// Oᵀ: `[panels][head_dim]`, filled up to whole tiles
    sums: Vec<PanelRow>,
}

thread_local! {
    static SCRATCH: RefCell<FlashBuffers> = RefCell::default();
}

struct FlashTask<'a> {
    task: Task<'a>,
    scratch: &'a mut FlashBuffers,
}

impl Op for FlashTask<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let FlashTask { task: Task { q, k, values, place, settings, out }, scratch } = self;
        let ([queries, head_dim], [keys, _]) = (q.shape(), k.shape());
        let (panels, height) = (queries.div_ceil(NR), head_dim.next_multiple_of(MR_STEP));
        scratch.queries.resize(panels * head_dim, PanelRow::ZERO);
        for (first, panel) in (0..queries).step_by(NR).zip(scratch.queries.chunks_exact_mut(head_dim)) {
            pack_transposed(s, q.slice(0, first..queries.min(first + NR)), settings.scale, panel);
        }
        scratch.sums.clear();
        scratch.sums.resize(panels * height, PanelRow::ZERO);
        let mut softmaxes: Vec<_> = (0..panels).map(|_| OnlineSoftmax::new(1.0)).collect(); // Q is scaled

        // No query of a panel sees a key behind the panel's last one.
        let visible = |panel: usize| match settings.causal {
            true => keys.min(place.first_query + queries.min((panel + 1) * NR)),
            false => keys,
        };
        let values = values.chunks_exact(head_dim * BLOCK_KEYS);
        for (first, values) in (0..visible(panels - 1)).step_by(BLOCK_KEYS).zip(values) {
            let q_panels = scratch.queries.chunks_exact(head_dim);
            let all = q_panels.zip(scratch.sums.chunks_exact_mut(height)).zip(&mut softmaxes);
            for (panel, ((q_panel, sums), softmax)) in all.enumerate() {
                let block = first..visible(panel).min(first + BLOCK_KEYS);
                if block.is_empty() {
                    continue;
                }
                scratch.scores.resize(block.len().next_multiple_of(MR_STEP), PanelRow::ZERO);
                scores_of(s, k, block.clone(), q_panel, &mut scratch.scores);
                let scores = &mut scratch.scores[..block.len()];
                if settings.causal {
                    hide_later_keys(scores, block.start, place.first_query + panel * NR);
                }
                if let Some(correction) = softmax.raise(s, scores) {
                    scale_rows(s, sums, &correction);
                }
                softmax.exp_scores::<Exact, S>(s, scores);
                add_values(s, values, scores, sums);
            }
        }
        let mut out = out.into_iter();
        for (sums, softmax) in scratch.sums.chunks_exact(height).zip(&softmaxes) {
            let factors = Row(softmax.total.map(|total| 1.0 / total));
            unpack_transposed(s, &sums[..head_dim], &factors, out.by_ref().take(NR).collect());
        }
    }
}

/// Sᵀ = K·Qᵀ for a block of keys.
#[inline(always)]
fn scores_of<S: Simd>(
    s: S,
    k: View<'_, f32, 2>,
    block: Range<usize>,
    q_panel: &[PanelRow],
    scores: &mut [PanelRow],
) {
    for (first, scores) in block.clone().step_by(MR).zip(scores.chunks_mut(MR)) {
        for depth in (0..q_panel.len()).step_by(KC) {
            let q_panel = &q_panel[depth..q_panel.len().min(depth + KC)];
            let mut rows: [&[f32]; MR] = [&ZEROS; MR];
            let keys = k.slice(0, first..block.end.min(first + MR)).slice(1, depth..depth + q_panel.len());
            for (row, key) in rows.iter_mut().zip(keys.rows()) {
                *row = key;
            }
            tile(s, &rows[..scores.len()], q_panel, scores, depth == 0);
        }
    }
}

/// Oᵀ = Oᵀ + Vᵀ·Pᵀ for a block of keys.
#[inline(always)]
fn add_values<S: Simd>(s: S, values: &[f32], numerators: &[PanelRow], sums: &mut [PanelRow]) {
    for (values, sums) in values.chunks(MR * BLOCK_KEYS).zip(sums.chunks_mut(MR)) {
        let mut rows: [&[f32]; MR] = [&ZEROS; MR];
        for (row, channel) in rows.iter_mut().zip(values.chunks_exact(BLOCK_KEYS)) {
            *row = channel;
        }
        tile(s, &rows[..sums.len()], numerators, sums, false);
    }
}
