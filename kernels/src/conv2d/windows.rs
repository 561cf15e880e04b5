//! The same rule for images that were [`Rounded`]: where does a tile stand that holds what 16 output pixels see under a tap?
//!
//! With stride 1, 16 output pixels of a row see 16 neighbours in a row of the input, and planes hold neighbours one behind the other: the
//! tile is there already, whatever the tap, as long as the border is as wide as the window reaches. All that is left of the convolution
//! is a list of addresses. Where the 16 are no neighbours, at the end of a row that is no multiple of 16 or with another stride, their lines are
//! copied together.

use std::ops::Range;
use std::slice::IterMut;

use super::Geometry;
use crate::Precision;
use crate::gemm::bf16::rounded::{Inside, Rounded, Tiles};
use crate::gemm::bf16::{ATile, Line, TILE};

/// The patch matrix in tiles. Row m is output pixel (n, y, x); the steps are those of tap (0, 0), then of tap (0, 1), and so on.
pub(crate) struct Windows<'a> {
    x: &'a Rounded,
    inside: Inside,
    output: [usize; 2],
    geometry: Geometry,
}

impl<'a> Windows<'a> {
    pub(crate) fn new(x: &'a Rounded, geometry: Geometry) -> Self {
        let inside = x.inside();
        Self { x, inside, output: geometry.output_or_panic(inside.size()), geometry }
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
        self.inside.line(n, source(0, y, padding.top), source(1, x, padding.left))
    }

    /// The first line of the tile at output pixel `first`, if its 16 lines are neighbours.
    #[inline(always)]
    fn neighbours(&self, first: usize, tap: [usize; 2]) -> Option<usize> {
        let in_a_row = self.geometry.stride == [1, 1] && first % self.output[1] + TILE <= self.output[1];
        let line = self.line(first, tap).filter(|_| in_a_row)?;
        self.line(first + TILE - 1, tap).map(|_| line)
    }
}

impl Tiles for Windows<'_> {
    fn precision(&self) -> Precision {
        self.x.precision()
    }

    fn may_copy(&self) -> bool {
        let [kernel_h, kernel_w] = self.geometry.kernel_size;
        let [out_h, out_w] = self.output;
        // If the corners of an image find their neighbours under all corners of the window, everything else does.
        let corners = [0, (out_h * out_w).saturating_sub(TILE)];
        let taps = [[0, 0], [0, kernel_w - 1], [kernel_h - 1, 0], [kernel_h - 1, kernel_w - 1]];
        !out_w.is_multiple_of(TILE)
            || corners.iter().any(|&first| taps.iter().any(|&tap| self.neighbours(first, tap).is_none()))
    }

    fn gather<'a>(
        &'a self,
        part: usize,
        first: usize,
        steps: Range<usize>,
        room: &mut IterMut<'a, ATile>,
        out: &mut Vec<&'a ATile>,
    ) {
        let (per_tap, kernel_w) = (self.x.steps(), self.geometry.kernel_size[1]);
        let mut step = steps.start;
        while step < steps.end {
            let (tap, plane) = (step / per_tap, step % per_tap);
            let tap = [tap / kernel_w, tap % kernel_w];
            let planes = plane..per_tap.min(plane + steps.end - step);
            step += planes.len();
            let planes = planes.map(|plane| self.x.plane(part, plane));
            match self.neighbours(first, tap) {
                Some(line) => out.extend(planes.map(|plane| -> &ATile {
                    plane[line..].first_chunk().expect("16 lines within a row of the image")
                })),
                None => {
                    let lines: [_; TILE] = std::array::from_fn(|i| self.line(first + i, tap));
                    out.extend(planes.map(|plane| -> &ATile {
                        let tile = room.next().expect("room for every tile of a block");
                        for (copy, line) in tile.iter_mut().zip(lines) {
                            *copy = line.map_or(Line::ZERO, |line| plane[line]);
                        }
                        tile
                    }));
                }
            }
        }
    }
}
