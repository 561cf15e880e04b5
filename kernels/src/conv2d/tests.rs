use aquatint_tensor::Tensor;

use super::{
    ConvWeights, Geometry, Padding, im2col, indirect, indirect_tiles, narrow, output_size, reference,
};
use crate::gemm::Epilogue;
use crate::testing::{assert_close, random, to_bf16};
use crate::{Isa, Precision};

struct Case {
    name: &'static str,
    input: [usize; 4],
    out_channels: usize,
    geometry: Geometry,
}

fn cases() -> Vec<Case> {
    let case = |name, input, out_channels, geometry| Case { name, input, out_channels, geometry };
    let plain = Geometry { padding: Padding::all(0), ..Geometry::same(3) };
    vec![
        case("one pixel", [1, 1, 1, 1], 1, Geometry::same(3)),
        case("3x3, two images, odd sizes", [2, 7, 5, 9], 33, Geometry::same(3)),
        case("1x1", [2, 6, 4, 40], 70, Geometry::same(1)),
        case("no padding", [1, 6, 9, 3], 4, plain),
        case("stride 2, padded", [1, 8, 8, 6], 5, Geometry::halving(Padding::all(1))),
        case(
            "stride 2, padded below and behind",
            [2, 8, 6, 6],
            5,
            Geometry::halving(Padding::bottom_right(1)),
        ),
        case("four paddings", [1, 4, 5, 2], 3, {
            Geometry { padding: Padding { top: 0, bottom: 2, left: 3, right: 1 }, ..plain }
        }),
        case("dilation", [1, 9, 8, 3], 4, Geometry { dilation: [2, 3], ..plain }),
        case("a wide kernel", [1, 5, 9, 2], 3, {
            Geometry { kernel_size: [1, 7], stride: [1, 2], padding: Padding::all(3), dilation: [1, 1] }
        }),
        case("depth above a block", [1, 4, 4, 300], 40, Geometry::same(3)),
        case("rows above a task", [1, 17, 19, 4], 6, Geometry::same(3)),
        case("tiles where they stand", [2, 3, 32, 70], 40, Geometry::same(3)),
        case("stride 2, several steps", [2, 8, 8, 70], 5, Geometry::halving(Padding::all(1))),
        case("narrower than a tile", [2, 8, 8, 70], 40, Geometry::same(3)),
        case("narrower than a tile, which crosses images", [3, 3, 7, 70], 40, Geometry::same(3)),
    ]
}

