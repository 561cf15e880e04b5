//! In which type a network stores what flows between its layers: f32, or f16 where its products are
//! in bf16.
//!
//! In bf16 a layer takes hardly longer than its output takes to memory and back, and f16 is eight
//! times as exact as what the next product makes of it. What it cannot hold, numbers beyond 65504,
//! becomes infinite; norms and sums keep that, so it is seen in the output. Such an image is
//! computed again with f32 between its layers: for each image alone, so that a picture does not
//! depend on what else is in its batch.

use aquatint_kernels::Precision;
use aquatint_tensor::Tensor;

/// Whether networks in bf16 store f16 between their layers. On two cores of an AMD Zen 5 a UNet
/// step takes 1726 ms with it and 1761 ms without, a decode of 512×512 2225 ms and 2426 ms (the
/// least of alternating runs, `aquatint bench -m sd15 stage`).
const F16_BETWEEN_LAYERS: bool = true;

/// Whether a network whose products have this precision stores f16 between its layers.
pub(crate) fn is_half(products: Precision) -> bool {
    F16_BETWEEN_LAYERS && products == Precision::Bf16
}

/// `half`, with the images of `wide` in the place of those that are not finite; `wide` is computed
/// only if there are any.
pub(crate) fn finite_or(half: Tensor<f32, 4>, wide: impl FnOnce() -> Tensor<f32, 4>) -> Tensor<f32, 4> {
    let len = half.shape()[1..].iter().product::<usize>().max(1);
    let finite = |image: &[f32]| image.iter().all(|x| x.is_finite());
    if half.as_slice().chunks(len).all(finite) {
        return half;
    }
    let (mut out, wide) = (half, wide());
    for (image, wide) in out.as_mut_slice().chunks_mut(len).zip(wide.as_slice().chunks(len)) {
        if !finite(image) {
            image.copy_from_slice(wide);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_are_not_finite_are_replaced() {
        let wide = || Tensor::full([3, 1, 1, 2], 7.0);
        let half = Tensor::from_vec([3, 1, 1, 2], vec![1.0, 2.0, f32::INFINITY, 4.0, 5.0, f32::NAN]);
        assert_eq!(finite_or(half, wide).as_slice(), [1.0, 2.0, 7.0, 7.0, 7.0, 7.0]);
        let half = Tensor::full([3, 1, 1, 2], 1.0);
        assert_eq!(finite_or(half.clone(), || panic!("nothing is missing")), half);
    }
}
