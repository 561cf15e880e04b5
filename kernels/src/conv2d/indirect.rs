//! The general form, any window in any precision: the matrix of all patches is never written; its
//! rows are read where they stand in the image.
//!
//! In a channels-last image the C channels under one tap of the window are contiguous. So a row of
//! the patch matrix is nothing but one pointer for each tap, and the matrix product can follow the
//! pointers: the *indirect convolution* of Dukhan, "The Indirect Convolution Algorithm" (2019,
//! arXiv:1907.02129). Rows in the padding point to zeros.
//!
//! Where that paper keeps a buffer with all pointers, this file computes them when a task needs
//! them: 240 at a time, for 240 × 320 × 256 multiplications. `indirect_tiles.rs` is the same for
//! images in bf16, with a pointer to each tile of 16 pixels.

use std::ops::Range;

use aquatint_tensor::{Tensor, View};

use super::{ConvWeights, Geometry};
use crate::Isa;
use crate::cpu::partition::row_major;
use crate::cpu::stored::Stored;
use crate::gemm::{self, DepthRange, Epilogue, Rows, ZEROS, blocked};

/// A convolution in f32 without a patch matrix; see [`conv2d`](super::conv2d()).
///
/// # Panics
/// As [`conv2d`](super::conv2d()); also if the weights are for bf16.
pub fn conv2d<T: Stored>(
    isa: Isa,
    x: View<'_, f32, 4>,
    w: &ConvWeights,
    geometry: Geometry,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    let [images, h, width, channels] = x.shape();
    w.check(channels, geometry.kernel_size);
    let [out_h, out_w] = geometry.output_or_panic([h, width]);
    let (rows, columns) = (images * out_h * out_w, w.out_channels());
    let mut out = Tensor::recycled([images, out_h, out_w, columns]);
    let x = row_major(x);
    let a = PatchRows::new(&x, [h, width, channels], geometry);
    blocked::product(isa, &a, &w.packed, &epilogue, gemm::rows_of(out.as_mut_slice(), rows, columns));
    out
}

/// The patch matrix, as pointers into the image. Row m is output pixel (n, y, x); segment s is tap
/// (i, j).
pub(crate) struct PatchRows<'x> {
    x: &'x [f32],
    input: [usize; 2],
    channels: usize,
    output: [usize; 2],
    geometry: Geometry,
}

impl<'x> PatchRows<'x> {
    /// Of images of `[h, w, channels]`, one behind the other in `x`.
    pub(crate) fn new(x: &'x [f32], [h, w, channels]: [usize; 3], geometry: Geometry) -> Self {
        Self { x, input: [h, w], channels, output: geometry.output_or_panic([h, w]), geometry }
    }
}

impl Rows for PatchRows<'_> {
    fn gather<'a>(&'a self, rows: Range<usize>, depth: DepthRange, out: &mut Vec<&'a [f32]>) {
        let ([h, w], [out_h, out_w]) = (self.input, self.output);
        let kernel_w = self.geometry.kernel_size[1];
        let (i, j) = (depth.segment / kernel_w, depth.segment % kernel_w);
        let (mut n, mut y, mut x) =
            (rows.start / (out_h * out_w), rows.start / out_w % out_h, rows.start % out_w);
        for _ in rows {
            let source = (self.geometry.source(0, y, i, h), self.geometry.source(1, x, j, w));
            out.push(match source {
                (Some(iy), Some(ix)) => {
                    &self.x[((n * h + iy) * w + ix) * self.channels..][depth.range.clone()]
                }
                _ => &ZEROS[..depth.range.len()],
            });
            x += 1;
            if x == out_w {
                (y, x) = (y + 1, 0);
            }
            if y == out_h {
                (n, y) = (n + 1, 0);
            }
        }
    }
}
