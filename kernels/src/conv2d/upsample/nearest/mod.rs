//! Nearest-neighbour resizing: `out[y, x] = in[⌊y·h/h'⌋, ⌊x·w/w'⌋]`. Doubled, each pixel becomes a
//! square of four:
//!
//! ```text
//!  1  2  3  4          1  1  2  2  3  3  4  4
//!  5  6  7  8          1  1  2  2  3  3  4  4
//!  9 10 11 12    →     5  5  6  6  7  7  8  8
//! 13 14 15 16          5  5  6  6  7  7  8  8
//!                      9  9 10 10 11 11 12 12   …
//! ```
//!
//! It has no weights: the convolution that follows each upsampling in the UNet and the VAE learns
//! to smooth the steps.
//!
//! | step | idea |
//! |---|---|
//! | [`mod@reference`] | the formula |
//! | [`row_copy`] | whole pixels copied, output rows on all cores |

use aquatint_tensor::{Tensor, View};

use crate::Isa;

pub mod reference;
pub mod row_copy;

/// Each pixel becomes a square of 2×2. `x: [n, h, w, c]` → `[n, 2h, 2w, c]`.
///
/// ```
/// # use aquatint_kernels::{Isa, conv2d::upsample::nearest_2x};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 1, 2, 1], vec![1.0, 2.0]);
/// let y = nearest_2x(Isa::best(), x.view());
/// assert_eq!(y.shape(), [1, 2, 4, 1]);
/// assert_eq!(y.as_slice(), [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
/// ```
pub fn nearest_2x(isa: Isa, x: View<'_, f32, 4>) -> Tensor<f32, 4> {
    let [_, height, width, _] = x.shape();
    nearest(isa, x, [2 * height, 2 * width])
}

/// `out[n, y, x, c] = in[n, ⌊y·h/h'⌋, ⌊x·w/w'⌋, c]`. `x: [n, h, w, c]` and `size: [h', w']` →
/// `[n, h', w', c]`.
///
/// As `torch.nn.functional.interpolate(x, size=size)`. The UNet needs a size other than the double
/// where an odd one was halved on the way down. The instruction set does not matter to a copy; it
/// is asked for as by every kernel.
///
/// ```
/// # use aquatint_kernels::{Isa, conv2d::upsample::nearest};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 1, 3, 1], vec![1.0, 2.0, 3.0]);
/// let y = nearest(Isa::best(), x.view(), [1, 5]); // ⌊0⌋, ⌊0.6⌋, ⌊1.2⌋, ⌊1.8⌋, ⌊2.4⌋
/// assert_eq!(y.as_slice(), [1.0, 1.0, 2.0, 2.0, 3.0]);
/// ```
///
/// # Panics
/// If pixels are asked for from an image that has none.
pub fn nearest(_isa: Isa, x: View<'_, f32, 4>, size: [usize; 2]) -> Tensor<f32, 4> {
    row_copy::nearest(x, size)
}

/// The input index that output index `i` shows: `⌊i·(input/output)⌋`, with the ratio rounded to f32
/// first as PyTorch does (`nearest_neighbor_compute_source_index` in ATen's UpSample.h), which
/// decides the ties.
fn source(i: usize, input: usize, output: usize) -> usize {
    // Equal and doubled sizes are exact in PyTorch too, for images of any size.
    if output == input {
        i
    } else if output == 2 * input {
        i / 2
    } else {
        let ratio = input as f32 / output as f32;
        ((i as f32 * ratio) as usize).min(input - 1)
    }
}

fn check([_, height, width, _]: [usize; 4], size: [usize; 2]) {
    assert!(
        size[0] * size[1] == 0 || height * width > 0,
        "cannot make {} × {} pixels out of {height} × {width}",
        size[0],
        size[1]
    );
}

#[cfg(test)]
mod tests;
