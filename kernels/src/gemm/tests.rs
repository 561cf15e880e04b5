use aquatint_tensor::{Tensor, View, bf16, f16};

use super::{Epilogue, Matrix, PackedWeights, reference, row_at_a_time};
use crate::gemm;
use crate::testing::{assert_close, random, to_bf16};
use crate::{Isa, Precision};

/// `[rows, depth, columns]`: one below, at and above each border of the blocking.
const CASES: [(&str, [usize; 3]); 14] = [
    ("one number", [1, 1, 1]),
    ("one row", [1, 320, 1280]),
    ("two rows, a time embedding", [2, 1280, 320]),
    ("a tile less one row", [11, 7, 31]),
    ("a tile", [12, 8, 32]),
    ("a tile and one row", [13, 9, 33]),
    ("depth below a block", [20, 255, 40]),
    ("depth above a block", [20, 257, 40]),
    ("depth of three blocks", [5, 700, 64]),
    ("text tokens", [154, 96, 320]),
    ("rows above a task", [245, 33, 65]),
    ("panels above a task", [9, 20, 500]),
    ("a job and one row", [33, 64, 33]),
    ("depth above a unit's block", [17, 1290, 5]),
];

fn blocked_product(
    isa: Isa,
    a: View<'_, f32, 2>,
    w: &PackedWeights,
    epilogue: &Epilogue<'_>,
) -> Tensor<f32, 2> {
    let [rows, _] = a.shape();
    let mut out = Tensor::full([rows, w.out_features()], f32::NAN);
    gemm::product(isa, rows, &Matrix::new(a), w, epilogue, out.as_mut_slice());
    out
}

