//! Activations rounded once, where they are made, for all products that read them.
//!
//! ```text
//! planes[part][step][image][height + 2·border][width + 2·border]      a line each: 32 channels of a pixel
//! ```
//!
//! Pixels that are neighbours in a row of an image are neighbours in each plane. So any 16 of them are a tile: 1 KB, where it stands. With a border
//! of zeros, so are the 16 pixels that they see under each tap of a 3×3 window: the nine taps are nine offsets, and the image's edge is no
//! special case. Channels-last, as tensors have it, each line of a tile would stand a whole pixel further on, in another place of
//! memory for the prefetcher and often in the same place of the cache.
//!
//! Without a border pixels are simply rows, tokens or whatever they mean, and the planes are those of a matrix.
//!
//! Source of the layout: Georganas et al., *Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures* (2018,
//! arXiv:1808.05567).

use std::ops::Range;
use std::slice::IterMut;

use rayon::prelude::*;

use super::rows::MAX_PART;
use crate::cpu::isa::UnitOp;
use crate::cpu::partition::rows_per_task;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{ATile, Line, Lines, STEP, TILE, Unit, split_rows};
use crate::gemm::{DepthRange, Rows};
use crate::packed_input::RowSource;
use crate::{Isa, Precision};

/// Who knows where the tiles of a left operand stand.
pub(crate) trait Tiles: Sync {
    /// The precision for which they were rounded.
    fn precision(&self) -> Precision;

    /// Whether some must be copied together.
    fn may_copy(&self) -> bool;

    /// Appends to `out`, for each of the `steps` in the order of the weights, the tile of part `part` that begins at row `first`: where it stands, or a copy in the next
    /// place of `room`. Rows behind the last one may be any numbers.
    fn gather<'a>(
        &'a self,
        part: usize,
        first: usize,
        steps: Range<usize>,
        room: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    );
}

/// Lines that stand 4 KB apart compete for the same places of an L1 cache.
const CACHE_WAY: usize = 4096 / size_of::<Line>();

/// Images or rows, rounded to bf16 in one part or two.
pub struct Rounded {
    lines: Lines,
    precision: Precision,
    /// Images, height, width.
    grid: [usize; 3],
    border: usize,
    /// Planes of a part.
    steps: usize,
    /// Segments of the depth, whose planes stand one behind the other.
    segments: usize,
    /// Lines from a plane to the next.
    pitch: usize,
}

impl Rounded {
    /// Of rows with so many channels, one for each pixel of `grid`: images, height, width.
    pub(crate) fn new(
        isa: Isa,
        (precision, border): (Precision, usize),
        grid: [usize; 3],
        channels: usize,
        source: &impl RowSource,
    ) -> Self {
        let steps = channels.div_ceil(STEP);
        let mut rounded = Self::recycled((precision, border), grid, [1, steps]);
        let chunk = rows_per_task(channels);
        let inside = rounded.inside();
        rounded.pieces(chunk).into_par_iter().enumerate().for_each(|(i, planes)| {
            let parts = precision.parts();
            isa.run_with_unit(Fill { source, inside, channels, parts, first: i * chunk, planes });
        });
        rounded
    }

    /// Of the left operand of a product whose depth comes in segments; each begins with a new step.
    pub(crate) fn of_rows(
        isa: Isa,
        precision: Precision,
        a: &impl Rows,
        rows: Range<usize>,
        [segments, segment_len]: [usize; 2],
    ) -> Self {
        let depth = [segments, segment_len.div_ceil(STEP)];
        let mut rounded = Self::recycled((precision, 0), [1, 1, rows.len()], depth);
        let chunk = rows_per_task(segments * segment_len).next_multiple_of(TILE);
        rounded.pieces(chunk).into_par_iter().enumerate().for_each(|(i, planes)| {
            let rows = rows.start + i * chunk..rows.end.min(rows.start + (i + 1) * chunk);
            isa.run_with_unit(FillFromParts {
                a,
                rows,
                segments,
                segment_len,
                parts: precision.parts(),
                planes,
            });
        });
        rounded
    }

