//! The definition: nearest-neighbour doubling, then a 3×3 convolution, each as its own reference
//! has it.

use aquatint_tensor::{Element, Tensor, View};

use super::nearest;
use crate::conv2d::{self, Geometry};

/// See [`upsample_conv`](super::upsample_conv()); `w: [out_channels, in_channels, 3, 3]`.
///
/// # Panics
/// As [`upsample_conv`](super::upsample_conv()).
pub fn upsample_conv<T: Element>(x: View<'_, f32, 4>, w: View<'_, T, 4>) -> Tensor<f32, 4> {
    let [_, height, width, _] = x.shape();
    let doubled = nearest::reference::nearest(x, [2 * height, 2 * width]);
    conv2d::reference::conv2d(doubled.view(), w, Geometry::same(3), 1)
}