#[test]
fn every_rung_agrees_with_the_reference() {
    for Case { name, input, out_channels, geometry } in cases() {
        let [kernel_h, kernel_w] = geometry.kernel_size;
        let x = random(input, 1);
        let w = random([out_channels, input[3], kernel_h, kernel_w], 2);
        let expected = reference::conv2d(x.view(), w.view(), geometry, 1);
        let packed = ConvWeights::pack(w.view());
        for isa in Isa::available() {
            let found = im2col::conv2d(isa, x.view(), &packed, geometry, Epilogue::default());
            assert_close(&format!("im2col, {name}, {isa}"), &found, &expected, 1e-5);
            let found = indirect::conv2d(isa, x.view(), &packed, geometry, Epilogue::default());
            assert_close(&format!("indirect, {name}, {isa}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn every_precision_agrees_with_the_reference_on_every_unit() {
    for Case { name, input, out_channels, geometry } in cases() {
        let [kernel_h, kernel_w] = geometry.kernel_size;
        let (x, w) = (random(input, 1), random([out_channels, input[3], kernel_h, kernel_w], 2));
        let (rounded_x, rounded_w) = (to_bf16(&x), to_bf16(&w));
        for (precision, x, w, tolerance) in
            [(Precision::Bf16, &rounded_x, &rounded_w, 1e-5), (Precision::Bf16x3, &x, &w, 1.5e-5)]
        {
            let expected = reference::conv2d(x.view(), w.view(), geometry, 1);
            let packed = ConvWeights::pack_for(precision, w.view());
            for isa in Isa::all_and_emulated() {
                let found = indirect_tiles::conv2d(isa, x.view(), &packed, geometry, Epilogue::default());
                assert_close(&format!("{precision}, {name}, {isa}"), &found, &expected, tolerance);
            }
        }
    }
}

#[test]
fn a_view_with_other_strides_is_convolved_as_it_looks() {
    let planes = random([2, 3, 6, 5], 1); // channels first
    let x = planes.view().permute([0, 2, 3, 1]);
    let w = random([4, 3, 3, 3], 2);
    let expected = reference::conv2d(x, w.view(), Geometry::same(3), 1);
    for isa in Isa::available() {
        let found =
            indirect::conv2d(isa, x, &ConvWeights::pack(w.view()), Geometry::same(3), Epilogue::default());
        assert_close(&format!("planes, {isa}"), &found, &expected, 1e-5);
    }
}

#[test]
fn groups_are_convolutions_side_by_side() {
    let x = random([1, 5, 5, 6], 1);
    let w = random([4, 3, 3, 3], 2);
    let grouped = reference::conv2d(x.view(), w.view(), Geometry::same(3), 2);
    for group in 0..2 {
        let part = x.view().slice(3, 3 * group..3 * group + 3);
        let weights = w.view().slice(0, 2 * group..2 * group + 2);
        let alone = reference::conv2d(part, weights, Geometry::same(3), 1);
        let found = grouped.view().slice(3, 2 * group..2 * group + 2).to_tensor();
        assert_close("groups", &found, &alone, 0.0);
    }
}

#[test]
fn sizes_that_cannot_be_are_none() {
    assert_eq!(output_size(2, 3, 1, 0, 1), None);
    assert_eq!(output_size(5, 3, 0, 0, 1), None);
    assert_eq!(output_size(5, 0, 1, 0, 1), None);
    assert_eq!(output_size(usize::MAX, 3, 1, 2, 1), None);
    assert_eq!(output_size(3, 3, 2, 0, 1), Some(1));
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (x, w) = (random([2, 20, 20, 40], 1), random([70, 40, 3, 3], 2));
    for precision in Precision::ALL {
        let w = ConvWeights::pack_for(precision, w.view());
        for isa in Isa::all_and_emulated() {
            let run = |threads| -> Tensor<f32, 4> {
                let pool =
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
                let (x, geometry, epilogue) = (x.view(), Geometry::same(3), Epilogue::default());
                pool.install(|| match precision {
                    Precision::F32 => indirect::conv2d(isa, x, &w, geometry, epilogue),
                    _ => indirect_tiles::conv2d(isa, x, &w, geometry, epilogue),
                })
            };
            let one = run(1);
            assert!([2, 5].map(run).iter().all(|other| other == &one), "{precision}, {isa}");
        }
    }
}

#[test]
fn few_output_channels_agree_with_the_reference_on_every_instruction_set() {
    let wide = ("channels of several parts", [1, 3, 5, 1100], Geometry::same(3));
    let whole = ("a picture's last layer", [1, 9, 40, 64], Geometry::same(3));
    let cases = cases().into_iter().map(|case| (case.name, case.input, case.geometry)).chain([wide, whole]);
    for (name, input, geometry) in cases {
        let [kernel_h, kernel_w] = geometry.kernel_size;
        for columns in 1..=narrow::MAX_COLUMNS {
            let x = random(input, 1);
            let w = random([columns, input[3], kernel_h, kernel_w], 2);
            let bias = random([columns], 3);
            let sums = reference::conv2d(x.view(), w.view(), geometry, 1);
            let expected = Tensor::from_fn(sums.shape(), |index| sums[index] + bias[[index[3]]]);
            let packed = ConvWeights::pack(w.view());
            for isa in Isa::available() {
                let found = narrow::conv2d(isa, x.view(), &packed, geometry, bias.as_slice());
                assert_close(&format!("narrow, {name}, {columns}, {isa}"), &found, &expected, 1e-5);
            }
        }
    }
}

#[test]
fn few_output_channels_of_an_image_have_the_same_bits_in_any_batch() {
    let (x, w) = (random([3, 21, 19, 40], 1), random([3, 40, 3, 3], 2));
    let (packed, bias) = (ConvWeights::pack(w.view()), [0.1, 0.2, 0.3]);
    for isa in Isa::available() {
        let of = |x| narrow::conv2d(isa, x, &packed, Geometry::same(3), &bias);
        let batch = of(x.view());
        for i in 0..3 {
            let alone = of(x.view().slice(0, i..i + 1));
            assert!(alone == batch.view().slice(0, i..i + 1).to_tensor(), "{isa}, image {i}");
        }
    }
}
