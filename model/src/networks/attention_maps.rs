//! How strongly each pixel looks at each word: the weights of cross-attention, as DAAM shows them.
//!
//! ```text
//! map[text, pixel, token] = mean over heads of softmax(q · kᵀ / √head_dim)
//! ```
//!
//! The kernels never store these weights, so where a thread [`record`]s, a layer that attends to
//! the text computes them once more, in f32. Elsewhere a layer only asks whether to.
//!
//! Source: Tang et al., "What the DAAM: Interpreting Stable Diffusion Using Cross Attention" (2022,
//! arXiv:2210.04885).

use std::cell::RefCell;

use aquatint_kernels::packed_input::{Activations, Input};
use aquatint_tensor::{Tensor, View};
use rayon::prelude::*;

thread_local! {
    static MAPS: RefCell<Option<Vec<Tensor<f32, 3>>>> = const { RefCell::new(None) };
}

/// Runs `networks`, whose layers compute maps meanwhile; [`take`] hands them out.
///
/// The networks must have been loaded in f32: of queries and keys that are packed for a product in
/// bf16 there are no maps.
pub fn record<T>(networks: impl FnOnce() -> T) -> T {
    let before = MAPS.replace(Some(Vec::new()));
    let result = networks();
    MAPS.set(before);
    result
}

/// The maps since the last call, one for each attention to the text in the order of the layers:
/// `[texts, pixels, tokens]`.
pub fn take() -> Vec<Tensor<f32, 3>> {
    MAPS.with_borrow_mut(|maps| maps.as_mut().map(std::mem::take)).unwrap_or_default()
}

/// Notes the map of a layer if this thread is recording. `q: [m, pixels, c]`, `k: [n, tokens, c]`;
/// keys number i meet queries number i mod m.
pub(crate) fn observe(q: &Activations<3>, k: &Activations<3>, heads: usize) {
    MAPS.with_borrow_mut(|maps| {
        if let (Some(maps), Input::F32(q), Input::F32(k)) = (maps, Input::from(q), Input::from(k)) {
            maps.push(map(q, k, heads));
        }
    });
}

fn map(q: View<'_, f32, 3>, k: View<'_, f32, 3>, heads: usize) -> Tensor<f32, 3> {
    let ([images, pixels, channels], [texts, tokens, _]) = (q.shape(), k.shape());
    let (q, k) = (q.to_tensor(), k.to_tensor());
    let head_dim = channels / heads;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut out = Tensor::zeros([texts, pixels, tokens]);
    out.as_mut_slice().par_chunks_mut(tokens).enumerate().for_each(|(row, out)| {
        let (text, pixel) = (row / pixels, row % pixels);
        let q = &q.as_slice()[(text % images * pixels + pixel) * channels..][..channels];
        let keys = &k.as_slice()[text * tokens * channels..][..tokens * channels];
        let mut scores = vec![0.0f32; tokens];
        for head in 0..heads {
            let at = head * head_dim..(head + 1) * head_dim;
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(channels)) {
                let products = q[at.clone()].iter().zip(&key[at.clone()]).map(|(q, k)| q * k);
                *score = scale * products.sum::<f32>();
            }
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|score| *score = (*score - max).exp());
            let sum: f32 = scores.iter().sum();
            out.iter_mut().zip(&scores).for_each(|(out, score)| *out += score / sum / heads as f32);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_those_of_the_formula_and_only_recorded_where_asked() {
        let activations = |shape, data: &[f32]| Activations::from(Tensor::from_vec(shape, data.to_vec()));
        // One pixel, two tokens, two heads of one channel: scores 0, ln 3 and 0, 0.
        let q = activations([1, 1, 2], &[1.0, 0.0]);
        let k = activations([1, 2, 2], &[0.0, 5.0, 3.0f32.ln(), 7.0]);
        observe(&q, &k, 2);
        assert!(take().is_empty());
        let maps = record(|| {
            observe(&q, &k, 2);
            take()
        });
        let [map] = &maps[..] else { panic!("{} maps", maps.len()) };
        assert_eq!(map.shape(), [1, 1, 2]);
        let (first, second) = ((0.25 + 0.5) / 2.0, (0.75 + 0.5) / 2.0);
        assert!((map.as_slice()[0] - first).abs() < 1e-6 && (map.as_slice()[1] - second).abs() < 1e-6);
    }
}
