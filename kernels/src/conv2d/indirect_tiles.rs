//! The same in bf16: images are packed as [`PackedA`], and for each tap a task finds the tile that
//! holds what 16 output pixels see.
//!
//! With stride 1, 16 output pixels of a row see 16 neighbours in a row of the input, and planes
//! hold neighbours one behind the other: the tile is there already, whatever the tap, as long as
//! the border is as wide as the window reaches. All that is left of the convolution is a list of
//! addresses. Where the 16 are no neighbours, at the end of a row that is no multiple of 16 or with
//! another stride, their lines are copied together, by each task that needs them.
//!
//! In an image that is narrower than a tile no 16 pixels are neighbours, and a network is deepest
//! where its images are that small: every task would copy nearly as much as it multiplies. So such
//! an image is copied once, for each column of the window as that column sees it, without what the
//! border adds to a row (`ColumnCopies`). There 16 output pixels see neighbours again, in one row
//! or in several.

use std::ops::Range;
use std::slice::IterMut;

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::{ConvWeights, Geometry, Padding};
use crate::cpu::partition::row_major;
use crate::cpu::stored::Stored;
use crate::cpu::tile::{ATile, AlignedBuffer, TILE_M, TileRow};
use crate::gemm::a::packed::{PackedA, PlaneLayout, TileSource};
use crate::gemm::{self, ChannelStats, Epilogue, Matrix, Output, tiled};
use crate::packed_input::Input;
use crate::{Isa, Precision};

/// A convolution in bf16; see [`conv2d`](super::conv2d()).
///
/// # Panics
/// As [`conv2d`](super::conv2d()); also if the weights are for f32.
pub fn conv2d<'a, T: Stored>(
    isa: Isa,
    x: impl Into<Input<'a, 4>>,
    w: &ConvWeights,
    geometry: Geometry,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    conv2d_to(isa, x.into(), w, geometry, (epilogue, None))
}

/// [`conv2d`], which adds the statistics of what it stores to `stats`.
pub(super) fn conv2d_to<T: Stored>(
    isa: Isa,
    x: Input<'_, 4>,
    w: &ConvWeights,
    geometry: Geometry,
    (epilogue, stats): (Epilogue<'_, T>, Option<&mut ChannelStats>),
) -> Tensor<T, 4> {
    let [images, h, width, channels] = x.shape();
    w.check(channels, geometry.kernel_size);
    let [out_h, out_w] = geometry.output_or_panic([h, width]);
    let mut out = Tensor::recycled([images, out_h, out_w, w.out_channels()]);
    let rows = gemm::rows_of(out.as_mut_slice(), images * out_h * out_w, w.out_channels());
    let packed;
    let x = match x {
        Input::F32(x) => {
            packed = pack_image(isa, x, w.precision(), geometry);
            &packed
        }
        Input::F16(x) => {
            packed = pack_image(isa, x, w.precision(), geometry);
            &packed
        }
        Input::Packed(_, x) => {
            let (found, expected) = (x.layout().grid(), [images, h, width]);
            assert!(
                found == expected || geometry == Geometry::same(1),
                "an image of {expected:?} was rounded as {found:?}"
            );
            x
        }
    };
    let a = IndirectTiles::new(x, geometry);
    tiled::product_packed(isa, &a, &w.packed, &epilogue, Output { rows, stats });
    out
}

/// An image in the form in which [`IndirectTiles`] reads it.
pub(crate) fn pack_image<T: Stored>(
    isa: Isa,
    x: View<'_, T, 4>,
    precision: Precision,
    geometry: Geometry,
) -> PackedA {
    let [images, h, width, channels] = x.shape();
    let border = usize::from(geometry.padding != Padding::default());
    let x = row_major(x);
    let source = Matrix::new(View::from_slice([images * h * width, channels], &x));
    PackedA::new(isa, (precision, border), [images, h, width], channels, &source)
}

/// The patch matrix in tiles. Row m is output pixel (n, y, x); the k-steps are the taps of the
/// first 32 channels, then those of the next 32.
pub(crate) struct IndirectTiles<'a> {
    x: &'a PackedA,
    layout: PlaneLayout,
    output: [usize; 2],
    geometry: Geometry,
    taps: Vec<Tap>,
    /// Whether no window reaches beyond the border: then a tap is an offset, for all pixels the
    /// same.
    bordered: bool,
    /// If it is narrower than a tile.
    columns: Option<ColumnCopies>,
}

