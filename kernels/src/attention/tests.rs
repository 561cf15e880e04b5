use aquatint_tensor::{Tensor, concat};

use super::{Attention, attention, attention_of_activations, flash, flash_bf16, pipelined, reference};
use crate::gemm::{Epilogue, PackedWeights};
use crate::linear::{linear, linear_packed};
use crate::packed_input::Activations;
use crate::testing::{assert_close, random, to_bf16};
use crate::{Isa, Precision};

struct Case {
    name: &'static str,
    images: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    head_dim: usize,
    causal: bool,
    /// Factor of the queries: large ones make the softmax nearly pick a single key.
    gain: f32,
}

fn cases() -> Vec<Case> {
    let plain = Case {
        name: "one token",
        images: 1,
        queries: 1,
        keys: 1,
        heads: 1,
        head_dim: 1,
        causal: false,
        gain: 1.0,
    };
    let text = Case { name: "clip", queries: 77, keys: 77, heads: 3, head_dim: 64, causal: true, ..plain };
    vec![
        Case { name: "self", images: 2, queries: 64, keys: 64, heads: 8, head_dim: 40, ..plain },
        Case { name: "cross", images: 2, queries: 100, keys: 77, heads: 5, head_dim: 64, ..plain },
        Case { name: "keys above a block", queries: 33, keys: 500, heads: 2, head_dim: 80, ..plain },
        Case { name: "head_dim 160", queries: 31, keys: 193, heads: 1, head_dim: 160, ..plain },
        Case { name: "the VAE's head", queries: 40, keys: 40, head_dim: 512, ..plain },
        Case { name: "odd head_dim", queries: 5, keys: 7, heads: 3, head_dim: 7, ..plain },
        Case { name: "sharp softmax", queries: 40, keys: 400, head_dim: 40, gain: 300.0, ..plain },
        Case { name: "causal above a block", queries: 300, keys: 300, head_dim: 8, causal: true, ..plain },
        Case { name: "fewer queries than keys, causal", queries: 40, ..text },
        text,
        plain,
    ]
}

fn inputs(case: &Case) -> [Tensor<f32, 4>; 3] {
    let q = random([case.images, case.queries, case.heads, case.head_dim], 1).map(|x| x * case.gain);
    let [k, v] = [2, 3].map(|seed| random([case.images, case.keys, case.heads, case.head_dim], seed));
    [q, k, v]
}

#[test]
fn flash_agrees_with_the_reference() {
    for case in cases() {
        let [q, k, v] = inputs(&case);
        let settings = Attention { causal: case.causal, ..Attention::new(case.head_dim) };
        let expected = reference::attention(q.view(), k.view(), v.view(), settings);
        // Scores grow with the gain, and so does what rounding them does to their exponentials.
        let tolerance = if case.gain > 1.0 { 1e-4 } else { 3e-6 };
        for isa in Isa::available() {
            let found = flash::attention(isa, q.view(), k.view(), v.view(), settings);
            assert_close(&format!("flash, {}, {isa}", case.name), &found, &expected, tolerance);
        }
    }
}

/// Numbers of few digits with a scale that is a power of two: then only P is rounded, to 2⁻⁸ of
/// each numerator, and a mean of values that are at most 1 is off by no more.
#[test]
fn flash_bf16_agrees_with_the_reference_on_every_unit() {
    for case in cases() {
        let [q, k, v] = inputs(&case).map(|x| to_bf16(&x));
        let settings = Attention {
            causal: case.causal,
            scale: Attention::new(case.head_dim).scale.log2().round().exp2(),
            precision: Precision::Bf16,
        };
        let expected = reference::attention(q.view(), k.view(), v.view(), settings);
        for isa in Isa::all_and_emulated() {
            let found = flash_bf16::attention(isa, q.view(), k.view(), v.view(), settings);
            assert_close(&format!("rounded, {}, {isa}", case.name), &found, &expected, 4e-3);
        }
    }
}

/// As above; numerators come from a table and are off by 2⁻⁷ at most. Where the gain is large, the
/// largest score is far above those for the first keys.
#[test]
fn pipelined_agrees_with_the_reference_on_every_unit() {
    for case in cases().into_iter().filter(|case| !case.causal && case.gain == 1.0) {
        let [q, k, v] = inputs(&case).map(|x| to_bf16(&x));
        let settings = Attention { precision: Precision::Bf16, ..Attention::new(case.head_dim) };
        let expected = reference::attention(q.view(), k.view(), v.view(), settings);
        for isa in Isa::all_and_emulated() {
            let (found, overflowed) = pipelined::attention(isa, q.view(), k.view(), v.view(), settings);
            assert!(overflowed.is_empty(), "{} was declined, {isa}", case.name);
            assert_close(&format!("pipelined, {}, {isa}", case.name), &found, &expected, 6e-3);
        }
    }
}