#[test]
fn every_rung_agrees_with_the_reference() {
    for (name, [rows, depth, columns]) in CASES {
        let a = random([rows, depth], 1);
        let w = random([columns, depth], 2);
        let expected = reference::product(a.view(), w.view());
        let packed = PackedWeights::pack(w.view());
        for isa in Isa::available() {
            let found = row_at_a_time::product(isa, a.view(), &packed);
            assert_close(&format!("row_at_a_time, {name}, {isa}"), &found, &expected, 1e-5);
            let found = blocked_product(isa, a.view(), &packed, &Epilogue::default());
            assert_close(&format!("blocked, {name}, {isa}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn rounded_operands_give_their_product_on_every_unit() {
    for (name, [rows, depth, columns]) in CASES {
        let a = to_bf16(&random([rows, depth], 1));
        let w = to_bf16(&random([columns, depth], 2));
        let expected = reference::product(a.view(), w.view());
        let packed = PackedWeights::pack_for(Precision::Bf16, w.view());
        for isa in Isa::all_and_emulated() {
            let found = blocked_product(isa, a.view(), &packed, &Epilogue::default());
            assert_close(&format!("bf16, {name}, {isa}"), &found, &expected, 1e-5);
        }
    }
}

#[test]
fn split_operands_give_nearly_the_product_in_f32() {
    for (name, [rows, depth, columns]) in CASES {
        let (a, w) = (random([rows, depth], 1), random([columns, depth], 2));
        let expected = reference::product(a.view(), w.view());
        let packed = PackedWeights::pack_for(Precision::Bf16x3, w.view());
        for isa in Isa::all_and_emulated() {
            let found = blocked_product(isa, a.view(), &packed, &Epilogue::default());
            assert_close(&format!("bf16x3, {name}, {isa}"), &found, &expected, 1.5e-5);
        }
    }
}

#[test]
fn sixteen_bit_weights_give_the_product_of_their_values() {
    let a = random([30, 300], 1);
    let w = random([70, 300], 2);
    let (half, brain) = (w.convert::<f16>(), w.convert::<bf16>());
    for isa in Isa::available() {
        let found = blocked_product(isa, a.view(), &PackedWeights::pack(half.view()), &Epilogue::default());
        assert_close(&format!("f16, {isa}"), &found, &reference::product(a.view(), half.view()), 1e-5);
        let found = blocked_product(isa, a.view(), &PackedWeights::pack(brain.view()), &Epilogue::default());
        assert_close(&format!("bf16, {isa}"), &found, &reference::product(a.view(), brain.view()), 1e-5);
    }
}

#[test]
fn the_epilogue_adds_what_it_is_given() {
    let [rows, depth, columns] = [26, 5, 45];
    let (a, w) = (random([rows, depth], 1), random([columns, depth], 2));
    let (bias, per_image, residual) =
        (random([columns], 3), random([2, columns], 4), random([rows, columns], 5));
    let product = reference::product(a.view(), w.view());
    let expected = Tensor::from_fn([rows, columns], |[m, n]| {
        ((product[[m, n]] + bias[[n]] + per_image[[m / 13, n]] + residual[[m, n]]) * 0.5).max(-0.25)
    });
    assert!(expected.as_slice().contains(&-0.25) && expected.as_slice().iter().any(|&x| x > 0.0));
    let epilogue = Epilogue {
        bias: Some(bias.as_slice()),
        per_image: Some(per_image.view()),
        residual: Some(residual.as_slice()),
        scale: 0.5,
        floor: -0.25,
    };
    for isa in Isa::available() {
        let found = blocked_product(isa, a.view(), &PackedWeights::pack(w.view()), &epilogue);
        assert_close(&format!("epilogue, {isa}"), &found, &expected, 1e-5);
    }
}

#[test]
fn a_floor_does_not_hide_nan() {
    let (a, w) = (Tensor::full([3, 4], f32::NAN), random([40, 4], 2));
    let epilogue = Epilogue { floor: 0.0, ..Epilogue::default() };
    for precision in Precision::ALL {
        let w = PackedWeights::pack_for(precision, w.view());
        for isa in Isa::all_and_emulated() {
            let found = blocked_product(isa, a.view(), &w, &epilogue);
            assert!(found.as_slice().iter().all(|x| x.is_nan()), "{precision}, {isa}");
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let (a, w) = (random([500, 100], 1), random([400, 100], 2));
    for precision in Precision::ALL {
        let w = PackedWeights::pack_for(precision, w.view());
        for isa in Isa::all_and_emulated() {
            let run = |threads| {
                let pool =
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
                pool.install(|| blocked_product(isa, a.view(), &w, &Epilogue::default()))
            };
            let one = run(1);
            assert!([2, 3, 5].map(run).iter().all(|other| other == &one), "{precision}, {isa}");
        }
    }
}

#[test]
fn no_rows_and_no_depth_are_harmless() {
    for precision in Precision::ALL {
        for isa in Isa::all_and_emulated() {
            let none = PackedWeights::pack_for(precision, Tensor::<f32, 2>::zeros([3, 0]).view());
            let out = blocked_product(isa, Tensor::zeros([2, 0]).view(), &none, &Epilogue::default());
            assert_eq!(out.as_slice(), [0.0; 6], "{precision}, {isa}");
            let none = PackedWeights::pack_segments(precision, Tensor::<f32, 3>::zeros([3, 0, 4]).view());
            let out = blocked_product(isa, Tensor::zeros([2, 0]).view(), &none, &Epilogue::default());
            assert_eq!(out.as_slice(), [0.0; 6], "no segment, {precision}, {isa}");
            let none = PackedWeights::pack_for(precision, Tensor::<f32, 2>::zeros([0, 4]).view());
            let out = blocked_product(isa, Tensor::zeros([2, 4]).view(), &none, &Epilogue::default());
            assert!(out.is_empty(), "no column, {precision}, {isa}");
            let w = PackedWeights::pack_for(precision, Tensor::<f32, 2>::zeros([3, 4]).view());
            let out = blocked_product(isa, Tensor::zeros([0, 4]).view(), &w, &Epilogue::default());
            assert!(out.is_empty(), "{precision}, {isa}");
        }
    }
}