/// A tap of the window.
struct Tap {
    position: [usize; 2],
    /// The line that a pixel sees under it, counted from the one under the first tap, where both
    /// lie within the border.
    offset: usize,
}

/// Where the 16 input pixels of 16 output pixels are.
enum TileLocation<'a> {
    /// Under the first tap: this line and the next 15.
    Contiguous(usize),
    /// Under the first tap: these lines.
    Scattered([usize; TILE_M]),
    /// In the copy of each column, under its first tap: this line and the next 15.
    InColumnCopies(&'a ColumnCopies, usize),
    /// Some taps reach beyond the border: found pixel by pixel.
    PerPixel,
}

/// A narrow image as each column of the window sees it:
/// `[term][step][column][image][rows][output width]`, a line each. The `rows` of an image are those
/// that the first row of the window sees, and as many more as it reaches down.
struct ColumnCopies {
    lines: AlignedBuffer,
    k_steps: usize,
    /// How many columns there are.
    count: usize,
    /// Lines of an image.
    image: usize,
    /// Lines of all images.
    pitch: usize,
}

impl ColumnCopies {
    /// What a column sees of a plane.
    #[inline(always)]
    fn plane(&self, term: usize, step: usize, column: usize) -> &[TileRow] {
        &self.lines[((term * self.k_steps + step) * self.count + column) * self.pitch..][..self.pitch]
    }
}

impl<'a> IndirectTiles<'a> {
    pub(crate) fn new(x: &'a PackedA, geometry: Geometry) -> Self {
        let (layout, [kernel_h, kernel_w]) = (x.layout(), geometry.kernel_size);
        let [_, height, width] = layout.grid();
        let output = geometry.output_or_panic([height, width]);
        let tap = |tap: usize| {
            let (position, [down, right]) = ([tap / kernel_w, tap % kernel_w], geometry.dilation);
            Tap { position, offset: position[0] * down * layout.row() + position[1] * right }
        };
        let taps = (0..kernel_h * kernel_w).map(tap).collect();
        let tiles = Self { x, layout, output, geometry, taps, bordered: false, columns: None };
        let last = (output[0] * output[1]).saturating_sub(1);
        let corners = [tiles.line(0, [0, 0]), tiles.line(last, [kernel_h - 1, kernel_w - 1])];
        let tiles = Self { bordered: corners.iter().all(Option::is_some), ..tiles };
        let narrow = tiles.bordered && geometry.stride == [1, 1] && output[1] < TILE_M;
        Self { columns: narrow.then(|| tiles.copy_columns()), ..tiles }
    }

    /// The columns of an image that is seen with stride 1 and nowhere beyond its border.
    fn copy_columns(&self) -> ColumnCopies {
        let Geometry { kernel_size: [kernel_h, count], padding, dilation: [down, right], .. } = self.geometry;
        let ([images, ..], [out_h, out_w]) = (self.layout.grid(), self.output);
        let rows = out_h + (kernel_h - 1) * down;
        let (image, pitch) = (rows * out_w, images * rows * out_w);
        let k_steps = self.x.k_steps();
        let mut lines = AlignedBuffer::recycled(self.precision().terms() * k_steps * count * pitch);
        lines.par_chunks_mut(pitch).enumerate().for_each(|(at, seen)| {
            let (term, step, column) = (at / count / k_steps, at / count % k_steps, at % count);
            let plane = self.x.plane(term, step);
            let x = (column * right) as isize - padding.left as isize;
            for (row, seen) in seen.chunks_exact_mut(out_w).enumerate() {
                let (n, y) = (row / rows, (row % rows) as isize - padding.top as isize);
                let first = self.layout.line(n, y, x).expect("no window reaches beyond the border");
                seen.copy_from_slice(&plane[first..][..out_w]);
            }
        });
        ColumnCopies { lines, k_steps, count, image, pitch }
    }

