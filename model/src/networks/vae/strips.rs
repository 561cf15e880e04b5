//! The VAE a strip of rows at a time, for pictures whose feature maps do not fit into memory.
//!
//! ```text
//! whole   at 2048×2048 a map of 256 channels is 4.3 GB, and a layer needs three of them
//! tiles   cut the latents, decode each alone, blend: every group norm then sees another mean, and
//!         no overlap hides that
//! strips  layer after layer, each norm with the statistics of the whole map:
//!         h    = conv1(silu(norm1(x)))            a pass that only takes the statistics of h
//!         x   += conv2(silu(norm2(h)))            a pass that computes h again, with two more rows
//! ```
//!
//! So the result is that of the whole picture, but for the last digits of the statistics (products
//! in bf16 make more of them: within their own error). What is left in memory is one map, `x`,
//! whose rows are freed as the next one grows, and the strips that are worked on. Doubled maps are
//! never kept: a strip is made of the small map in each pass. The price is about twice the time.
//!
//! A strip is cut with as many rows more as the layers reach beyond it; at a cut they see zeros
//! where there are pixels, and what they make of those rows is thrown away.

use std::ops::Range;

use aquatint_kernels::Isa;
use aquatint_kernels::gemm::Welford;
use aquatint_kernels::norm::stats::channel_stats;
use aquatint_tensor::{Tensor, View};

use crate::networks::layers::FeatureMap;
use crate::networks::unet::resnet::ResnetBlock2D;
use crate::networks::unet::sample::{Downsample2D, Upsample2D};

/// How large strips are.
#[derive(Clone, Copy, Debug)]
pub struct Strips {
    /// Bytes of a strip of a map; a map that is not larger is one strip.
    pub bytes: usize,
}

impl Default for Strips {
    /// 64 MB: 32 rows of the largest map at 2048×2048.
    fn default() -> Self {
        Self { bytes: 64_000_000 }
    }
}

/// The fewest rows of a strip: the rows beyond its edges would outweigh it.
const FEWEST_ROWS: usize = 8;

/// How the height changes on the way from a map to the next.
#[derive(Clone, Copy)]
enum Scale {
    Same,
    Doubled,
    Halved,
}

impl Scale {
    fn of(self, height: usize) -> usize {
        match self {
            Self::Same => height,
            Self::Doubled => 2 * height,
            Self::Halved => height / 2,
        }
    }

    /// The rows, of `height`, of which rows `out` of the next map are made by layers that reach
    /// `reach` rows beyond their own; and how many rows of the result come before `out`.
    fn input(self, out: &Range<usize>, reach: usize, height: usize) -> (Range<usize>, usize) {
        let (start, end) = (out.start.saturating_sub(reach), out.end + reach);
        match self {
            Self::Same => (start..end.min(height), out.start - start),
            Self::Doubled => {
                // The convolution behind the doubling reaches one row further.
                let first = start.saturating_sub(1) / 2;
                (first..(end + 1).div_ceil(2).min(height), out.start - 2 * first)
            }
            // Rows 2y, 2y + 1 and 2y + 2 make row y.
            Self::Halved => (2 * out.start..(2 * out.end + 1).min(height), 0),
        }
    }
}

/// A map in strips, with the statistics of the whole.
pub(super) struct RowMap {
    /// Of all rows: `[height, width, channels]`.
    shape: [usize; 3],
    /// Each with its first row, from top to bottom; those above were freed.
    strips: Vec<(usize, Tensor<f32, 4>)>,
    /// Rows that were added.
    rows: usize,
    stats: Vec<Welford>,
}

impl RowMap {
    fn new(shape: [usize; 3]) -> Self {
        Self { shape, strips: Vec::new(), rows: 0, stats: vec![Welford::default(); shape[2]] }
    }

    /// A map that is there as one: `[1, h, w, c]`.
    pub(super) fn whole(isa: Isa, x: Tensor<f32, 4>) -> Self {
        let [_, height, width, channels] = x.shape();
        let mut map = Self::new([height, width, channels]);
        map.push(isa, x);
        map
    }

    /// The next rows.
    fn push(&mut self, isa: Isa, rows: Tensor<f32, 4>) {
        merge(isa, &mut self.stats, rows.view());
        let height = rows.shape()[1];
        self.strips.push((self.rows, rows));
        self.rows += height;
    }

    /// A copy of some rows: `[1, rows, w, c]`.
    fn copy(&self, wanted: Range<usize>) -> Tensor<f32, 4> {
        let [_, width, channels] = self.shape;
        let mut numbers = Vec::with_capacity(wanted.len() * width * channels);
        for (first, strip) in &self.strips {
            let rows = strip.shape()[1];
            let part = wanted.start.clamp(*first, first + rows)..wanted.end.clamp(*first, first + rows);
            let row = width * channels;
            numbers
                .extend_from_slice(&strip.as_slice()[(part.start - first) * row..(part.end - first) * row]);
        }
        Tensor::from_vec([1, wanted.len(), width, channels], numbers)
    }

    /// Frees the strips that end above this row.
    fn free_above(&mut self, row: usize) {
        self.strips.retain(|(first, strip)| first + strip.shape()[1] > row);
    }

