use std::ops::Range;

use aquatint_tensor::Tensor;

use super::*;
use crate::Precision;
use crate::conv2d::upsample::{self, upsample_conv, upsample_conv_with_stats};
use crate::conv2d::{self, Geometry, Padding, conv2d, conv2d_with_stats};
use crate::gemm::{Epilogue, PackedWeights, Welford};
use crate::linear::{linear, linear_with_stats};
use crate::norm::group::{Activation, GroupNorm, NormInput, group_norm_packed};
use crate::packed_input::ALayout;
use crate::testing::{assert_close, random};

/// Mean and variance of each channel by their definition, `[images][channels]`.
fn reference(x: View<'_, f32, 4>) -> Vec<Vec<Welford>> {
    let [images, height, width, channels] = x.shape();
    let of_channel = |n: usize, c: usize| {
        let pixels = || (0..height * width).map(|i| f64::from(x.at([n, i / width, i % width, c])));
        let count = (height * width) as f64;
        let mean = pixels().sum::<f64>() / count;
        Welford { count, mean, squares: pixels().map(|x| (x - mean).powi(2)).sum() }
    };
    (0..images).map(|n| (0..channels).map(|c| of_channel(n, c)).collect()).collect()
}

/// An error counts in deviations; where the mean is very many of them, what comes of rounding each
/// number once more is granted as well.
fn assert_stats(what: &str, stats: &ChannelStats, x: View<'_, f32, 4>) {
    for (n, expected) in reference(x).iter().enumerate() {
        let found = stats.of_image(n);
        assert_eq!(found.len(), expected.len(), "{what}");
        for (c, (found, expected)) in found.iter().zip(expected).enumerate() {
            let (deviation, mean) = (expected.variance().sqrt(), expected.mean.abs());
            assert!(
                found.count == expected.count
                    && (found.mean - expected.mean).abs() <= 1e-6 * deviation + 1e-7 * mean
                    && (found.squares - expected.squares).abs()
                        <= (2e-6 * deviation + 2e-7 * mean) * deviation * expected.count,
                "{what}: image {n}, channel {c}: {found:?}, expected {expected:?}"
            );
        }
    }
}

/// What a layer gives with statistics, which must have the bits that it has without.
fn collected(
    with_stats: (Tensor<f32, 4>, Option<ChannelStats>),
    plain: Tensor<f32, 4>,
) -> (Tensor<f32, 4>, Option<ChannelStats>) {
    assert!(with_stats.0 == plain, "to watch the numbers changes none");
    with_stats
}

fn everywhere(mut f: impl FnMut(Isa, Precision)) {
    for isa in Isa::all_and_emulated() {
        [Precision::Bf16, Precision::Bf16x3].into_iter().for_each(|precision| f(isa, precision));
    }
}

#[test]
fn a_convolution_takes_the_moments_of_what_it_stores() {
    for (name, input, out_channels, geometry) in [
        ("a block of 32 pixels", [1, 4, 8, 5], 3, Geometry::same(3)),
        ("two images in a task, a panel and a part", [2, 8, 8, 40], 45, Geometry::same(3)),
        ("several tasks and groups of panels", [2, 24, 32, 24], 350, Geometry::same(3)),
        ("three odd images of 96 pixels", [3, 8, 12, 70], 33, Geometry::same(3)),
        ("halved", [2, 16, 32, 8], 40, Geometry::halving(Padding::all(1))),
        ("depth above a block", [1, 16, 16, 500], 40, Geometry::same(3)),
    ] {
        let [kernel_h, kernel_w] = geometry.kernel_size;
        let (x, w) = (random(input, 1), random([out_channels, input[3], kernel_h, kernel_w], 2));
        let (bias, per_image) = (random([out_channels], 3), random([1, out_channels], 4).map(|x| 9.0 * x));
        everywhere(|isa, precision| {
            let what = format!("{name}, {precision}, {isa}");
            let w = conv2d::ConvWeights::pack_for(precision, w.view());
            let (bias, per_image) = (Some(bias.as_slice()), Some(per_image.view()));
            let epilogue = Epilogue { bias, per_image, scale: 0.5, ..Epilogue::default() };
            let (y, stats) = collected(
                conv2d_with_stats(isa, x.view(), &w, geometry, epilogue),
                conv2d(isa, x.view(), &w, geometry, epilogue),
            );
            assert_stats(&what, &stats.expect(&what), y.view());
        });
    }
}

#[test]
fn so_does_a_linear_layer_with_a_residual() {
    // The last is rounded in two parts, and a tile unit writes it past the caches.
    for [images, pixels, in_features, features] in [[2, 64, 40, 70], [1, 1024, 33, 32], [2, 128 * 129, 8, 36]]
    {
        let (x, w) = (random([images, 1, pixels, in_features], 1), random([features, in_features], 2));
        let residual = random([images, 1, pixels, features], 3).map(|x| x + 2.0);
        everywhere(|isa, precision| {
            let what = format!("{images} × {pixels}, {precision}, {isa}");
            let w = PackedWeights::pack_for(precision, w.view());
            let epilogue = Epilogue { residual: Some(residual.as_slice()), ..Epilogue::default() };
            let (y, stats) = collected(
                linear_with_stats(isa, x.view(), &w, epilogue),
                linear(isa, x.view(), &w, epilogue),
            );
            assert_stats(&what, &stats.expect(&what), y.view());
        });
    }
}

