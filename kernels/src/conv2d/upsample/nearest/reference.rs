//! The definition of nearest-neighbour resizing.

use aquatint_tensor::{Tensor, View};

use super::{check, source};

/// See [`nearest`](super::nearest()).
///
/// # Panics
/// As [`nearest`](super::nearest()).
pub fn nearest(x: View<'_, f32, 4>, size: [usize; 2]) -> Tensor<f32, 4> {
    check(x.shape(), size);
    let [images, height, width, channels] = x.shape();
    Tensor::from_fn([images, size[0], size[1], channels], |[image, row, column, c]| {
        x.at([image, source(row, height, size[0]), source(column, width, size[1]), c])
    })
}
