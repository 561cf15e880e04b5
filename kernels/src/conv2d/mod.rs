//! Two-dimensional convolution: a small window of weights slides over an image, and each position gives one pixel.
//!
//! | step | idea | AVX-512 | AVX2 | portable |
//! |---|---|---|---|---|
//! | [`mod@reference`] | seven loops, sums in `f64`, stride, padding, dilation and groups: the definition | | | |
//! | [`im2col`] | write each patch as a row of a matrix; then one matrix product does it all | 286, 52 % | 191, 71 % | 80, 65 % |
//! | [`indirect`] | the same product, but the rows stay where they are in the image: nothing is written | 506, 92 % | 261, 97 % | 90, 73 % |
//!
//! GFLOP/s and share of the peak (`benches/benches/peak.rs`) on two cores of an AMD EPYC (Zen 5), 3×3, 640 → 640 channels,
//! two images of 32×32: `cargo bench -p aquatint-benches --bench conv2d -- "3x3 640-640 @32 s1"`.
//!
//! Images are channels-last, `[n, h, w, c]`, so that the channels of a pixel are neighbours in memory: under each tap of
//! the window, a row of the product is a contiguous piece of the input. A 1×1 convolution is a plain matrix
//! product over the pixels.
//!
//! Read next: [`Geometry`] (how the output gets its size), then the three files in the order of the table; `windows.rs` for bf16.

mod geometry;
pub mod im2col;
pub mod indirect;
pub mod reference;
mod weights;
pub(crate) mod windows;

use aquatint_tensor::Tensor;

pub use geometry::{Geometry, Padding, output_size};
pub use weights::Weights;

use crate::Isa;
use crate::gemm::Epilogue;
use crate::operand::Input;

/// `out[n, y, x, o] = epilogue(Σ_{i, j, c} x[n, y·s + i·d − p, x·s + j·d − p, c] · w[o, c, i, j])`
///
/// `x: [n, h, w, in_channels]` → `[n, h', w', out_channels]`, with h' and w' from [`output_size`]. As `torch.nn.Conv2d`
/// with one group, but channels-last. An image that was rounded before must have been for the precision of the weights.
///
/// ```
/// # use aquatint_kernels::{Isa, conv2d::{Geometry, Weights, conv2d}, gemm::Epilogue};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 1, 3, 1], vec![1.0, 2.0, 3.0]);
/// let w = Weights::pack(Tensor::full([1, 1, 3, 3], 1.0f32).view()); // sums its neighbourhood
/// let y = conv2d(Isa::best(), x.view(), &w, Geometry::same(3), Epilogue::default());
/// assert_eq!(y.as_slice(), [3.0, 6.0, 5.0]);
/// ```
///
/// # Panics
/// If the channels of input and weights differ, the kernel is larger than the padded input, or a term of the epilogue
/// does not fit.
pub fn conv2d<'a>(
    isa: Isa,
    x: impl Into<Input<'a, 4>>,
    w: &Weights,
    geometry: Geometry,
    epilogue: Epilogue<'_>,
) -> Tensor<f32, 4> {
    indirect::conv2d(isa, x, w, geometry, epilogue)
}

#[cfg(test)]
mod tests;
