//! Thirty-two queries of a head at a time: what all forms in blocks share around their products.
//!
//! ```text
//! out [images, queries, heads, head_dim]  →  a task for each image, head and chunk of queries
//! 32 rows of Q                            →  a panel Qᵀ, queries on the lanes    pack_transposed
//! Oᵀ, queries on the lanes                →  32 rows of the output, divided      unpack_transposed
//! ```
//!
//! Transposing costs little where a head has thousands of keys, but with the 77 of a text it is as
//! much work as a softmax. So it is done with vectors, a square of as many rows as there are lanes
//! at a time.

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use crate::cpu::simd::{MAX_LANES, Simd};
use crate::gemm::{NR, PanelRow};

/// Where the queries of a task stand.
#[derive(Clone, Copy)]
pub(super) struct QueryBlock {
    pub(super) image: usize,
    pub(super) head: usize,
    /// The position of the first query among all queries.
    pub(super) first_query: usize,
}

impl QueryBlock {
    /// The queries of the task, `[queries, head_dim]`.
    pub(super) fn queries<'a>(&self, q: View<'a, f32, 4>, count: usize) -> View<'a, f32, 2> {
        let queries = self.first_query..self.first_query + count;
        q.select::<3>(0, self.image).select::<2>(1, self.head).slice(0, queries)
    }
}

/// Calls `f` for each image, head and panel of queries, in parallel, with its pieces of the output
/// rows.
pub(super) fn for_each_panel(out: &mut Tensor<f32, 4>, f: impl Fn(QueryBlock, Vec<&mut [f32]>) + Sync) {
    for_each_chunk(out, NR, f);
}

/// The same for as many queries as are asked for.
pub(super) fn for_each_chunk(
    out: &mut Tensor<f32, 4>,
    len: usize,
    f: impl Fn(QueryBlock, Vec<&mut [f32]>) + Sync,
) {
    let [images, queries, heads, head_dim] = out.shape();
    let panels = queries.div_ceil(len);
    let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
    pieces.resize_with(images * heads * panels, || Vec::with_capacity(len));
    let mut rows = out.as_mut_slice().chunks_exact_mut(head_dim);
    for image in 0..images {
        for query in 0..queries {
            for (head, row) in rows.by_ref().take(heads).enumerate() {
                pieces[(image * heads + head) * panels + query / len].push(row);
            }
        }
    }
    pieces.into_par_iter().enumerate().for_each(|(i, out)| {
        let (image, head) = (i / panels / heads, i / panels % heads);
        f(QueryBlock { image, head, first_query: i % panels * len }, out);
    });
}

/// Views in which the numbers of a head are neighbours in memory, copied only where they are not.
pub(super) struct Contiguous<'a, const N: usize> {
    views: [View<'a, f32, 4>; N],
    copies: [Option<Tensor<f32, 4>>; N],
}

impl<'a, const N: usize> Contiguous<'a, N> {
    pub(super) fn new(views: [View<'a, f32, 4>; N]) -> Self {
        let copies = views.map(|x| (x.strides()[3] != 1 && x.shape()[3] > 1).then(|| x.to_tensor()));
        Self { views, copies }
    }

    pub(super) fn views(&self) -> [View<'_, f32, 4>; N] {
        std::array::from_fn(|i| self.copies[i].as_ref().map_or(self.views[i], Tensor::view))
    }
}

/// Gives keys behind a query's own position the score −∞.
pub(super) fn hide_later_keys(scores: &mut [PanelRow], first_key: usize, first_query: usize) {
    for (key, row) in (first_key..).zip(scores) {
        let seeing = key.saturating_sub(first_query).min(NR);
        row[..seeing].fill(f32::NEG_INFINITY);
    }
}

/// `panel[c][lane] = factor·x[lane][c]` for up to 32 contiguous rows; lanes without a row become
/// zero.
#[inline(always)]
pub(super) fn pack_transposed<S: Simd>(s: S, x: View<'_, f32, 2>, factor: f32, panel: &mut [PanelRow]) {
    let mut rows: [&[f32]; NR] = [&[]; NR];
    for (row, numbers) in rows.iter_mut().zip(x.rows()) {
        *row = numbers;
    }
    let factor = s.splat(factor);
    for lane in (0..NR).step_by(S::LANES) {
        for first in squares::<S>(panel.len()) {
            let mut square = [s.zero(); MAX_LANES];
            for (v, row) in square.iter_mut().zip(&rows[lane..lane + S::LANES]) {
                let numbers = row.get(first..).unwrap_or(&[]);
                let whole = numbers.len() >= S::LANES;
                *v = s.mul(if whole { s.load(numbers) } else { s.load_or(numbers, 0.0) }, factor);
            }
            s.transpose(&mut square);
            for (v, row) in square[..S::LANES].iter().zip(&mut panel[first..]) {
                s.store(*v, &mut row[lane..]);
            }
        }
    }
}

/// `out[lane][c] = factors[lane]·panel[c][lane]` for as many lanes as there are rows of `out`.
#[inline(always)]
pub(super) fn unpack_transposed<S: Simd>(
    s: S,
    panel: &[PanelRow],
    factors: &PanelRow,
    mut out: Vec<&mut [f32]>,
) {
    for (lane, out) in (0..NR).step_by(S::LANES).zip(out.chunks_mut(S::LANES)) {
        let factor = s.load(&factors[lane..]);
        for first in squares::<S>(panel.len()) {
            let mut square = [s.zero(); MAX_LANES];
            for (v, row) in square[..S::LANES].iter_mut().zip(&panel[first..]) {
                *v = s.mul(s.load(&row[lane..]), factor);
            }
            s.transpose(&mut square);
            for (v, row) in square.iter().zip(&mut *out) {
                let numbers = &mut row[first..];
                if numbers.len() >= S::LANES { s.store(*v, numbers) } else { s.store_part(*v, numbers) }
            }
        }
    }
}

/// Where squares begin that cover `len` rows. The last begins early rather than reach beyond the
/// end.
#[inline(always)]
fn squares<S: Simd>(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(S::LANES).map(move |first| first.min(len.saturating_sub(S::LANES)))
}
