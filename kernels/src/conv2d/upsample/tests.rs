use aquatint_tensor::{Tensor, View, bf16, f16};

use super::{UpsampleWeights, filtered, phases, reference, two_steps, upsample_conv};
use crate::conv2d;
use crate::gemm::{Epilogue, Packable};
use crate::testing::{assert_close, random, to_bf16};
use crate::{Isa, Precision};

fn packed<T: Packable>(w: View<'_, T, 4>) -> UpsampleWeights {
    UpsampleWeights::pack(w)
}

/// Name, input, output channels.
const CASES: [(&str, [usize; 4], usize); 7] = [
    ("one pixel", [1, 1, 1, 1], 1),
    ("a row", [1, 1, 5, 3], 2),
    ("two images, odd sizes", [2, 3, 5, 7], 33),
    ("a column", [2, 6, 1, 4], 40),
    ("depth above a block", [1, 4, 3, 300], 70),
    ("rows above a task", [1, 17, 16, 8], 6),
    ("no image", [0, 3, 3, 4], 5),
];

#[test]
fn every_rung_agrees_with_the_reference() {
    for (name, shape, out_channels) in CASES {
        let (x, w) = (random(shape, 1), random([out_channels, shape[3], 3, 3], 2));
        let expected = reference::upsample_conv(x.view(), w.view());
        let w = packed(w.view());
        for isa in Isa::available() {
            let found = two_steps::upsample_conv(isa, x.view(), &w, Epilogue::default());
            assert_close(&format!("two_steps, {name}, {isa}"), &found, &expected, 1e-5);
            let found = filtered::upsample_conv(isa, x.view(), &w, Epilogue::default());
            assert_close(&format!("filtered, {name}, {isa}"), &found, &expected, 1e-5);
            let chosen = upsample_conv(isa, x.view(), &w, Epilogue::default());
            assert_close(&format!("{name}, {isa}"), &chosen, &expected, 1e-5);
        }
    }
}

#[test]
fn phases_in_every_precision_on_every_unit() {
    for (name, shape, out_channels) in CASES {
        let (x, w) = (to_bf16(&random(shape, 1)), to_bf16(&random([out_channels, shape[3], 3, 3], 2)));
        let expected = reference::upsample_conv(x.view(), w.view());
        // Sums of weights are rounded, to 2⁻⁹ of the largest.
        for (precision, tolerance) in [(Precision::Bf16, 2f32.powi(-8)), (Precision::Bf16x3, 1.5e-5)] {
            let w = UpsampleWeights::pack_for(precision, w.view());
            for isa in Isa::all_and_emulated() {
                let found = phases::upsample_conv(isa, x.view(), &w, Epilogue::default());
                assert_close(&format!("{precision}, {name}, {isa}"), &found, &expected, tolerance);
            }
        }
    }
}

#[test]
fn in_f32_16_bit_weights_are_not_rounded_again() {
    let (x, w) = (random([1, 5, 4, 40], 1), random([40, 40, 3, 3], 2));
    let (half, brain) = (w.convert::<f16>(), w.convert::<bf16>());
    for isa in Isa::available() {
        for (name, w, expected) in [
            ("f16", packed(half.view()), reference::upsample_conv(x.view(), half.view())),
            ("bf16", packed(brain.view()), reference::upsample_conv(x.view(), brain.view())),
        ] {
            let found = filtered::upsample_conv(isa, x.view(), &w, Epilogue::default());
            assert_close(&format!("{name} weights, {isa}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn bias_image_and_scale_reach_every_pixel() {
    let (x, w) = (random([2, 3, 4, 8], 1), random([35, 8, 3, 3], 2));
    let (bias, per_image) = (random([35], 3), random([2, 35], 4));
    let plain = reference::upsample_conv(x.view(), w.view());
    let expected = Tensor::from_fn(plain.shape(), |[n, y, x, c]| {
        0.5 * (plain[[n, y, x, c]] + bias[[c]] + per_image[[n, c]])
    });
    for isa in Isa::available() {
        let epilogue = Epilogue {
            bias: Some(bias.as_slice()),
            per_image: Some(per_image.view()),
            scale: 0.5,
            ..Epilogue::default()
        };
        let found = filtered::upsample_conv(isa, x.view(), &packed(w.view()), epilogue);
        assert_close(&format!("epilogue, {isa}"), &found, &expected, 1e-5);
    }
}

#[test]
fn views_of_any_strides_are_taken_and_threads_do_not_matter() {
    let x = random([2, 6, 9, 20], 1);
    let view = x.view().permute([0, 2, 1, 3]).slice(3, 4..20);
    let w = random([64, 16, 3, 3], 2);
    let (expected, w) = (reference::upsample_conv(view, w.view()), packed(w.view()));
    for isa in Isa::available() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| filtered::upsample_conv(isa, view, &w, Epilogue::default()))
        };
        let one = run(1);
        assert_close(&format!("strides, {isa}"), &one, &expected, 1e-5);
        assert!(run(3) == one, "{isa}");
    }
}

#[test]
fn plain_weights_follow_from_rounded_sums() {
    let (x, w) = (to_bf16(&random([1, 5, 7, 40], 1)), random([33, 40, 3, 3], 2));
    let expected = conv2d::reference::conv2d(x.view(), w.view(), conv2d::Geometry::same(3), 1);
    // Twice what rounding the weights costs, or 17 bits of each part.
    for (precision, tolerance) in [(Precision::Bf16, 2f32.powi(-7)), (Precision::Bf16x3, 3e-5)] {
        let packed = UpsampleWeights::pack_for(precision, w.view());
        for isa in Isa::all_and_emulated() {
            let geometry = conv2d::Geometry::same(3);
            let found = conv2d::conv2d(isa, x.view(), packed.plain(), geometry, Epilogue::default());
            assert_close(&format!("{precision}, {isa}"), &found, &expected, tolerance);
        }
        let two_steps = two_steps::upsample_conv(Isa::best(), x.view(), &packed, Epilogue::default());
        let phases = phases::upsample_conv(Isa::best(), x.view(), &packed, Epilogue::default());
        assert_close(&format!("{precision}, two_steps"), &two_steps, &phases, tolerance);
    }
}

#[test]
#[should_panic(expected = "the weights have another kernel size")]
fn only_a_window_of_three_by_three_will_do() {
    packed(random([4, 4, 1, 1], 1).view());
}

#[test]
fn the_border_is_padded_before_the_window_not_before_the_doubling() {
    // A window of ones over a single doubled pixel sees 2×2 of it from every corner.
    let (x, w) = (Tensor::full([1, 1, 1, 1], 3.0), Tensor::full([1, 1, 3, 3], 1.0f32));
    let expected = [12.0; 4];
    assert_eq!(reference::upsample_conv(x.view(), w.view()).as_slice(), expected);
    let doubled = Tensor::full([1, 2, 2, 1], 3.0);
    assert_eq!(
        conv2d::reference::conv2d(doubled.view(), w.view(), conv2d::Geometry::same(3), 1).as_slice(),
        expected
    );
}
