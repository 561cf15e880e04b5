//! Activations rounded once, where they are made, for all products that read them.
//!
//! ```text
//! planes[term][step][image][height + 2·border][width + 2·border]
//!                                          a `TileRow` each: 32 channels of a pixel
//! ```
//!
//! Pixels that are neighbours in a row of an image are neighbours in each plane. So any 16 of them
//! are a tile: 1 KB, in place. With a border of zeros, so are the 16 pixels that they see
//! under each tap of a 3×3 window: the nine taps are nine offsets, and the image's edge is no
//! special case. Channels-last, as tensors have it, each line of a tile would stand a whole pixel
//! further on, in another place of memory for the prefetcher and often in the same place of the
//! cache.
//!
//! Without a border pixels are simply rows, tokens or whatever they mean, and the planes are those
//! of a matrix.
//!
//! Source of the layout: Georganas et al., *Anatomy of High-Performance Deep Learning Convolutions
//! on SIMD Architectures* (2018, arXiv:1808.05567).

use std::marker::PhantomData;
use std::ops::Range;
use std::slice::IterMut;

use rayon::prelude::*;

use super::rows::MAX_DEPTH_RANGE;
use crate::cpu::partition::{for_each_task, rows_per_task};
use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;
use crate::cpu::tile::UnitOp;
use crate::cpu::tile::{ATile, AlignedBuffer, MatmulUnit, TILE_K, TILE_M, TileRow, split_rows};
use crate::gemm::RowSource;
use crate::gemm::{DepthRange, Rows};
use crate::{Isa, Precision};

/// Finds the tiles of a left operand.
pub(crate) trait TileSource: Sync {
    /// The precision for which they were rounded.
    fn precision(&self) -> Precision;

    /// Whether some must be copied together.
    fn may_copy(&self) -> bool;

    /// Appends to `out`, for each of the `steps` in the order of the weights, the tile of part
    /// `part` that begins at row `first`: in place, or a copy in the next place of `room`.
    /// Rows behind the last one may be any numbers.
    fn gather<'a>(
        &'a self,
        term: usize,
        first: usize,
        k_steps: Range<usize>,
        buffer: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    );
}

/// Lines 4 KB apart map to the same set of an L1 cache.
const CACHE_WAY: usize = 4096 / size_of::<TileRow>();

/// Images or rows, rounded to bf16 in one part or two.
pub struct PackedA {
    lines: AlignedBuffer,
    precision: Precision,
    /// Images, height, width.
    grid: [usize; 3],
    border: usize,
    /// Planes of a term.
    k_steps: usize,
    /// Segments of the depth, whose planes stand one behind the other.
    segments: usize,
    /// Lines from a plane to the next.
    pitch: usize,
}

impl PackedA {
    /// Of rows with `channels` channels, one for each pixel of `grid`: images, height, width.
    pub(crate) fn new(
        isa: Isa,
        (precision, border): (Precision, usize),
        grid: [usize; 3],
        channels: usize,
        source: &impl RowSource,
    ) -> Self {
        let k_steps = channels.div_ceil(TILE_K);
        let mut packed = Self::recycled((precision, border), grid, [1, k_steps]);
        let chunk = rows_per_task(channels);
        let layout = packed.layout();
        for_each_task(packed.pieces(chunk).into_par_iter().enumerate(), |(i, planes)| {
            let terms = precision.terms();
            isa.run_with_unit(PackRows { source, layout, channels, terms, first: i * chunk, planes });
        });
        packed
    }

    /// Of the left operand of a product whose depth comes in segments; each begins with a new step.
    pub(crate) fn of_rows<T: Stored>(
        isa: Isa,
        precision: Precision,
        a: &impl Rows<T>,
        rows: Range<usize>,
        [segments, segment_len]: [usize; 2],
    ) -> Self {
        let depth = [segments, segment_len.div_ceil(TILE_K)];
        let mut packed = Self::recycled((precision, 0), [1, 1, rows.len()], depth);
        let chunk = rows_per_task(segments * segment_len).next_multiple_of(TILE_M);
        for_each_task(packed.pieces(chunk).into_par_iter().enumerate(), |(i, planes)| {
            let rows = rows.start + i * chunk..rows.end.min(rows.start + (i + 1) * chunk);
            isa.run_with_unit(PackSegments {
                a,
                rows,
                segments,
                segment_len,
                terms: precision.terms(),
                planes,
                stored: PhantomData,
            });
        });
        packed
    }

