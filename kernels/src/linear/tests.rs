use super::*;
use crate::activation;
use crate::cpu::partition::for_each_chain;
use crate::gemm::reference;
use crate::norm::layer::{layer_norm, layer_norm_packed};
use crate::testing::{assert_close, random, to_bf16};

#[test]
fn joined_inputs_are_multiplied_as_if_they_were_one() {
    let w = random([70, 120], 3);
    let segments = w.view().reshape([70, 3, 40]).expect("row-major");
    let (a, b) = (random([26, 80], 1), random([13, 40], 2));
    let twice = aquatint_tensor::concat(&[b.view(), b.view()], 0);
    let joined = aquatint_tensor::concat(&[a.view(), twice.view()], 1);
    let residual = random([26, 70], 4);
    let plain = reference::product(joined.view(), w.view());
    let expected = Tensor::from_fn([26, 70], |index| plain[index] + residual[index]);
    for precision in [Precision::F32, Precision::Bf16x3] {
        let packed = PackedWeights::pack_segments(precision, segments);
        for isa in Isa::all_and_emulated() {
            let epilogue = Epilogue { residual: Some(residual.as_slice()), ..Epilogue::default() };
            let found = linear_concat(isa, &[a.view(), b.view()], &packed, epilogue);
            assert_close(&format!("joined, {precision}, {isa}"), &found, &expected, 1.5e-5);
        }
    }
}

#[test]
fn a_large_output_has_the_same_bits_past_the_caches_and_through_them() {
    const LINE: usize = 16; // numbers of a cache line
    let [rows, features] = [1100, 500]; // 2.2 MB: a tile unit streams it, if it begins at a line
    let (x, residual) = (random([rows, 40], 1), random([rows, features], 3));
    let epilogue = Epilogue { residual: Some(residual.as_slice()), ..Epilogue::default() };
    for precision in [Precision::Bf16, Precision::Bf16x3] {
        let w = PackedWeights::pack_for(precision, random([features, 40], 2).view());
        for isa in Isa::all_and_emulated() {
            let [aligned, apart] = [0, 1].map(|shift| {
                let mut memory = vec![f32::NAN; rows * features + 2 * LINE];
                let first = memory.as_ptr().align_offset(64) + shift;
                let out = &mut memory[first..][..rows * features];
                linear_into(isa, x.view(), &w, epilogue, out);
                out.to_vec()
            });
            assert!(aligned == apart, "{precision}, {isa}");
        }
    }
}

#[test]
fn values_and_gates_meet_whatever_their_number() {
    // Of inputs one step and many blocks deep; of outputs half a panel, one and a half, and more
    // tasks than one.
    for (rows, in_features, features) in [(5, 7, 16), (300, 40, 48), (37, 4200, 72), (530, 330, 400)] {
        let (x, w) = (random([rows, in_features], 1), random([2 * features, in_features], 2));
        let (w, bias) = (w.map(|w| w / (in_features as f32).sqrt()), random([2 * features], 3));
        let rounded = (to_bf16(&x), to_bf16(&w));
        // In bf16 nothing but the result is rounded, by half of its last place, 2⁻⁸; the coarse
        // gelu adds its 10⁻⁴.
        for (precision, (x, w), tolerance) in [
            (Precision::F32, (&x, &w), 3e-5),
            (Precision::Bf16x3, (&x, &w), 3e-5),
            (Precision::Bf16, (&rounded.0, &rounded.1), 4.1e-3),
        ] {
            let product = reference::product(x.view(), w.view());
            let product = Tensor::from_fn([rows, 2 * features], |[m, n]| product[[m, n]] + bias[[n]]);
            let expected = activation::reference::geglu(product.view());
            let w = GegluWeights::pack(precision, w.view(), bias.as_slice());
            for isa in Isa::all_and_emulated() {
                let what = format!("{rows}×{in_features} → {features}, {precision}, {isa}");
                let y = linear_geglu(isa, x.view(), &w);
                assert_eq!(y.shape(), [rows, features], "{what}");
                // A rounded result can be read by a product only: here with the identity.
                let same = Tensor::from_fn([features, features], |[i, j]| f32::from(i == j));
                let same = PackedWeights::pack_for(precision, same.view());
                let found = linear(isa, &y, &same, Epilogue::default());
                assert_close(&what, &found, &expected, tolerance);
            }
        }
    }
}

