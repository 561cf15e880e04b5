//! The definition of layer normalisation, with sums in `f64`.

use aquatint_tensor::{Tensor, View};

use super::check;

/// See [`layer_norm`](super::layer_norm()).
///
/// # Panics
/// As [`layer_norm`](super::layer_norm()).
pub fn layer_norm<const N: usize>(
    x: View<'_, f32, N>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) -> Tensor<f32, N> {
    let channels = check(x.shape(), weight, bias);
    let mut data = Vec::new();
    let x = x.to_tensor();
    for row in x.as_slice().chunks_exact(channels.max(1)) {
        let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / channels as f64;
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / channels as f64;
        for c in 0..channels {
            let normal = (f64::from(row[c]) - mean) / (variance + f64::from(eps)).sqrt();
            data.push((normal * f64::from(weight[c]) + f64::from(bias[c])) as f32);
        }
    }
    Tensor::from_vec(x.shape(), data)
}
