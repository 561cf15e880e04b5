use aquatint_tensor::Tensor;

use super::*;
use crate::testing::{assert_close, random};

struct Case {
    name: &'static str,
    shape: [usize; 4],
    num_groups: usize,
    /// The numbers lie around this mean, one to each side.
    mean: f32,
    tolerance: f32,
}

const CASES: [Case; 12] = [
    Case { name: "no image", shape: [0, 4, 4, 8], num_groups: 2, mean: 0.0, tolerance: 0.0 },
    Case { name: "no pixels", shape: [2, 0, 4, 8], num_groups: 2, mean: 0.0, tolerance: 0.0 },
    Case { name: "one pixel", shape: [2, 1, 1, 8], num_groups: 2, mean: 0.0, tolerance: 1e-6 },
    Case { name: "a group per channel", shape: [1, 5, 3, 6], num_groups: 6, mean: 0.0, tolerance: 1e-6 },
    Case { name: "one group", shape: [1, 5, 3, 21], num_groups: 1, mean: 0.0, tolerance: 1e-6 },
    Case { name: "channels above a vector", shape: [3, 7, 5, 34], num_groups: 2, mean: 0.0, tolerance: 1e-6 },
    Case {
        name: "a chunk less one pixel",
        shape: [1, 1, 127, 32],
        num_groups: 32,
        mean: 0.0,
        tolerance: 1e-6,
    },
    Case { name: "a chunk and one pixel", shape: [1, 3, 43, 32], num_groups: 8, mean: 0.0, tolerance: 1e-6 },
    Case { name: "UNet 64²", shape: [2, 64, 64, 320], num_groups: 32, mean: 0.0, tolerance: 1e-6 },
    Case { name: "UNet 8²", shape: [2, 8, 8, 2560], num_groups: 32, mean: 0.0, tolerance: 1e-6 },
    // At 100 an f32 has a step of 7.6e-6, 1.3e-5 of the deviation: no method can do better on
    // rounded inputs and shift.
    Case { name: "mean 100", shape: [1, 33, 31, 64], num_groups: 32, mean: 100.0, tolerance: 2e-5 },
    Case { name: "mean −3000", shape: [1, 64, 64, 32], num_groups: 4, mean: -3000.0, tolerance: 4e-4 },
];

#[test]
fn every_rung_agrees_with_the_reference() {
    for Case { name, shape, num_groups, mean, tolerance } in CASES {
        let x = random(shape, 1).map(|x| x + mean);
        let channels = shape[3];
        let weight = random([channels], 2);
        let bias = random([channels], 3);
        for activation in [Activation::None, Activation::Silu] {
            let norm = GroupNorm {
                num_groups,
                eps: 1e-5,
                weight: weight.as_slice(),
                bias: bias.as_slice(),
                activation,
            };
            let expected = reference::group_norm(x.view(), norm);
            for isa in Isa::available() {
                let found = streaming::group_norm(isa, &[x.view().into()], norm);
                assert_close(
                    &format!("streaming, {name}, {activation:?}, {isa}"),
                    &found,
                    &expected,
                    tolerance,
                );
            }
        }
    }
}

fn plain<'a>(num_groups: usize, weight: &'a [f32], bias: &'a [f32]) -> GroupNorm<'a> {
    GroupNorm { num_groups, eps: 1e-6, weight, bias, activation: Activation::None }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let x = random([2, 40, 40, 64], 11);
    let (weight, bias) = (vec![1.5; 64], vec![0.5; 64]);
    let norm = plain(32, &weight, &bias);
    for isa in Isa::available() {
        let [one, others @ ..] = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            pool.install(|| streaming::group_norm(isa, &[x.view().into()], norm))
        });
        assert!(others.iter().all(|other| *other == one), "{isa}");
    }
}

#[test]
fn an_outlier_costs_no_digits() {
    // The deviations of a chunk are taken from its first pixels; with this one alone the error
    // would be 1e-3.
    let mut x = random([1, 64, 64, 32], 5);
    x.as_mut_slice()[..32].fill(1000.0);
    let (weight, bias) = (vec![1.0; 32], vec![0.0; 32]);
    let norm = plain(32, &weight, &bias);
    let expected = reference::group_norm(x.view(), norm);
    for isa in Isa::available() {
        let found = streaming::group_norm(isa, &[x.view().into()], norm);
        assert_close(&format!("streaming, outlier, {isa}"), &found, &expected, 1e-6);
    }
}