#[test]
fn gated_sums_of_a_rounded_operand_have_the_bits_of_those_of_its_tensor() {
    let x = random([70, 64], 1);
    let (w, bias) = (random([128, 64], 2), random([128], 3));
    let (weight, zero) = (vec![1.0; 64], vec![0.0; 64]);
    for precision in Precision::ALL {
        let w = GegluWeights::pack(precision, w.view(), bias.as_slice());
        let same =
            PackedWeights::pack_for(precision, Tensor::from_fn([64, 64], |[i, j]| f32::from(i == j)).view());
        for isa in Isa::all_and_emulated() {
            let tensor = layer_norm(isa, x.view(), &weight, &zero, 1e-5);
            let operand = layer_norm_packed(isa, x.view(), &weight, &zero, 1e-5, precision);
            let through = |y: &Activations<2>| linear(isa, y, &same, Epilogue::default());
            let expected = through(&linear_geglu(isa, tensor.view(), &w));
            assert!(through(&linear_geglu(isa, &operand, &w)) == expected, "{precision}, {isa}");
        }
    }
}

#[test]
fn a_rounded_residual_layer_has_the_bits_of_rounding_its_sums() {
    const CHUNK: usize = 32;
    let [rows, features, in_features] = [70, 80, 40]; // a chunk and a panel that are not whole
    let (x, w) = (random([rows, in_features], 1), random([features, in_features], 2));
    let (bias, residual) = (random([features], 3), random([rows, features], 4));
    let same = Tensor::from_fn([features; 2], |[i, j]| f32::from(i == j));
    for precision in [Precision::Bf16, Precision::Bf16x3] {
        let [w, same] = [&w, &same].map(|w| PackedWeights::pack_for(precision, w.view()));
        for isa in Isa::all_and_emulated() {
            for bias in [None, Some(bias.as_slice())] {
                let residual = residual.as_slice();
                let epilogue = Epilogue { bias, residual: Some(residual), ..Epilogue::default() };
                let sums = linear(isa, x.view(), &w, epilogue);
                let expected = linear(isa, sums.view(), &same, Epilogue::default());
                let mut out = Activations::recycled(precision, [rows, features]);
                let chunks = out.row_chunks(CHUNK).into_iter().enumerate().collect();
                for_each_chain(chunks, |(i, out)| {
                    let rows = i * CHUNK..rows.min((i + 1) * CHUNK);
                    let residual = &residual[rows.start * features..rows.end * features];
                    linear_packed_into(isa, x.view().slice(0, rows), &w, [bias, Some(residual)], out);
                });
                let found = linear(isa, &out, &same, Epilogue::default());
                assert!(found == expected, "{precision}, {isa}");
            }
        }
    }
}

#[test]
fn some_rows_have_the_bits_that_they_have_among_all() {
    let (x, w) = (random([70, 40], 1), random([80, 40], 2));
    let (weight, zero) = (vec![1.0; 40], vec![0.0; 40]);
    for precision in Precision::ALL {
        let w = PackedWeights::pack_for(precision, w.view());
        for isa in Isa::all_and_emulated() {
            let x = layer_norm_packed(isa, x.view(), &weight, &zero, 1e-5, precision);
            let all = linear(isa, &x, &w, Epilogue::default());
            for rows in [0..70, 32..64, 16..21, 64..70] {
                let expected = all.view().slice(0, rows.clone()).to_tensor();
                let found = linear_of_rows(isa, &x, rows.clone(), &w, Epilogue::default());
                assert!(found == expected, "rows {rows:?}, {precision}, {isa}");
            }
        }
    }
}

#[test]
fn gates_open_to_the_same_bits_on_any_number_of_threads() {
    let (x, w, bias) = (random([300, 600], 1), random([2 * 96, 600], 2), random([2 * 96], 3));
    for precision in Precision::ALL {
        let w = GegluWeights::pack(precision, w.view(), bias.as_slice());
        let same = Tensor::from_fn([96, 96], |[i, j]| f32::from(i == j));
        let same = PackedWeights::pack_for(precision, same.view());
        for isa in Isa::all_and_emulated() {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.expect("a thread pool");
                pool.install(|| linear(isa, &linear_geglu(isa, x.view(), &w), &same, Epilogue::default()))
            };
            let one = run(1);
            assert!([2, 3].map(run).iter().all(|other| other == &one), "{precision}, {isa}");
        }
    }
}

#[test]
#[should_panic(expected = "a segment of 40 numbers would cross the border after 60 columns")]
fn a_border_inside_of_a_segment_is_refused() {
    let packed = PackedWeights::pack_segments(Precision::F32, random([5, 3, 40], 1).view());
    let (a, b) = (random([2, 60], 2), random([2, 60], 3));
    linear_concat(Isa::best(), &[a.view(), b.view()], &packed, Epilogue::default());
}
