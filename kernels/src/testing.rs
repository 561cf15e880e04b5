//! What the tests of all kernels share: repeatable numbers, and a comparison that names the worst
//! element.

use aquatint_tensor::{Tensor, bf16, shape::count};

/// Numbers between −1 and 1 from a linear congruential generator (Knuth's MMIX constants).
pub(crate) fn random<const N: usize>(shape: [usize; N], seed: u64) -> Tensor<f32, N> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let data = (0..count(shape))
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_vec(shape, data)
}

/// The numbers rounded to bf16. With operands that are bf16 already, a product in bf16 must be as
/// exact as one in f32: rounding must not hide a bug.
pub(crate) fn to_bf16<const N: usize>(x: &Tensor<f32, N>) -> Tensor<f32, N> {
    x.map(|x| bf16::from_f32(x).to_f32())
}

/// Panics, naming the worst element, unless `|found − expected| ≤ tolerance · max|expected|`
/// everywhere.
pub(crate) fn assert_close<const N: usize>(
    what: &str,
    found: &Tensor<f32, N>,
    expected: &Tensor<f32, N>,
    tolerance: f32,
) {
    assert_eq!(found.shape(), expected.shape(), "{what}: the shapes differ");
    let largest = expected.as_slice().iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let worst = (0..found.len())
        .map(|i| (i, (found.as_slice()[i] - expected.as_slice()[i]).abs()))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((i, error)) = worst {
        assert!(
            error <= tolerance * largest,
            "{what}: element {i} of shape {:?} is {}, expected {} (error {error:e}, allowed {:e})",
            found.shape(),
            found.as_slice()[i],
            expected.as_slice()[i],
            tolerance * largest,
        );
    }
}