#[test]
fn a_constant_image_becomes_the_bias() {
    let x = Tensor::full([1, 20, 20, 32], 0.1f32);
    let (weight, bias) = (vec![3.0; 32], vec![0.25; 32]);
    for isa in Isa::available() {
        let found = streaming::group_norm(isa, &[x.view().into()], plain(4, &weight, &bias));
        assert_close(&format!("{isa}"), &found, &Tensor::full([1, 20, 20, 32], 0.25), 1e-4);
    }
}

#[test]
fn views_of_any_strides_are_taken() {
    let x = random([2, 9, 5, 24], 7);
    let view = x.view().permute([0, 2, 1, 3]).slice(3, 4..20);
    let (weight, bias) = (vec![2.0; 16], vec![0.5; 16]);
    let norm = plain(4, &weight, &bias);
    let found = group_norm(Isa::best(), view, norm);
    assert_close("a view", &found, &reference::group_norm(view, norm), 1e-6);
}

#[test]
fn each_image_is_normalised_alone_and_nan_is_not_hidden() {
    let mut x = random([2, 4, 4, 8], 9);
    let (weight, bias) = (vec![1.0; 8], vec![0.0; 8]);
    let norm = plain(2, &weight, &bias);
    let alone = group_norm(Isa::best(), x.view().slice(0, 1..2), norm);
    x[[0, 1, 1, 0]] = f32::NAN;
    let both = group_norm(Isa::best(), x.view(), norm);
    assert_eq!(both.as_slice()[128..], *alone.as_slice());
    assert!(both[[0, 3, 3, 3]].is_nan() && both[[0, 3, 3, 4]].is_finite());
}

#[test]
#[should_panic(expected = "10 channels cannot be cut into 4 equal groups")]
fn groups_must_be_equal() {
    let ones = [1.0; 10];
    group_norm(Isa::best(), Tensor::zeros([1, 2, 2, 10]).view(), plain(4, &ones, &ones));
}

#[test]
fn joined_images_are_normalised_as_if_they_were_one() {
    // Channels of the pieces, groups: with a border inside of a group, and pieces narrower than a
    // vector.
    for (inputs, num_groups) in [(&[5, 7][..], 4), (&[40, 24], 32), (&[3, 1, 12], 2), (&[8], 2), (&[0, 6], 3)]
    {
        let images: Vec<Tensor<f32, 4>> =
            inputs.iter().enumerate().map(|(i, &c)| random([2, 13, 11, c], i as u64)).collect();
        let views: Vec<_> = images.iter().map(Tensor::view).collect();
        let joined = aquatint_tensor::concat(&views, 3);
        let channels = joined.shape()[3];
        let (weight, bias) = (random([channels], 8), random([channels], 9));
        let norm = GroupNorm {
            num_groups,
            eps: 1e-5,
            weight: weight.as_slice(),
            bias: bias.as_slice(),
            activation: Activation::Silu,
        };
        for isa in Isa::available() {
            let found = group_norm_concat(isa, &views, norm);
            let name = format!("{inputs:?} in {num_groups} groups, {isa}");
            assert_close(&name, &found, &group_norm(isa, joined.view(), norm), 1e-6);
        }
    }
}

#[test]
fn an_image_of_a_smaller_batch_serves_several() {
    let (pair, single) = (random([2, 3, 4, 6], 1), random([1, 3, 4, 2], 2));
    let both = single.view().broadcast_to([2, 3, 4, 2]);
    let norm = GroupNorm {
        num_groups: 2,
        eps: 1e-5,
        weight: &[1.0; 8],
        bias: &[0.5; 8],
        activation: Activation::None,
    };
    for isa in Isa::available() {
        let found = group_norm_concat(isa, &[pair.view(), single.view()], norm);
        assert!(found == group_norm_concat(isa, &[pair.view(), both], norm), "{isa}");
    }
}

#[test]
#[should_panic(expected = "[1, 3, 4, 2] cannot be joined to 1 images of 4 × 4")]
fn only_images_of_one_size_are_joined() {
    let (a, b) = (random([1, 4, 4, 2], 1), random([1, 3, 4, 2], 2));
    let norm = GroupNorm {
        num_groups: 2,
        eps: 0.0,
        weight: &[1.0; 4],
        bias: &[0.0; 4],
        activation: Activation::None,
    };
    group_norm_concat(Isa::best(), &[a.view(), b.view()], norm);
}
