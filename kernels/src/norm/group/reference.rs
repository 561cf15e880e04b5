//! The definition of group normalisation, with sums in `f64`.

use aquatint_tensor::{Tensor, View};

use super::{Activation, GroupNorm};
use crate::activation::reference::silu;

/// See [`group_norm`](super::group_norm()).
///
/// # Panics
/// As [`group_norm`](super::group_norm()).
pub fn group_norm(x: View<'_, f32, 4>, norm: GroupNorm<'_>) -> Tensor<f32, 4> {
    let [images, height, width, channels] = x.shape();
    norm.check(channels);
    let group_size = channels / norm.num_groups;
    let mut out = Tensor::zeros([images, height, width, channels]);
    for image in 0..images {
        for group in 0..norm.num_groups {
            let members = group * group_size..(group + 1) * group_size;
            let values = || x.slice(0, image..image + 1).slice(3, members.clone()).iter().map(f64::from);

            let count = (height * width * group_size) as f64;
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / count;

            for row in 0..height {
                for column in 0..width {
                    for c in members.clone() {
                        let index = [image, row, column, c];
                        let normal =
                            (f64::from(x.at(index)) - mean) / (variance + f64::from(norm.eps)).sqrt();
                        let y = normal * f64::from(norm.weight[c]) + f64::from(norm.bias[c]);
                        out[index] = match norm.activation {
                            Activation::None => y,
                            Activation::Silu => silu(y),
                        } as f32;
                    }
                }
            }
        }
    }
    out
}