#[test]
fn pipelined_declines_what_it_cannot_represent() {
    // The first 32 keys score nothing, a later one 2^2000 times as much.
    let q = Tensor::full([1, 20, 1, 4], 100f32);
    let k = Tensor::from_fn([1, 70, 1, 4], |[_, key, ..]| if key == 40 { 10.0 } else { 0.0 });
    let v = random([1, 70, 1, 4], 1);
    let settings = Attention { precision: Precision::Bf16, ..Attention::new(4) };
    for isa in Isa::all_and_emulated() {
        assert_eq!(pipelined::attention(isa, q.view(), k.view(), v.view(), settings).1, [0], "{isa}");
        let found = attention(isa, q.view(), k.view(), v.view(), settings);
        let expected = reference::attention(q.view(), k.view(), v.view(), settings);
        assert_close(&format!("{isa}"), &found, &expected, 4e-3);
    }
}

#[test]
fn an_overflowed_image_leaves_the_others_alone() {
    let settings = Attention { precision: Precision::Bf16, ..Attention::new(8) };
    let ordinary = [random([1, 20, 2, 8], 1), random([1, 70, 2, 8], 2), random([1, 70, 2, 8], 3)];
    let mut overflowed = ordinary.clone().map(|x| x.map(|x| x + 1.0));
    overflowed[1][[0, 40, 1, 3]] = 1e6;
    for isa in Isa::all_and_emulated() {
        let [q, k, v] = [0, 1, 2].map(|i| concat(&[ordinary[i].view(), overflowed[i].view()], 0));
        assert_eq!(pipelined::attention(isa, q.view(), k.view(), v.view(), settings).1, [1], "{isa}");
        let both = attention(isa, q.view(), k.view(), v.view(), settings);
        let operands = [&q, &k, &v].map(|x| operand(isa, x));
        let both_of_operands = rows_of(isa, &attention_of_activations(isa, operands.each_ref(), 2, settings));
        for (image, [q, k, v]) in [&ordinary, &overflowed].into_iter().enumerate() {
            let alone = attention(isa, q.view(), k.view(), v.view(), settings);
            assert!(both.view().slice(0, image..image + 1).to_tensor() == alone, "{image}, {isa}");
            let operands = [q, k, v].map(|x| operand(isa, x));
            let alone = rows_of(isa, &attention_of_activations(isa, operands.each_ref(), 2, settings));
            let found = both_of_operands.view().slice(0, image..image + 1).to_tensor();
            assert!(found == alone, "operands, {image}, {isa}");
        }
    }
}

/// What an operand holds.
fn rows_of(isa: Isa, x: &Activations<3>) -> Tensor<f32, 3> {
    let [.., channels] = x.shape();
    let one = Tensor::from_fn([channels; 2], |[i, j]| f32::from(u8::from(i == j)));
    linear(isa, x, &PackedWeights::pack_for(Precision::Bf16, one.view()), Epilogue::default())
}

/// PackedA by a linear layer that changes nothing, as [`attention_of_activations`] takes them.
fn operand(isa: Isa, x: &Tensor<f32, 4>) -> Activations<3> {
    let [n, tokens, heads, head_dim] = x.shape();
    let channels = heads * head_dim;
    let one = Tensor::from_fn([channels; 2], |[i, j]| f32::from(u8::from(i == j)));
    let x = x.view().reshape([n, tokens, channels]).expect("row-major");
    linear_packed(isa, x, &PackedWeights::pack_for(Precision::Bf16, one.view()), None)
}

#[test]
fn attention_of_operands_has_the_bits_of_attention_of_their_numbers() {
    let case = cases().into_iter().find(|case| case.name == "self").expect("a case of that name");
    for (heads, head_dim, gain) in [(8, 40, 1.0), (2, 80, 1.0), (3, 8, 1.0), (2, 160, 1.0), (8, 40, 300.0)] {
        let case = Case { heads, head_dim, gain, keys: 77, queries: 150, ..case };
        let [q, k, v] = inputs(&case).map(|x| to_bf16(&x));
        let settings = Attention { precision: Precision::Bf16, ..Attention::new(head_dim) };
        for isa in Isa::all_and_emulated() {
            // The queries of one image meet the keys of both.
            let q = q.view().slice(0, 0..1).to_tensor();
            let both = concat(&[q.view(); 2], 0);
            let (pipelined_out, overflowed) =
                pipelined::attention(isa, both.view(), k.view(), v.view(), settings);
            assert_eq!(overflowed.is_empty(), gain == 1.0, "{isa}");
            let expected = match overflowed[..] {
                [] => pipelined_out,
                _ => flash_bf16::attention(isa, both.view(), k.view(), v.view(), settings),
            };
            let operands = [&q, &k, &v].map(|x| operand(isa, x));
            let found = attention_of_activations(isa, operands.each_ref(), heads, settings);
            let found = rows_of(isa, &found);
            let expected = to_bf16(&expected).reshape(found.shape());
            assert!(found == expected, "{heads} heads of {head_dim}, {isa}");
        }
    }
}