    /// The line that output pixel m sees under a tap, unless it lies behind the border.
    #[inline(always)]
    fn line(&self, m: usize, tap: [usize; 2]) -> Option<usize> {
        let [out_h, out_w] = self.output;
        let Geometry { stride, padding, dilation, .. } = self.geometry;
        let (n, y, x) = (m / (out_h * out_w), m / out_w % out_h, m % out_w);
        let source = |axis: usize, position: usize, before: usize| {
            (position * stride[axis] + tap[axis] * dilation[axis]) as isize - before as isize
        };
        self.layout.line(n, source(0, y, padding.top), source(1, x, padding.left))
    }

    /// What the 16 output pixels from `first` on see.
    #[inline(always)]
    fn location(&self, first: usize) -> TileLocation<'_> {
        if !self.bordered {
            return TileLocation::PerPixel;
        }
        let pixels = self.output[0] * self.output[1];
        if let Some(columns) = self.columns.as_ref().filter(|_| first % pixels + TILE_M <= pixels) {
            return TileLocation::InColumnCopies(columns, first / pixels * columns.image + first % pixels);
        }
        // PatchRows behind the last image may see anything.
        let line = |m: usize| self.line(m, [0, 0]).unwrap_or(0);
        let ([_, out_w], stride) = (self.output, self.geometry.stride);
        if stride == [1, 1] && first % out_w + TILE_M <= out_w {
            return TileLocation::Contiguous(line(first));
        }
        // Within a row of the output, the next pixel is a stride further on.
        let (mut next, mut x) = (line(first), first % out_w);
        TileLocation::Scattered(std::array::from_fn(|i| {
            let this = next;
            x += 1;
            next += stride[1];
            if x == out_w {
                (x, next) = (0, line(first + i + 1));
            }
            this
        }))
    }
}

impl TileSource for IndirectTiles<'_> {
    fn precision(&self) -> Precision {
        self.x.precision()
    }

    fn may_copy(&self) -> bool {
        let row = if self.columns.is_some() { self.output[0] * self.output[1] } else { self.output[1] };
        !self.bordered || self.geometry.stride != [1, 1] || !row.is_multiple_of(TILE_M)
    }

    fn gather<'a>(
        &'a self,
        term: usize,
        first: usize,
        k_steps: Range<usize>,
        copies: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    ) {
        let location = self.location(first);
        let taps = self.taps.len();
        for plane in k_steps.start / taps..k_steps.end.div_ceil(taps) {
            let of_plane = |step: usize| step.saturating_sub(plane * taps).min(taps);
            let lines = self.x.plane(term, plane);
            out.extend(self.taps[of_plane(k_steps.start)..of_plane(k_steps.end)].iter().map(
                |tap| -> &ATile {
                    let &Tap { position, offset } = tap;
                    let mut tile = || copies.next().expect("room for every tile of a block");
                    match &location {
                        TileLocation::Contiguous(line) => {
                            lines[line + offset..].first_chunk().expect("16 lines within a row of the image")
                        }
                        TileLocation::InColumnCopies(columns, line) => {
                            let [row, column] = position;
                            let line = line + row * self.geometry.dilation[0] * self.output[1];
                            let seen = columns.plane(term, plane, column);
                            seen[line..].first_chunk().expect("16 lines within an image")
                        }
                        TileLocation::Scattered(at) => gather_rows(tile(), lines, |i| Some(at[i] + offset)),
                        TileLocation::PerPixel => {
                            gather_rows(tile(), lines, |i| self.line(first + i, position))
                        }
                    }
                },
            ));
        }
    }
}

/// A tile of the lines at `at(0)`, `at(1)`, … of a plane; where there is none, it is zero.
#[inline(always)]
fn gather_rows<'a>(tile: &'a mut ATile, plane: &[TileRow], at: impl Fn(usize) -> Option<usize>) -> &'a ATile {
    for (i, copy) in tile.iter_mut().enumerate() {
        *copy = at(i).map_or(TileRow::ZERO, |line| plane[line]);
    }
    tile
}