    /// A matrix of any numbers, to be overwritten.
    pub(crate) fn rows(precision: Precision, rows: usize, columns: usize) -> Self {
        Self::recycled((precision, 0), [1, 1, rows], [1, columns.div_ceil(STEP)])
    }

    /// All planes, those of the second part behind those of the first, each with a line for every pixel.
    pub(crate) fn planes_mut(&mut self) -> impl Iterator<Item = &mut [Line]> {
        let lines = self.inside().lines();
        self.lines.chunks_mut(self.pitch).map(move |plane| &mut plane[..lines])
    }

    /// Puts the rows of another in the place of some of these, from `first` on.
    pub(crate) fn put_rows(&mut self, first: usize, rows: &Self) {
        let count = rows.inside().pixels();
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
        let mut pitch = pixels.next_multiple_of(TILE);
        if pitch.is_multiple_of(CACHE_WAY) {
            pitch += TILE;
        }
        let steps = segments * per_segment;
        let lines = Lines::recycled(precision.parts() * steps * pitch);
        Self { lines, precision, grid, border, steps, segments, pitch }
    }

    /// All planes, cut into pieces of at most `len` lines: `[pieces][parts · steps]`.
    fn pieces(&mut self, len: usize) -> Vec<Vec<&mut [Line]>> {
        let lines = self.inside().lines();
        let mut pieces = Vec::new();
        pieces.resize_with(lines.div_ceil(len), || Vec::with_capacity(self.precision.parts() * self.steps));
        for plane in self.planes_mut() {
            for (pieces, piece) in pieces.iter_mut().zip(plane.chunks_mut(len)) {
                pieces.push(piece);
            }
        }
        pieces
    }

    /// Where pixels stand in a plane.
    pub(crate) fn inside(&self) -> Inside {
        Inside { grid: self.grid, border: self.border }
    }

    /// Planes of a part.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    /// The number in a line of a channel, both parts together.
    pub(crate) fn number(&self, line: usize, channel: usize) -> f32 {
        let pair = |part| self.plane(part, channel / STEP)[line].0[channel % STEP / 2];
        let value = |part| if channel.is_multiple_of(2) { pair(part).first() } else { pair(part).second() };
        (0..self.precision.parts()).map(value).sum()
    }

    /// A plane.
    #[inline(always)]
    pub(crate) fn plane(&self, part: usize, step: usize) -> &[Line] {
        &self.lines[(part * self.steps + step) * self.pitch..][..self.pitch]
    }
}

impl Tiles for Rounded {
    fn precision(&self) -> Precision {
        self.precision
    }

    fn may_copy(&self) -> bool {
        false
    }

    fn gather<'a>(
        &'a self,
        part: usize,
        first: usize,
        steps: Range<usize>,
        _: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    ) {
        assert_eq!(self.border, 0, "this image was rounded for a window, not for a linear layer");
        let segments = self.segments.max(1);
        let per_segment = self.steps / segments;
        let (mut step, mut segment) = (steps.start / segments, steps.start % segments);
        out.extend(steps.map(|_| -> &ATile {
            let plane = self.plane(part, segment * per_segment + step);
            segment += 1;
            if segment == segments {
                (step, segment) = (step + 1, 0);
            }
            plane[first..].first_chunk().expect("planes are whole tiles")
        }));
    }
}

/// A plane's pixels within its border.
#[derive(Clone, Copy)]
pub(crate) struct Inside {
    grid: [usize; 3],
    border: usize,
}

impl Inside {
    /// Pixels of all images.
    pub(crate) fn pixels(self) -> usize {
        self.grid.iter().product()
    }

    /// Lines of a plane.
    fn lines(self) -> usize {
        let [images, height, width] = self.grid;
        images * (height + 2 * self.border) * (width + 2 * self.border)
    }

    /// The pixel that stands in a line, unless that is a part of the border.
    #[inline(always)]
    fn pixel(self, line: usize) -> Option<usize> {
        let [_, height, width] = self.grid;
        let (padded_height, padded_width) = (height + 2 * self.border, width + 2 * self.border);
        let (row, x) = (line / padded_width, (line % padded_width).wrapping_sub(self.border));
        let (n, y) = (row / padded_height, (row % padded_height).wrapping_sub(self.border));
        (y < height && x < width).then(|| (n * height + y) * width + x)
    }

