use aquatint_tensor::{Tensor, View, bf16, f16};

use super::super::{ConvWeights, Geometry, Padding, indirect, reference, wants_winograd};
use super::{can, conv2d};
use crate::gemm::{Epilogue, Packable};
use crate::testing::{assert_close, random};
use crate::{Isa, Precision};

const SAME: Geometry = Geometry::same(3);

/// Name, input, output channels.
const CASES: [(&str, [usize; 4], usize); 12] = [
    ("one pixel", [1, 1, 1, 1], 1),
    ("a row", [1, 1, 9, 3], 2),
    ("a column, three images", [3, 6, 1, 4], 40),
    ("one tile", [1, 4, 4, 16], 32),
    ("two images, odd sizes", [2, 7, 5, 9], 33),
    ("channels that end in part of a vector", [1, 6, 11, 37], 70),
    ("channels above a block", [1, 5, 4, 150], 8),
    ("rows above a task", [1, 45, 49, 5], 3),
    ("wider than a task", [2, 5, 522, 2], 35),
    ("more than a slab", [1, 87, 85, 128], 4),
    ("more than a slab, wide", [1, 9, 1030, 160], 2),
    ("no image", [0, 3, 3, 4], 5),
];

#[test]
fn agrees_with_the_reference() {
    for (name, shape, out_channels) in CASES {
        let (x, w) = (random(shape, 1), random([out_channels, shape[3], 3, 3], 2));
        let expected = reference::conv2d(x.view(), w.view(), SAME, 1);
        let w = ConvWeights::pack(w.view());
        for isa in Isa::available() {
            let found = conv2d(isa, x.view(), &w, SAME, Epilogue::default());
            assert_close(&format!("{name}, {isa}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn weights_of_16_bits_are_transformed_in_f32() {
    fn check<T: Packable>(x: &Tensor<f32, 4>, w: View<'_, T, 4>) {
        let expected = reference::conv2d(x.view(), w, SAME, 1);
        for isa in Isa::available() {
            let found = conv2d(isa, x.view(), &ConvWeights::pack(w), SAME, Epilogue::default());
            assert_close(&format!("{:?}, {isa}", T::DTYPE), &found, &expected, 1e-5);
        }
    }
    let (x, w) = (random([1, 6, 7, 70], 1), random([40, 70, 3, 3], 2));
    check(&x, w.convert::<f16>().view());
    check(&x, w.convert::<bf16>().view());
}

#[test]
fn bias_image_residual_and_scale_reach_every_pixel() {
    for [h, width] in [[4, 8], [5, 7], [2, 530]] {
        let (x, w) = (random([2, h, width, 12], 1), random([43, 12, 3, 3], 2));
        let plain = reference::conv2d(x.view(), w.view(), SAME, 1);
        let (bias, per_image, residual) = (random([43], 3), random([2, 43], 4), random(plain.shape(), 5));
        let expected = Tensor::from_fn(plain.shape(), |[n, y, x, c]| {
            let sum = plain[[n, y, x, c]] + bias[[c]] + per_image[[n, c]] + residual[[n, y, x, c]];
            (0.5 * sum).max(0.0)
        });
        for isa in Isa::available() {
            let epilogue = Epilogue {
                bias: Some(bias.as_slice()),
                per_image: Some(per_image.view()),
                residual: Some(residual.as_slice()),
                scale: 0.5,
                floor: 0.0,
            };
            let found = conv2d(isa, x.view(), &ConvWeights::pack(w.view()), SAME, epilogue);
            assert_close(&format!("epilogue, {h}×{width}, {isa}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn views_of_any_strides_are_taken_and_threads_do_not_matter() {
    let x = random([2, 34, 30, 70], 1);
    let view = x.view().permute([0, 2, 1, 3]).slice(3, 3..70);
    let w = random([64, 67, 3, 3], 2);
    let (expected, w) = (reference::conv2d(view, w.view(), SAME, 1), ConvWeights::pack(w.view()));
    for isa in Isa::available() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| conv2d(isa, view, &w, SAME, Epilogue::default()))
        };
        let one = run(1);
        assert_close(&format!("strides, {isa}"), &one, &expected, 1e-5);
        assert!([2, 5].map(run).iter().all(|other| other == &one), "{isa}");
    }
}

#[test]
fn a_picture_has_the_same_bits_alone_and_in_a_batch() {
    let (x, w) = (random([3, 9, 22, 80], 1), ConvWeights::pack(random([40, 80, 3, 3], 2).view()));
    for isa in Isa::available() {
        let all = conv2d(isa, x.view(), &w, SAME, Epilogue::default());
        for n in 0..3 {
            let alone = conv2d(isa, x.view().slice(0, n..n + 1), &w, SAME, Epilogue::default());
            assert!(all.view().slice(0, n..n + 1).to_tensor() == alone, "image {n}, {isa}");
        }
    }
}

/// Relative to the result, in the mean: `√(Σ(found − expected)² / Σexpected²)`.
fn mean_error(found: &Tensor<f32, 4>, expected: &Tensor<f32, 4>) -> f64 {
    let pairs =
        || found.as_slice().iter().zip(expected.as_slice()).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let squares: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
    (squares / pairs().map(|(_, b)| b * b).sum::<f64>()).sqrt()
}

#[test]
fn less_than_a_digit_is_lost() {
    // As in the networks: weights like 1/√fan_in, pixels after a SiLU, which are not zero in the
    // mean.
    let x = random([1, 8, 12, 320], 1).map(|x| 3.0 * x / (1.0 + (-3.0 * x).exp()));
    let w = random([48, 320, 3, 3], 2).map(|x| x / 2880f32.sqrt());
    let expected = reference::conv2d(x.view(), w.view(), SAME, 1);
    let w = ConvWeights::pack(w.view());
    for isa in Isa::available() {
        let direct = mean_error(&indirect::conv2d(isa, x.view(), &w, SAME, Epilogue::default()), &expected);
        let found = mean_error(&conv2d(isa, x.view(), &w, SAME, Epilogue::default()), &expected);
        assert!(found < 4.0 * direct && found < 1.2e-6, "{isa}: {found:.1e}, directly {direct:.1e}");
        // A form that is as exact as the direct one would be another algorithm.
        assert!(found > direct, "{isa}: {found:.1e}, directly {direct:.1e}");
    }
}

#[test]
fn only_dense_windows_of_three_by_three_in_f32_will_do() {
    assert!(can(Precision::F32, SAME));
    for other in [
        Geometry::same(1),
        Geometry::halving(Padding::all(1)),
        Geometry { padding: Padding::all(0), ..SAME },
        Geometry { dilation: [1, 2], ..SAME },
    ] {
        assert!(!can(Precision::F32, other), "{other:?}");
    }
    assert!(!can(Precision::Bf16, SAME) && !can(Precision::Bf16x3, SAME));
}

#[test]
#[should_panic(expected = "minimal filtering is for 3×3 windows")]
fn another_stride_is_refused() {
    let w = ConvWeights::pack(random([4, 4, 3, 3], 1).view());
    conv2d(
        Isa::best(),
        random([1, 6, 6, 4], 2).view(),
        &w,
        Geometry::halving(Padding::all(1)),
        Epilogue::default(),
    );
}

#[test]
fn tiny_images_and_few_channels_are_left_to_the_direct_form() {
    for (shape, expected) in
        [([2, 64, 64, 320], true), ([1, 8, 8, 64], true), ([64, 4, 4, 64], false), ([2, 64, 64, 4], false)]
    {
        assert_eq!(wants_winograd(shape, Precision::F32, SAME), expected, "{shape:?}");
        assert!(!wants_winograd(shape, Precision::Bf16, SAME), "{shape:?}");
    }
}

#[test]
fn what_is_used_is_the_form_that_the_rule_names() {
    let w = ConvWeights::pack(random([8, 16, 3, 3], 1).view());
    for (shape, filtered) in [([1, 12, 9, 16], true), ([1, 4, 4, 16], false)] {
        let x = random(shape, 2);
        let (isa, epilogue) = (Isa::best(), Epilogue::default());
        let form = match filtered {
            true => conv2d(isa, x.view(), &w, SAME, epilogue),
            false => indirect::conv2d(isa, x.view(), &w, SAME, epilogue),
        };
        assert!(super::super::conv2d(isa, x.view(), &w, SAME, epilogue) == form, "{shape:?}");
    }
}