#[test]
fn split_operands_are_nearly_f32_on_every_unit() {
    for case in cases() {
        let [q, k, v] = inputs(&case);
        let precision = Precision::Bf16x3;
        let settings = Attention { causal: case.causal, precision, ..Attention::new(case.head_dim) };
        let expected = reference::attention(q.view(), k.view(), v.view(), settings);
        let tolerance = if case.gain > 1.0 { 1e-3 } else { 2e-5 };
        for isa in Isa::all_and_emulated() {
            let found = flash_bf16::attention(isa, q.view(), k.view(), v.view(), settings);
            assert_close(&format!("split, {}, {isa}", case.name), &found, &expected, tolerance);
        }
    }
}

#[test]
fn scores_far_below_and_far_above_zero_stay_finite() {
    let q = Tensor::full([1, 3, 1, 4], 1e4f32);
    let v = random([1, 400, 1, 4], 3);
    for sign in [-1.0, 1.0] {
        // Ever larger scores: each block corrects all before it.
        let k = Tensor::from_fn([1, 400, 1, 4], |[_, key, _, _]| sign * key as f32);
        let expected = reference::attention(q.view(), k.view(), v.view(), Attention::new(4));
        for isa in Isa::all_and_emulated() {
            for precision in Precision::ALL {
                // The one key that wins has the weight 1, so that only its value is rounded.
                let tolerance = if precision == Precision::Bf16 { 4e-3 } else { 1e-5 };
                let settings = Attention { precision, ..Attention::new(4) };
                let found = attention(isa, q.view(), k.view(), v.view(), settings);
                assert_close(&format!("sign {sign}, {precision}, {isa}"), &found, &expected, tolerance);
            }
        }
    }
}

#[test]
fn nan_is_not_hidden() {
    // What arithmetic makes on x86 has its sign set.
    for (nan, key) in [(f32::NAN, 20), (-f32::NAN, 20), (-f32::NAN, 49)] {
        let mut k = random([1, 50, 1, 8], 2);
        k[[0, key, 0, 3]] = nan;
        let (q, v) = (random([1, 4, 1, 8], 1), random([1, 50, 1, 8], 3));
        for precision in Precision::ALL {
            let settings = Attention { precision, ..Attention::new(8) };
            for isa in Isa::all_and_emulated() {
                let found = attention(isa, q.view(), k.view(), v.view(), settings);
                assert!(found.as_slice().iter().all(|x| x.is_nan()), "{nan:?}, {precision}, {isa}");
            }
        }
    }
}

#[test]
fn heads_may_be_a_view_of_a_projection() {
    let projection = random([2, 30, 3 * 2 * 8], 1);
    let split = projection.view().reshape([2, 30, 3, 2, 8]).expect("an axis can be cut without a copy");
    let part = |i| split.select::<4>(2, i);
    let expected = reference::attention(part(0), part(1), part(2), Attention::new(8));
    for (precision, tolerance) in [(Precision::F32, 3e-6), (Precision::Bf16x3, 2e-5)] {
        let settings = Attention { precision, ..Attention::new(8) };
        for isa in Isa::all_and_emulated() {
            let found = attention(isa, part(0), part(1), part(2), settings);
            assert_close(&format!("views, {precision}, {isa}"), &found, &expected, tolerance);
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let [q, k, v] = inputs(&Case { images: 2, queries: 100, keys: 300, heads: 3, ..cases().remove(0) });
    for precision in Precision::ALL {
        let settings = Attention { precision, ..Attention::new(40) };
        for isa in Isa::all_and_emulated() {
            let run = |threads| -> Tensor<f32, 4> {
                let pool =
                    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
                pool.install(|| attention(isa, q.view(), k.view(), v.view(), settings))
            };
            let one = run(1);
            assert!([2, 5].map(run).iter().all(|other| other == &one), "{precision}, {isa}");
        }
    }
}
