use aquatint_tensor::Tensor;

use super::*;
use crate::testing::{assert_close, random};

/// Shape, the mean around which the numbers lie, and the tolerance.
const CASES: [(&str, [usize; 3], f32, f32); 9] = [
    ("no tokens", [2, 0, 8], 0.0, 0.0),
    ("no channels", [2, 3, 0], 0.0, 0.0),
    ("one channel", [1, 3, 1], 0.0, 1e-6),
    ("less than a vector", [2, 3, 7], 0.0, 1e-6),
    ("a vector and one", [1, 9, 17], 0.0, 1e-6),
    ("CLIP", [2, 77, 768], 0.0, 1e-6),
    ("UNet 16²", [2, 256, 1280], 0.0, 1e-6),
    ("mean 1000", [1, 50, 333], 1000.0, 1e-6),
    ("mean −1e6", [1, 5, 320], -1e6, 1e-6),
];

#[test]
fn every_rung_agrees_with_the_reference() {
    for (name, shape, mean, tolerance) in CASES {
        let x = random(shape, 1).map(|x| x + mean);
        let weight = random([shape[2]], 2);
        let bias = random([shape[2]], 3);
        let (weight, bias) = (weight.as_slice(), bias.as_slice());
        let expected = reference::layer_norm(x.view(), weight, bias, 1e-5);
        for isa in Isa::available() {
            let found = two_pass::layer_norm(isa, x.view(), weight, bias, 1e-5);
            assert_close(&format!("two_pass, {name}, {isa}"), &found, &expected, tolerance);
        }
    }
}

#[test]
fn every_length_around_a_vector() {
    for channels in 1..=33 {
        let x = random([3, channels], channels as u64);
        let (weight, bias) = (vec![2.0; channels], vec![-1.0; channels]);
        let expected = reference::layer_norm(x.view(), &weight, &bias, 1e-5);
        for isa in Isa::available() {
            let found = two_pass::layer_norm(isa, x.view(), &weight, &bias, 1e-5);
            assert_close(&format!("two_pass, {channels} channels, {isa}"), &found, &expected, 2e-6);
        }
    }
}

#[test]
fn views_of_any_strides_are_taken() {
    let x = random([4, 3, 20], 7);
    let view = x.view().permute([1, 0, 2]).slice(2, 2..15);
    let (weight, bias) = (vec![2.0; 13], vec![0.5; 13]);
    let found = layer_norm(Isa::best(), view, &weight, &bias, 1e-5);
    assert_close("a view", &found, &reference::layer_norm(view, &weight, &bias, 1e-5), 1e-6);
}

#[test]
fn nan_stays_in_its_row_and_is_not_hidden() {
    let mut x = random([2, 8], 9);
    x[[0, 3]] = f32::NAN;
    let y = layer_norm(Isa::best(), x.view(), &[1.0; 8], &[0.0; 8], 1e-5);
    assert!(y.as_slice()[..8].iter().all(|y| y.is_nan()) && y.as_slice()[8..].iter().all(|y| y.is_finite()));
}

#[test]
#[should_panic(expected = "the input has 4 channels, the weight 3")]
fn the_weight_must_fit() {
    layer_norm(Isa::best(), Tensor::zeros([1, 4]).view(), &[1.0; 3], &[0.0; 4], 1e-5);
}
