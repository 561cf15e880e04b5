//! Two-dimensional convolution: a window of weights slides over an image, a pixel per position.
//!
//! | step | idea | AVX-512 | AVX2 | portable |
//! |---|---|---|---|---|
//! | [`mod@reference`] | seven loops, sums in `f64`, stride, padding, dilation and groups: the definition | | | |
//! | [`im2col`] | write each patch as a row of a matrix; then one matrix product does it all | 286, 52 % | 191, 71 % | 80, 65 % |
//! | [`indirect`] | the same product, but the rows stay where they are in the image: nothing is written | 506, 92 % | 261, 97 % | 90, 73 % |
//! | [`indirect_tiles`] | the same in bf16: a pointer to each tile of 16 pixels, for a tile unit | | | |
//! | [`winograd`] | 3×3: 36 products of sums for 16 outputs, where the definition has 144; the speed is that of its 144 | 2.8 × `indirect` | | |
//! | [`narrow`] | few output channels: dot products along those of the input, where the others compute 32 columns | | | |
//!
//! GFLOP/s and share of the peak (`benches/benches/peak.rs`) on two cores of an AMD EPYC (Zen 5),
//! 3×3, 640 → 640 channels, two images of 32×32: `cargo bench -p aquatint-benches --bench conv2d --
//! "3x3 640-640 @32 s1"`. The last row was measured on one core of Zen 4, alternating with
//! `indirect`: its GFLOP/s are *effective* and exceed the peak.
//!
//! Images are channels-last, `[n, h, w, c]`, so that the channels of a pixel are neighbours in
//! memory: under each tap, a row of the product is a contiguous piece of the input. Read next:
//! [`Geometry`] (how the output gets its size), then the files in the order of the table.

mod geometry;
pub mod im2col;
pub mod indirect;
pub mod indirect_tiles;
pub mod narrow;
pub mod reference;
pub mod upsample;
mod weights;
pub mod winograd;

use aquatint_tensor::{Tensor, View, f16};

pub use geometry::{Geometry, Padding, output_size};
pub use weights::ConvWeights;

use crate::cpu::partition::row_major;
use crate::cpu::stored::Stored;
use crate::gemm::{ChannelStats, Epilogue};
use crate::packed_input::Input;
use crate::{Isa, Precision};

/// `out[n, y, x, o] = epilogue(Σ_{i, j, c} x[n, y·s + i·d − p, x·s + j·d − p, c] · w[o, c, i, j])`
///
/// `x: [n, h, w, in_channels]` → `[n, h', w', out_channels]`, with h' and w' from [`output_size`].
/// As `torch.nn.Conv2d` with one group, but channels-last. An image that was rounded before must
/// have been for the precision of the weights.
///
/// ```
/// # use aquatint_kernels::{Isa, conv2d::{Geometry, ConvWeights, conv2d}, gemm::Epilogue};
/// # use aquatint_tensor::{Tensor, View, f16};
/// let x = Tensor::from_vec([1, 1, 3, 1], vec![1.0, 2.0, 3.0]);
/// let w = ConvWeights::pack(Tensor::full([1, 1, 3, 3], 1.0f32).view()); // sums its neighbourhood
/// let y = conv2d(Isa::best(), x.view(), &w, Geometry::same(3), Epilogue::default());
/// assert_eq!(y.as_slice(), [3.0, 6.0, 5.0]);
/// ```
///
/// # Panics
/// If the channels of input and weights differ, the kernel is larger than the padded input, or a
/// term of the epilogue does not fit.
pub fn conv2d<'a, T: Stored>(
    isa: Isa,
    x: impl Into<Input<'a, 4>>,
    w: &ConvWeights,
    geometry: Geometry,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, 4> {
    fastest_form(isa, x.into(), w, geometry, (epilogue, None))
}

/// [`conv2d()`], with the statistics of the channels of each image, for the group norm behind it;
/// none in the cases of [`linear_with_stats`](crate::linear::linear_with_stats).
///
/// # Panics
/// As [`conv2d()`].
pub fn conv2d_with_stats<'a, T: Stored>(
    isa: Isa,
    x: impl Into<Input<'a, 4>>,
    w: &ConvWeights,
    geometry: Geometry,
    epilogue: Epilogue<'_, T>,
) -> (Tensor<T, 4>, Option<ChannelStats>) {
    let x = x.into();
    let mut stats = ChannelStats::new(x.shape()[0]);
    let y = fastest_form(isa, x, w, geometry, (epilogue, Some(&mut stats)));
    (y, stats.if_any())
}

/// The last step of the ladder that can be had: in f32 [`winograd`] or [`indirect`], in bf16
/// [`indirect_tiles`].
fn fastest_form<T: Stored>(
    isa: Isa,
    x: Input<'_, 4>,
    w: &ConvWeights,
    geometry: Geometry,
    (epilogue, stats): (Epilogue<'_, T>, Option<&mut ChannelStats>),
) -> Tensor<T, 4> {
    match (w.precision(), x) {
        (Precision::F32, Input::F32(x)) if wants_winograd(x.shape(), Precision::F32, geometry) => {
            winograd::conv2d(isa, x, w, geometry, epilogue)
        }
        (Precision::F32, Input::F32(x)) => indirect::conv2d(isa, x, w, geometry, epilogue),
        (Precision::F32, Input::F16(x)) => {
            let wide = f16::widen_all(isa, row_major(x));
            indirect::conv2d(isa, View::from_slice(x.shape(), &wide), w, geometry, epilogue)
        }
        (_, x) => indirect_tiles::conv2d_to(isa, x, w, geometry, (epilogue, stats)),
    }
}

/// Whether [`winograd`] is the faster form, of those that [can](winograd::can) be had so.
///
/// Winograd wins except on tiny images or few channels, where too few tiles share the weight
/// transform (as costly as 32 pixels). Time over that of [`indirect`], AVX-512, one core of an
/// AMD EPYC (Zen 4), one image (of 4 channels two):
///
/// | 320 channels @16 | 640 @9 | 1280 @8 | 1280 @4 | 32 @16 | 16 @64 | 4 → 320 @64 | 64 → 3 @256 |
/// |---|---|---|---|---|---|---|---|
/// | 0.41 | 0.90 | 0.63 | 1.5 | 0.42 | 0.47 | 0.97 | 0.59 |
///
/// The number of images is left out on purpose: a picture has the same bits alone and in a batch.
pub fn wants_winograd([_, h, width, channels]: [usize; 4], precision: Precision, geometry: Geometry) -> bool {
    let tiles = h.div_ceil(winograd::OUT) * width.div_ceil(winograd::OUT);
    winograd::can(precision, geometry) && channels >= 16 && 4 * tiles + 32 <= h * width
}

#[cfg(test)]
mod tests;
