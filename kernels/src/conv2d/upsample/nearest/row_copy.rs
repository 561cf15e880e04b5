//! One output row per task, a pixel at a time: with channels last, a pixel is one contiguous copy.

use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

use super::{check, source};
use crate::cpu::partition::row_major;

/// See [`nearest`](super::nearest()).
///
/// # Panics
/// As [`nearest`](super::nearest()).
pub fn nearest(x: View<'_, f32, 4>, size: [usize; 2]) -> Tensor<f32, 4> {
    check(x.shape(), size);
    let [images, height, width, channels] = x.shape();
    let mut out = Tensor::recycled([images, size[0], size[1], channels]);
    if out.is_empty() {
        return out;
    }
    let x = row_major(x);
    let columns: Vec<usize> = (0..size[1]).map(|column| source(column, width, size[1])).collect();
    out.as_mut_slice().par_chunks_mut(size[1] * channels).enumerate().for_each(|(i, out)| {
        let (image, row) = (i / size[0], source(i % size[0], height, size[0]));
        let x = &x[(image * height + row) * width * channels..][..width * channels];
        for (pixel, &column) in out.chunks_exact_mut(channels).zip(&columns) {
            pixel.copy_from_slice(&x[column * channels..][..channels]);
        }
    });
    out
}