    /// A matrix of any numbers, to be overwritten.
    pub(crate) fn rows(precision: Precision, rows: usize, columns: usize) -> Self {
        Self::recycled((precision, 0), [1, 1, rows], [1, columns.div_ceil(TILE_K)])
    }

    /// All planes, those of the second part behind those of the first, each with a line for every
    /// pixel.
    pub(crate) fn planes_mut(&mut self) -> impl Iterator<Item = &mut [TileRow]> {
        let lines = self.layout().lines();
        self.lines.chunks_mut(self.pitch).map(move |plane| &mut plane[..lines])
    }

    /// Puts the rows of another in the place of some of these, from `first` on.
    pub(crate) fn put_rows(&mut self, first: usize, rows: &Self) {
        let count = rows.layout().pixels();
        for (to, from) in self.planes_mut().zip(rows.lines.chunks(rows.pitch)) {
            to[first..][..count].copy_from_slice(&from[..count]);
        }
    }

    fn recycled(
        (precision, border): (Precision, usize),
        grid: [usize; 3],
        [segments, per_segment]: [usize; 2],
    ) -> Self {
        assert!(precision != Precision::F32, "nothing is rounded for f32");
        let [images, height, width] = grid;
        let pixels = images * (height + 2 * border) * (width + 2 * border);
        let mut pitch = pixels.next_multiple_of(TILE_M);
        if pitch.is_multiple_of(CACHE_WAY) {
            pitch += TILE_M;
        }
        let k_steps = segments * per_segment;
        let lines = AlignedBuffer::recycled(precision.terms() * k_steps * pitch);
        Self { lines, precision, grid, border, k_steps, segments, pitch }
    }

    /// All planes, cut into pieces of at most `len` lines: `[pieces][parts · steps]`.
    pub(crate) fn pieces(&mut self, len: usize) -> Vec<Vec<&mut [TileRow]>> {
        let lines = self.layout().lines();
        let mut pieces = Vec::new();
        pieces.resize_with(lines.div_ceil(len), || Vec::with_capacity(self.precision.terms() * self.k_steps));
        for plane in self.planes_mut() {
            for (pieces, piece) in pieces.iter_mut().zip(plane.chunks_mut(len)) {
                pieces.push(piece);
            }
        }
        pieces
    }

    /// Where pixels stand in a plane.
    pub(crate) fn layout(&self) -> PlaneLayout {
        PlaneLayout { grid: self.grid, border: self.border }
    }

    /// The memory that the numbers take, border and padding included.
    pub(crate) fn bytes(&self) -> usize {
        self.precision.terms() * self.k_steps * self.layout().lines() * size_of::<TileRow>()
    }

    /// Planes of a part.
    pub(crate) fn k_steps(&self) -> usize {
        self.k_steps
    }

    /// The number in a line of a channel, both parts together.
    pub(crate) fn number(&self, line: usize, channel: usize) -> f32 {
        let pair = |term| self.plane(term, channel / TILE_K)[line].0[channel % TILE_K / 2];
        let value = |term| if channel.is_multiple_of(2) { pair(term).first() } else { pair(term).second() };
        (0..self.precision.terms()).map(value).sum()
    }

    /// A plane.
    #[inline(always)]
    pub(crate) fn plane(&self, term: usize, step: usize) -> &[TileRow] {
        &self.lines[(term * self.k_steps + step) * self.pitch..][..self.pitch]
    }
}

impl TileSource for PackedA {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn may_copy(&self) -> bool {
        false
    }

    fn gather<'a>(
        &'a self,
        term: usize,
        first: usize,
        k_steps: Range<usize>,
        _: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    ) {
        assert_eq!(self.border, 0, "this image was rounded for a window, not for a linear layer");
        let segments = self.segments.max(1);
        let per_segment = self.k_steps / segments;
        let (mut step, mut segment) = (k_steps.start / segments, k_steps.start % segments);
        out.extend(k_steps.map(|_| -> &ATile {
            let plane = self.plane(term, segment * per_segment + step);
            segment += 1;
            if segment == segments {
                (step, segment) = (step + 1, 0);
            }
            plane[first..].first_chunk().expect("planes are whole tiles")
        }));
    }
}

