//! The definition of attention, with sums in `f64`.

use aquatint_tensor::{Tensor, View};

use super::{Attention, check};

/// Attention as its formula says it; see [`attention`](super::attention()) for the shapes.
///
/// # Panics
/// As [`attention`](super::attention()).
pub fn attention(
    q: View<'_, f32, 4>,
    k: View<'_, f32, 4>,
    v: View<'_, f32, 4>,
    settings: Attention,
) -> Tensor<f32, 4> {
    let (images, queries, keys, heads, head_dim) = check(q, k, v);
    let mut out = Tensor::zeros([images, queries, heads, head_dim]);
    for n in 0..images {
        for h in 0..heads {
            for i in 0..queries {
                let visible = if settings.causal { keys.min(i + 1) } else { keys };
                let scores: Vec<f64> = (0..visible)
                    .map(|j| {
                        let dot: f64 = (0..head_dim)
                            .map(|c| f64::from(q.at([n, i, h, c])) * f64::from(k.at([n, j, h, c])))
                            .sum();
                        dot * f64::from(settings.scale)
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in 0..head_dim {
                    let sum: f64 = (0..visible).map(|j| weights[j] * f64::from(v.at([n, j, h, c]))).sum();
                    out[[n, i, h, c]] = (sum / total) as f32;
                }
            }
        }
    }
    out
}
