//! Image to columns: each patch of the input becomes a row of a matrix, and the convolution one
//! matrix product.
//!
//! The idea that made convolutions fast on hardware that was built for matrices (Chellapilla, Puri
//! and Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006). The
//! price: a 3×3 window writes every pixel nine times. At 512×512 with 128 channels in `f32` that is
//! 1.2 GB for a single layer.

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::{ConvWeights, Geometry};
use crate::Isa;
use crate::gemm::{self, Epilogue, Matrix};

/// A convolution by way of the matrix of all patches; see [`conv2d`](super::conv2d()).
///
/// # Panics
/// As [`conv2d`](super::conv2d()).
pub fn conv2d(
    isa: Isa,
    x: View<'_, f32, 4>,
    w: &ConvWeights,
    geometry: Geometry,
    epilogue: Epilogue<'_>,
) -> Tensor<f32, 4> {
    let [images, h, width, channels] = x.shape();
    w.check(channels, geometry.kernel_size);
    let [out_h, out_w] = geometry.output_or_panic([h, width]);
    let patches = patches(x, geometry);
    let [rows, _] = patches.shape();
    let mut out = Tensor::recycled([images, out_h, out_w, w.out_channels()]);
    gemm::product(isa, rows, &Matrix::new(patches.view()), &w.packed, &epilogue, out.as_mut_slice());
    out
}

/// All patches as rows: `[n, h, w, c]` → `[n·h'·w', kernel_h·kernel_w·c]`.
pub fn patches(x: View<'_, f32, 4>, geometry: Geometry) -> Tensor<f32, 2> {
    let [images, h, width, channels] = x.shape();
    let [kernel_h, kernel_w] = geometry.kernel_size;
    let [out_h, out_w] = geometry.output_or_panic([h, width]);
    let columns = kernel_h * kernel_w * channels;
    let mut out = Tensor::zeros([images * out_h * out_w, columns]);
    if columns == 0 {
        return out;
    }
    out.as_mut_slice().par_chunks_exact_mut(columns).enumerate().for_each(|(m, patch)| {
        let (n, oy, ox) = (m / (out_h * out_w), m / out_w % out_h, m % out_w);
        for (tap, pixel) in patch.chunks_exact_mut(channels).enumerate() {
            let (i, j) = (tap / kernel_w, tap % kernel_w);
            if let (Some(iy), Some(ix)) = (geometry.source(0, oy, i, h), geometry.source(1, ox, j, width)) {
                for (c, value) in pixel.iter_mut().enumerate() {
                    *value = x.at([n, iy, ix, c]);
                }
            }
        }
    });
    out
}