    /// All rows as one map.
    pub(super) fn into_whole(mut self) -> Tensor<f32, 4> {
        match self.strips.len() {
            1 => self.strips.remove(0).1,
            _ => self.copy(0..self.shape[0]),
        }
    }
}

/// Adds the statistics of some rows to those of the rows above.
fn merge(isa: Isa, stats: &mut [Welford], rows: View<'_, f32, 4>) {
    for (all, new) in stats.iter_mut().zip(channel_stats(isa, rows).of_image(0)) {
        *all = if all.count == 0.0 { new } else { all.merge(new) };
    }
}

impl Strips {
    /// The strips of a map of `[height, width]` that is made of and in these channels.
    fn ranges(self, [height, width]: [usize; 2], channels: usize) -> Vec<Range<usize>> {
        let row = 4 * width * channels;
        let rows = (self.bytes / row).max(FEWEST_ROWS) / 2 * 2;
        (0..height).step_by(rows).map(|first| first..height.min(first + rows)).collect()
    }

    /// A residual block behind a doubling or alone.
    pub(super) fn resnet(
        self,
        isa: Isa,
        block: &ResnetBlock2D,
        mut x: RowMap,
        upsampler: Option<&Upsample2D>,
    ) -> RowMap {
        let [in_height, in_width, in_channels] = x.shape;
        let scale = if upsampler.is_some() { Scale::Doubled } else { Scale::Same };
        let size = [in_height, in_width].map(|side| scale.of(side));
        let read = |x: &RowMap, rows: Range<usize>| match upsampler {
            Some(upsampler) => upsampler.forward(isa, x.copy(rows).view()).into_tensor(),
            None => x.copy(rows),
        };
        let ranges = self.ranges(size, in_channels.max(block.out_channels()));
        if let [_] = ranges[..] {
            let input = FeatureMap::of_pixels(read(&x, 0..in_height));
            return RowMap::whole(isa, block.forward(isa, &input, None).into_tensor());
        }
        let mut first = x.stats.clone();
        if upsampler.is_some() {
            first = vec![Welford::default(); in_channels];
            for out in &ranges {
                let (rows, before) = scale.input(out, 0, in_height);
                merge(isa, &mut first, rows_of(&read(&x, rows), before, out.len()));
            }
        }
        let mut second = vec![Welford::default(); block.out_channels()];
        for out in &ranges {
            let (rows, before) = scale.input(out, 1, in_height);
            let input = FeatureMap::of_rows(read(&x, rows), &first);
            let hidden = block.hidden(isa, &[&input], None);
            merge(isa, &mut second, rows_of(hidden.pixels(), before, out.len()));
        }
        let mut made = RowMap::new([size[0], size[1], block.out_channels()]);
        for out in &ranges {
            let (rows, before) = scale.input(out, 2, in_height);
            let input = FeatureMap::of_rows(read(&x, rows), &first);
            let hidden = FeatureMap::of_rows(block.hidden(isa, &[&input], None).into_tensor(), &second);
            let y = block.finish(isa, &[&input], hidden);
            made.push(isa, rows_of(y.pixels(), before, out.len()).to_tensor());
            x.free_above(scale.input(&(out.end..out.end + 1), 2, in_height).0.start);
        }
        made
    }

    /// A halving.
    pub(super) fn halve(self, isa: Isa, layer: &Downsample2D, x: RowMap) -> RowMap {
        let channels = x.shape[2];
        self.layer(isa, x, Scale::Halved, 0, channels, |rows, _| {
            layer.forward(isa, rows.view()).into_tensor()
        })
    }

    /// A convolution that reaches one row beyond its own, perhaps behind a norm: `f` is given rows
    /// and the statistics of the whole map.
    pub(super) fn conv(
        self,
        isa: Isa,
        x: RowMap,
        out_channels: usize,
        f: impl Fn(Tensor<f32, 4>, &[Welford]) -> Tensor<f32, 4>,
    ) -> RowMap {
        self.layer(isa, x, Scale::Same, 1, out_channels, f)
    }

    fn layer(
        self,
        isa: Isa,
        mut x: RowMap,
        scale: Scale,
        reach: usize,
        out_channels: usize,
        f: impl Fn(Tensor<f32, 4>, &[Welford]) -> Tensor<f32, 4>,
    ) -> RowMap {
        let [height, width, in_channels] = x.shape;
        let size = [height, width].map(|side| scale.of(side));
        let mut made = RowMap::new([size[0], size[1], out_channels]);
        for out in self.ranges(size, in_channels.max(out_channels)) {
            let (rows, before) = scale.input(&out, reach, height);
            let y = f(x.copy(rows), &x.stats);
            made.push(isa, rows_of(&y, before, out.len()).to_tensor());
            x.free_above(scale.input(&(out.end..out.end + 1), reach, height).0.start);
        }
        made
    }
}

/// `count` rows behind the first `before`.
fn rows_of(x: &Tensor<f32, 4>, before: usize, count: usize) -> View<'_, f32, 4> {
    x.view().slice(1, before..before + count)
}