/// The rows from one on, as a product of fewer rows reads them.
pub(crate) struct RowsFrom<'a> {
    pub(crate) packed: &'a PackedA,
    pub(crate) first: usize,
}

impl TileSource for RowsFrom<'_> {
    fn precision(&self) -> Precision {
        self.packed.precision
    }

    fn may_copy(&self) -> bool {
        false
    }

    fn gather<'a>(
        &'a self,
        term: usize,
        first: usize,
        k_steps: Range<usize>,
        room: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    ) {
        self.packed.gather(term, self.first + first, k_steps, room, out);
    }
}

/// A plane's pixels within its border.
#[derive(Clone, Copy)]
pub(crate) struct PlaneLayout {
    grid: [usize; 3],
    border: usize,
}

impl PlaneLayout {
    /// Pixels of all images.
    pub(crate) fn pixels(self) -> usize {
        self.grid.iter().product()
    }

    /// Lines of a plane.
    fn lines(self) -> usize {
        let [images, height, width] = self.grid;
        images * (height + 2 * self.border) * (width + 2 * self.border)
    }

    /// The pixel that a line holds, unless that is a part of the border.
    #[inline(always)]
    fn pixel(self, line: usize) -> Option<usize> {
        let [_, height, width] = self.grid;
        let (padded_height, padded_width) = (height + 2 * self.border, width + 2 * self.border);
        let (row, x) = (line / padded_width, (line % padded_width).wrapping_sub(self.border));
        let (n, y) = (row / padded_height, (row % padded_height).wrapping_sub(self.border));
        (y < height && x < width).then(|| (n * height + y) * width + x)
    }

    /// The line of a pixel, which may stand in the border; `None` if it lies beyond that, or there
    /// is no such image.
    #[inline(always)]
    pub(crate) fn line(self, n: usize, y: isize, x: isize) -> Option<usize> {
        let [images, height, width] = self.grid;
        let (padded_height, padded_width) = (height + 2 * self.border, width + 2 * self.border);
        let y =
            y.checked_add_unsigned(self.border)?.try_into().ok().filter(|&y: &usize| y < padded_height)?;
        let x = x.checked_add_unsigned(self.border)?.try_into().ok().filter(|&x: &usize| x < padded_width)?;
        (n < images).then_some((n * padded_height + y) * padded_width + x)
    }

    /// Images, and height and width of each without its border.
    pub(crate) fn grid(self) -> [usize; 3] {
        self.grid
    }

    /// Whether pixels stand one behind the other, as the rows of a matrix do.
    pub(crate) fn is_rows(self) -> bool {
        self.border == 0
    }

    /// Lines from a row of an image to the next.
    pub(crate) fn row(self) -> usize {
        self.grid[2] + 2 * self.border
    }
}

/// Some lines of all planes, from a source of rows.
struct PackRows<'a, R> {
    source: &'a R,
    layout: PlaneLayout,
    channels: usize,
    terms: usize,
    /// The first of the lines.
    first: usize,
    planes: Vec<&'a mut [TileRow]>,
}

impl<R: RowSource> UnitOp for PackRows<'_, R> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) {
        let PackRows { source, layout, channels, terms, first, mut planes } = self;
        let lines = planes.first().map_or(0, |plane| plane.len());
        let (hi, lo) = planes.split_at_mut(channels.div_ceil(TILE_K));
        debug_assert_eq!(lo.len(), (terms - 1) * hi.len());
        let mut buffer = vec![0.0; channels];
        for at in 0..lines {
            match layout.pixel(first + at) {
                Some(m) => split_rows(unit, &[source.row(s, m, &mut buffer)], (hi, lo), at),
                None => hi.iter_mut().chain(&mut *lo).for_each(|plane| plane[at] = TileRow::ZERO),
            }
        }
    }
}

/// Some rows of all planes, from parts of rows.
struct PackSegments<'a, R, T> {
    a: &'a R,
    rows: Range<usize>,
    segments: usize,
    segment_len: usize,
    terms: usize,
    planes: Vec<&'a mut [TileRow]>,
    /// How its numbers are stored.
    stored: PhantomData<T>,
}