    /// The line of a pixel, which may stand in the border; `None` if it lies beyond that, or there is no such image.
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
struct Fill<'a, R> {
    source: &'a R,
    inside: Inside,
    channels: usize,
    parts: usize,
    /// The first of the lines.
    first: usize,
    planes: Vec<&'a mut [Line]>,
}

impl<R: RowSource> UnitOp for Fill<'_, R> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, s: S, unit: U) {
        let Fill { source, inside, channels, parts, first, mut planes } = self;
        let lines = planes.first().map_or(0, |plane| plane.len());
        let (high, low) = planes.split_at_mut(channels.div_ceil(STEP));
        debug_assert_eq!(low.len(), (parts - 1) * high.len());
        let mut room = vec![0.0; channels];
        for at in 0..lines {
            match inside.pixel(first + at) {
                Some(m) => split_rows(unit, &[source.row(s, m, &mut room)], (high, low), at),
                None => high.iter_mut().chain(&mut *low).for_each(|plane| plane[at] = Line::ZERO),
            }
        }
    }
}

/// Some rows of all planes, from parts of rows.
struct FillFromParts<'a, R> {
    a: &'a R,
    rows: Range<usize>,
    segments: usize,
    segment_len: usize,
    parts: usize,
    planes: Vec<&'a mut [Line]>,
}

impl<R: Rows> UnitOp for FillFromParts<'_, R> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd, U: Unit>(self, _: S, unit: U) {
        let FillFromParts { a, rows, segments, segment_len, parts, mut planes } = self;
        let steps = planes.len() / parts;
        let (high, low) = planes.split_at_mut(steps);
        let mut numbers: Vec<&[f32]> = Vec::with_capacity(rows.len());
        let per_segment = segment_len.div_ceil(STEP);
        for segment in 0..segments {
            for start in (0..segment_len).step_by(MAX_PART) {
                let range = start..segment_len.min(start + MAX_PART);
                let first = segment * per_segment + start / STEP;
                let steps = first..first + range.len().div_ceil(STEP);
                numbers.clear();
                let start = segment * segment_len + start;
                a.gather(rows.clone(), DepthRange { segment, start, range }, &mut numbers);
                let low = if low.is_empty() { &mut [] } else { &mut low[steps.clone()] };
                split_rows(unit, &numbers, (&mut high[steps], low), 0);
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
            let rounded = Rounded::new(isa, (Precision::Bf16, 1), grid, channels, &x);
            for (n, y, x_at) in
                (0..2).flat_map(|n| (-1..4).flat_map(move |y| (-1..6).map(move |x| (n, y, x))))
            {
                let line = rounded.inside().line(n, y, x_at).expect("within the border");
                let pixel =
                    ((0..3).contains(&y) && (0..5).contains(&x_at)).then(|| (n as isize * 3 + y) * 5 + x_at);
                for channel in 0..channels {
                    let expected = pixel.map_or(0.0, |m| x[[m as usize, channel]]);
                    assert_eq!(rounded.number(line, channel), expected, "{isa}: {n}, {y}, {x_at}, {channel}");
                }
                assert_eq!(rounded.number(line, 95), 0.0, "what a last step lacks is zero");
            }
            assert_eq!(rounded.inside().line(0, -2, 0), None);
            assert_eq!(rounded.inside().line(0, 0, 6), None);
        }
    }

    #[test]
    fn every_segment_of_a_row_begins_with_a_new_step() {
        let x = random([40, 3 * 50], 2);
        for isa in Isa::all_and_emulated() {
            let rounded = Rounded::of_rows(isa, Precision::Bf16x3, &Matrix::new(x.view()), 3..40, [3, 50]);
            assert_eq!(rounded.steps, 6);
            for (m, segment, k) in [(3, 0, 0), (39, 2, 49), (20, 1, 33)] {
                let (found, expected) = (rounded.number(m - 3, segment * 64 + k), x[[m, segment * 50 + k]]);
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs(),
                    "{isa}: {found}, expected {expected}"
                );
            }
        }
    }
}