#[test]
fn all_phases_of_an_upsampling_count() {
    let (x, w) = (random([2, 8, 12, 20], 1), random([40, 20, 3, 3], 2));
    everywhere(|isa, precision| {
        let what = format!("{precision}, {isa}");
        let w = upsample::UpsampleWeights::pack_for(precision, w.view());
        let epilogue = Epilogue::default();
        let (y, stats) = collected(
            upsample_conv_with_stats(isa, x.view(), &w, epilogue),
            upsample_conv(isa, x.view(), &w, epilogue),
        );
        assert_stats(&what, &stats.expect(&what), y.view());
    });
}

#[test]
fn nothing_is_taken_in_f32_or_of_images_of_odd_sizes() {
    let w = random([6, 8, 3, 3], 2);
    for isa in Isa::all_and_emulated() {
        for (precision, size) in
            [(Precision::F32, [8, 8]), (Precision::Bf16, [7, 9]), (Precision::Bf16, [4, 4])]
        {
            let x = random([2, size[0], size[1], 8], 1);
            let w = conv2d::ConvWeights::pack_for(precision, w.view());
            let (geometry, epilogue) = (Geometry::same(3), Epilogue::default());
            let (_, stats) = conv2d_with_stats(isa, x.view(), &w, geometry, epilogue);
            assert!(stats.is_none(), "{size:?}, {precision}, {isa}");
        }
    }
}

#[test]
fn what_is_read_has_the_moments_of_its_definition() {
    // One pixel, fewer channels than a vector, more blocks than one, a mean far from zero.
    for (shape, mean) in
        [([1, 1, 1, 5], 0.0), ([2, 7, 5, 34], 0.0), ([3, 33, 31, 70], 1.0), ([1, 40, 40, 40], 1e3)]
    {
        let x = random(shape, 1).map(|x| x + mean);
        for isa in Isa::available() {
            let found = channel_stats(isa, x.view());
            assert_stats(&format!("{shape:?}, {isa}"), &found, x.view());
        }
    }
}

#[test]
fn neither_threads_nor_the_batch_change_a_bit() {
    let x = random([5, 8, 8, 600], 1);
    let window = random([70, 24, 3, 3], 2);
    let deep = random([70, 600], 3); // panels pass through several blocks of the depth
    everywhere(|isa, precision| {
        let window = conv2d::ConvWeights::pack_for(precision, window.view());
        let deep = PackedWeights::pack_for(precision, deep.view());
        let convolution = |x: View<'_, f32, 4>| {
            conv2d_with_stats(isa, x.slice(3, 0..24), &window, Geometry::same(3), Epilogue::default()).1
        };
        let linear = |x: View<'_, f32, 4>| linear_with_stats(isa, x, &deep, Epilogue::default()).1;
        neither_changes_a_bit(&format!("convolution, {precision}, {isa}"), x.view(), convolution);
        neither_changes_a_bit(&format!("linear layer, {precision}, {isa}"), x.view(), linear);
    });
}

fn neither_changes_a_bit(
    what: &str,
    x: View<'_, f32, 4>,
    layer: impl Fn(View<'_, f32, 4>) -> Option<ChannelStats> + Sync,
) {
    let of = |images: Range<usize>, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        let x = x.slice(0, images);
        pool.install(|| layer(x).expect("blocks of 64 pixels"))
    };
    let all = of(0..5, 1);
    for n in 0..5 {
        assert!(all.of_image(n) == of(0..5, 3).of_image(n), "image {n}, threads, {what}");
        assert!(all.of_image(n) == of(n..n + 1, 2).of_image(0), "image {n}, alone, {what}");
    }
}

#[test]
fn a_norm_of_moments_is_that_of_the_pixels() {
    // A group has channels of all three pieces: of a layer, of one image for both, and of one that
    // must be read.
    let (x, w) = (random([2, 8, 16, 24], 1), random([40, 24, 3, 3], 2));
    let read = random([2, 8, 16, 6], 3).map(|x| x + 3.0);
    let (weight, bias) = (random([56], 4), random([56], 5));
    let (weight, bias, activation) = (weight.as_slice(), bias.as_slice(), Activation::Silu);
    everywhere(|isa, precision| {
        let layer = |x: &View<'_, f32, 4>, out_channels: usize| {
            let w = conv2d::ConvWeights::pack_for(precision, w.view().slice(0, 0..out_channels));
            conv2d_with_stats(isa, *x, &w, Geometry::same(3), Epilogue::default())
        };
        let (both, one) = (layer(&x.view(), 40), layer(&x.view().slice(0, 0..1), 10));
        for num_groups in [1, 2, 7] {
            let norm = GroupNorm { num_groups, eps: 1e-5, weight, bias, activation };
            let of = |known: bool| {
                let inputs = [&both, &one].map(|(pixels, stats)| NormInput {
                    pixels: pixels.view(),
                    stats: stats.as_ref().filter(|_| known),
                });
                let inputs = [inputs[0], read.view().into(), inputs[1]];
                group_norm_packed(isa, &inputs, norm, ALayout::rows(Precision::F32)).into_tensor()
            };
            let what = format!("{num_groups} groups, {precision}, {isa}");
            assert!(both.1.is_some() && one.1.is_some(), "{what}");
            assert_close(&what, &of(true), &of(false), 1e-6);
        }
    });
}