impl<R: Rows<T>, T: Stored> UnitOp for PackSegments<'_, R, T> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) {
        let PackSegments { a, rows, segments, segment_len, terms, mut planes, .. } = self;
        let k_steps = planes.len() / terms;
        let (hi, lo) = planes.split_at_mut(k_steps);
        let mut numbers: Vec<&[T]> = Vec::with_capacity(rows.len());
        let mut buffer = vec![0.0; TILE_M * MAX_DEPTH_RANGE];
        let per_segment = segment_len.div_ceil(TILE_K);
        for segment in 0..segments {
            for start in (0..segment_len).step_by(MAX_DEPTH_RANGE) {
                let range = start..segment_len.min(start + MAX_DEPTH_RANGE);
                let first = segment * per_segment + start / TILE_K;
                let k_steps = first..first + range.len().div_ceil(TILE_K);
                numbers.clear();
                let start = segment * segment_len + start;
                a.gather(rows.clone(), DepthRange { segment, start, range }, &mut numbers);
                let lo = if lo.is_empty() { &mut [] } else { &mut lo[k_steps.clone()] };
                let hi = &mut hi[k_steps];
                for (i, numbers) in numbers.chunks(TILE_M).enumerate() {
                    let mut rows: [&[f32]; TILE_M] = [&[]; TILE_M];
                    let buffers = buffer.chunks_exact_mut(MAX_DEPTH_RANGE);
                    for ((row, numbers), buffer) in rows.iter_mut().zip(numbers).zip(buffers) {
                        *row = T::widen(s, numbers, &mut buffer[..numbers.len()]);
                    }
                    split_rows(unit, &rows[..numbers.len()], (&mut *hi, &mut *lo), i * TILE_M);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Matrix;
    use crate::testing::{random, to_bf16};
    use aquatint_tensor::Tensor;

    impl RowSource for Tensor<f32, 2> {
        fn row<'a, S: Simd>(&'a self, _: S, m: usize, _: &'a mut [f32]) -> &'a [f32] {
            let [_, columns] = self.shape();
            &self.as_slice()[m * columns..][..columns]
        }
    }

    #[test]
    fn every_pixel_stands_inside_of_a_border_of_zeros() {
        let (grid, channels) = ([2, 3, 5], 70);
        let x = to_bf16(&random([2 * 3 * 5, channels], 1));
        for isa in Isa::all_and_emulated() {
            let packed = PackedA::new(isa, (Precision::Bf16, 1), grid, channels, &x);
            for (n, y, x_at) in
                (0..2).flat_map(|n| (-1..4).flat_map(move |y| (-1..6).map(move |x| (n, y, x))))
            {
                let line = packed.layout().line(n, y, x_at).expect("within the border");
                let pixel =
                    ((0..3).contains(&y) && (0..5).contains(&x_at)).then(|| (n as isize * 3 + y) * 5 + x_at);
                for channel in 0..channels {
                    let expected = pixel.map_or(0.0, |m| x[[m as usize, channel]]);
                    assert_eq!(packed.number(line, channel), expected, "{isa}: {n}, {y}, {x_at}, {channel}");
                }
                assert_eq!(packed.number(line, 95), 0.0, "what a last step lacks is zero");
            }
            assert_eq!(packed.layout().line(0, -2, 0), None);
            assert_eq!(packed.layout().line(0, 0, 6), None);
        }
    }

    #[test]
    fn every_segment_of_a_row_begins_with_a_new_step() {
        let x = random([40, 3 * 50], 2);
        for isa in Isa::all_and_emulated() {
            let packed = PackedA::of_rows(isa, Precision::Bf16x3, &Matrix::new(x.view()), 3..40, [3, 50]);
            assert_eq!(packed.k_steps, 6);
            for (m, segment, k) in [(3, 0, 0), (39, 2, 49), (20, 1, 33)] {
                let (found, expected) = (packed.number(m - 3, segment * 64 + k), x[[m, segment * 50 + k]]);
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs(),
                    "{isa}: {found}, expected {expected}"
                );
            }
        }
    }
}
