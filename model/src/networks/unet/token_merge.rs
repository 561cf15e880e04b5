//! Token merging (ToMe): self-attention over fewer tokens. An approximation, off by default.
//!
//! ```text
//! dst       the upper left pixel of each square of 2×2       a quarter of the tokens
//! src       all others
//! s(a, b)   cosine of token a of src and token b of dst      each a has its most similar b
//! merge     the r tokens of src with the largest s: each dst becomes the mean of itself and those
//!           that chose it; the others stay
//! unmerge   after the attention, every merged token takes what its dst got
//! ```
//!
//! Attention compares all pairs of tokens, so half of them cost a quarter. At the outermost level
//! only, where most of the pairs are, and by the tokens in front of the norm.
//!
//! Source: Bolya and Hoffman, *Token Merging for Fast Stable Diffusion* (2023); its `tomesd` with
//! `use_rand=False`.

use aquatint_kernels::gemm::{Epilogue, PackedWeights};
use aquatint_kernels::{Isa, linear};
use aquatint_tensor::{Tensor, View};

/// The side of the squares.
const SIDE: usize = 2;

/// Which tokens of one image are merged.
pub struct Merged {
    /// Tokens that are kept as they are.
    kept: Vec<usize>,
    /// Tokens that others are merged into.
    dst: Vec<usize>,
    /// Pairs of a merged token and its place in `dst`.
    pairs: Vec<(usize, usize)>,
}

impl Merged {
    /// Chooses `⌊ratio · tokens⌋` tokens, or all of src if that is more, by `x: [tokens,
    /// channels]`, which are the pixels of an image of `[height, width]`.
    ///
    /// # Panics
    /// If there are other than height · width tokens.
    pub fn of(isa: Isa, x: View<'_, f32, 2>, [height, width]: [usize; 2], ratio: f64) -> Self {
        let [tokens, channels] = x.shape();
        assert_eq!(tokens, height * width, "tokens of {height}×{width} pixels");
        let (whole_height, whole_width) = (height / SIDE * SIDE, width / SIDE * SIDE);
        let is_dst = |i: usize| {
            let (row, column) = (i / width, i % width);
            row < whole_height && column < whole_width && row % SIDE == 0 && column % SIDE == 0
        };
        let (dst, src): (Vec<usize>, Vec<usize>) = (0..tokens).partition(|&i| is_dst(i));
        let count = ((tokens as f64 * ratio) as usize).min(src.len());
        if count == 0 || dst.is_empty() {
            return Self { kept: src, dst, pairs: Vec::new() };
        }
        let numbers = x.to_tensor();
        let unit = |which: &[usize]| {
            let rows = which.iter().flat_map(|&i| {
                let row = &numbers.as_slice()[i * channels..][..channels];
                let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt() as f32;
                row.iter().map(move |x| x / length)
            });
            Tensor::from_vec([which.len(), channels], rows.collect())
        };
        let weights = PackedWeights::pack(unit(&dst).view());
        let scores: Tensor<f32, 2> = linear::linear(isa, unit(&src).view(), &weights, Epilogue::default());
        let best = |row: &[f32]| {
            let first = (0, f32::NEG_INFINITY);
            row.iter().copied().enumerate().fold(first, |best, (i, x)| if x > best.1 { (i, x) } else { best })
        };
        let mut edges: Vec<_> = src
            .iter()
            .zip(scores.as_slice().chunks_exact(dst.len()))
            .map(|(&token, row)| (token, best(row)))
            .collect();
        edges.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
        let pairs = edges[..count].iter().map(|&(token, (place, _))| (token, place)).collect();
        let kept = edges[count..].iter().map(|&(token, _)| token).collect();
        Self { kept, dst, pairs }
    }

    /// Tokens that are left.
    fn count(&self) -> usize {
        self.kept.len() + self.dst.len()
    }

    /// The kept tokens, then the means: `x: [tokens, channels]` → `[fewer, channels]`, appended to
    /// `out`.
    pub fn merge(&self, x: &[f32], channels: usize, out: &mut Vec<f32>) {
        let row = |i: usize| &x[i * channels..][..channels];
        self.kept.iter().for_each(|&i| out.extend_from_slice(row(i)));
        let first = out.len();
        self.dst.iter().for_each(|&i| out.extend_from_slice(row(i)));
        let means = &mut out[first..];
        let mut counts = vec![1.0; self.dst.len()];
        for &(token, place) in &self.pairs {
            counts[place] += 1.0;
            let mean = &mut means[place * channels..][..channels];
            mean.iter_mut().zip(row(token)).for_each(|(sum, x)| *sum += x);
        }
        for (mean, count) in means.chunks_exact_mut(channels).zip(counts) {
            mean.iter_mut().for_each(|x| *x /= count);
        }
    }

    /// `out += unmerge(x)`: `x: [fewer, channels]` → `[tokens, channels]`.
    pub fn add_unmerged(&self, x: &[f32], channels: usize, out: &mut [f32]) {
        let mut add = |token: usize, place: usize| {
            let from = &x[place * channels..][..channels];
            out[token * channels..][..channels].iter_mut().zip(from).for_each(|(out, x)| *out += x);
        };
        self.kept.iter().enumerate().for_each(|(place, &token)| add(token, place));
        let kept = self.kept.len();
        self.dst.iter().enumerate().for_each(|(place, &token)| add(token, kept + place));
        self.pairs.iter().for_each(|&(token, place)| add(token, kept + place));
    }
}

/// The same for each image of a batch.
pub(super) struct MergedBatch(Vec<Merged>);

impl MergedBatch {
    /// `h: [n, tokens, channels]`
    pub(super) fn of(isa: Isa, h: &Tensor<f32, 3>, size: [usize; 2], ratio: f64) -> Self {
        let of = |i| Merged::of(isa, h.view().select(0, i), size, ratio);
        Self((0..h.shape()[0]).map(of).collect())
    }

    /// `x: [n, tokens, channels]` → `[n, fewer, channels]`
    pub(super) fn merge(&self, x: &Tensor<f32, 3>) -> Tensor<f32, 3> {
        let [n, tokens, channels] = x.shape();
        let mut out = Vec::new();
        for (merged, x) in self.0.iter().zip(x.as_slice().chunks_exact(tokens * channels)) {
            merged.merge(x, channels, &mut out);
        }
        // Each image has as many tokens left as the others.
        Tensor::from_vec([n, self.0.first().map_or(0, Merged::count), channels], out)
    }

    /// `h + unmerge(x)`
    pub(super) fn add_unmerged(&self, x: &Tensor<f32, 3>, mut h: Tensor<f32, 3>) -> Tensor<f32, 3> {
        let ([_, fewer, channels], [_, tokens, _]) = (x.shape(), h.shape());
        let images = h.as_mut_slice().chunks_exact_mut(tokens * channels);
        for ((merged, x), out) in self.0.iter().zip(x.as_slice().chunks_exact(fewer * channels)).zip(images) {
            merged.add_unmerged(x, channels, out);
        }
        h
    }
}
