use aquatint_tensor::Tensor;

use super::{Attention, blocked, reference};
use crate::Isa;
use crate::testing::{assert_close, random};

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
fn blocked_agrees_with_the_reference() {
    for case in cases() {
        let [q, k, v] = inputs(&case);
        let settings = Attention { causal: case.causal, ..Attention::new(case.head_dim) };
        let expected = reference::attention(q.view(), k.view(), v.view(), settings);
        // Scores grow with the gain, and so does what rounding them does to their exponentials.
        let tolerance = if case.gain > 1.0 { 1e-4 } else { 3e-6 };
        for isa in Isa::available() {
            let found = blocked::attention(isa, q.view(), k.view(), v.view(), settings);
            assert_close(&format!("blocked, {}, {isa}", case.name), &found, &expected, tolerance);
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
        for isa in Isa::available() {
            let found = blocked::attention(isa, q.view(), k.view(), v.view(), Attention::new(4));
            assert_close(&format!("sign {sign}, {isa}"), &found, &expected, 1e-6);
        }
    }
}

#[test]
fn nan_is_not_hidden() {
    let mut k = random([1, 50, 1, 8], 2);
    k[[0, 20, 0, 3]] = f32::NAN;
    let (q, v) = (random([1, 4, 1, 8], 1), random([1, 50, 1, 8], 3));
    for isa in Isa::available() {
        let found = blocked::attention(isa, q.view(), k.view(), v.view(), Attention::new(8));
        assert!(found.as_slice().iter().all(|x| x.is_nan()), "{isa}");
    }
}

#[test]
fn heads_may_be_a_view_of_a_projection() {
    let projection = random([2, 30, 3 * 2 * 8], 1);
    let split = projection.view().reshape([2, 30, 3, 2, 8]).expect("an axis can be cut without a copy");
    let part = |i| split.select::<4>(2, i);
    let settings = Attention::new(8);
    let expected = reference::attention(part(0), part(1), part(2), settings);
    for isa in Isa::available() {
        let found = blocked::attention(isa, part(0), part(1), part(2), settings);
        assert_close(&format!("views, {isa}"), &found, &expected, 3e-6);
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let [q, k, v] = inputs(&Case { images: 2, queries: 100, keys: 300, heads: 3, ..cases().remove(0) });
    let settings = Attention::new(40);
    for isa in Isa::available() {
        let run = |threads| -> Tensor<f32, 4> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
            pool.install(|| blocked::attention(isa, q.view(), k.view(), v.view(), settings))
        };
        let one = run(1);
        assert!([2, 5].map(run).iter().all(|other| other == &one), "{isa}");
    }
}
