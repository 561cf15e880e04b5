use aquatint_tensor::Tensor;

use super::*;
use crate::cpu::partition::CHUNK;
use crate::cpu::simd::pointwise::CoarseGelu;
use crate::testing::{assert_close, random};

type Kernel = fn(Isa, &mut [f32]);
type Definition = fn(f64) -> f64;

const KERNELS: [(&str, Kernel, Definition); 4] = [
    ("silu", silu, reference::silu),
    ("gelu", gelu, reference::gelu),
    ("gelu_tanh", gelu_tanh, reference::gelu_tanh),
    ("quick_gelu", quick_gelu, reference::quick_gelu),
];

#[test]
fn every_activation_agrees_with_its_reference() {
    // Every length around one and two vectors, and the lengths around one task.
    for len in (0..=33).chain([CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]) {
        let x = random([len], len as u64).map(|x| 12.0 * x);
        for (name, kernel, reference) in KERNELS {
            let expected = x.map(|x| reference(f64::from(x)) as f32);
            for isa in Isa::available() {
                let mut found = x.clone();
                kernel(isa, found.as_mut_slice());
                assert_close(&format!("{name}, {len} numbers, {isa}"), &found, &expected, 1e-6);
            }
        }
    }
}

#[test]
fn small_and_large_numbers_keep_their_digits() {
    let x = Tensor::from_vec([9], vec![-1e30, -1000.0, -90.0, -1e-3, 1e-20, 1e-3, 90.0, 1000.0, 1e30]);
    for (name, kernel, reference) in KERNELS {
        for isa in Isa::available() {
            let mut found = x.clone();
            kernel(isa, found.as_mut_slice());
            for (&x, &found) in x.as_slice().iter().zip(found.as_slice()) {
                let expected = reference(f64::from(x));
                let error = (f64::from(found) - expected).abs();
                assert!(
                    error <= 1e-6 * expected.abs() + 1e-8,
                    "{name}, {isa}: f({x:e}) = {found:e}, expected {expected:e}"
                );
            }
        }
    }
}

#[test]
fn the_coarse_gelu_is_within_its_bounds() {
    let x: Vec<f32> = (-90_000..90_000).map(|i| i as f32 * 1e-4).chain([-1e30, 1e30]).collect();
    for isa in Isa::available() {
        let mut found = x.clone();
        isa.run(InPlace { x: &mut found, f: CoarseGelu });
        for (&x, &found) in x.iter().zip(&found) {
            let expected = reference::gelu(f64::from(x));
            let error = (f64::from(found) - expected).abs();
            // Beyond 1000 an f32 has no such digits.
            let absolute = error < 1e-4 || x > 1e3;
            let relative = error <= 6e-4 * expected.abs();
            assert!(
                absolute && (x < -1.0 || relative),
                "{isa}: gelu({x}) = {found}, expected {expected}, error {error:e}"
            );
        }
        let mut bad = [f32::NAN; 16];
        isa.run(InPlace { x: &mut bad, f: CoarseGelu });
        assert!(bad.iter().all(|x| x.is_nan()), "{isa}");
    }
}

#[test]
fn nan_is_not_hidden() {
    for (name, kernel, _) in KERNELS {
        for isa in Isa::available() {
            let mut x = [1.0, f32::NAN, 2.0];
            kernel(isa, &mut x);
            assert!(x[1].is_nan() && x[0].is_finite(), "{name}, {isa}: {x:?}");
        }
    }
}

#[test]
fn geglu_agrees_with_its_reference() {
    let cases = [
        ("nothing", [0, 3, 8]),
        ("no channels", [2, 3, 0]),
        ("one gate", [1, 1, 2]),
        ("less than a vector", [2, 3, 10]),
        ("a vector and a part", [1, 5, 38]),
        ("the tokens of a small layer", [2, 64, 2560]),
    ];
    for (name, shape) in cases {
        let x = random(shape, 3).map(|x| 4.0 * x);
        let expected = reference::geglu(x.view());
        for isa in Isa::available() {
            assert_close(&format!("geglu, {name}, {isa}"), &geglu(isa, x.view()), &expected, 3e-6);
        }
    }
}

#[test]
fn geglu_takes_views_of_any_strides() {
    let x = random([4, 3, 12], 4);
    let part = x.view().slice(2, 1..11).permute([1, 0, 2]);
    assert_close("geglu of a view", &geglu(Isa::best(), part), &reference::geglu(part), 1e-6);
}

#[test]
#[should_panic(expected = "which is odd")]
fn geglu_needs_two_halves() {
    geglu(Isa::best(), Tensor::zeros([1, 3]).view());
}

#[test]
fn prelu_agrees_with_its_reference_at_every_number_of_channels() {
    for channels in (1..=33).chain([64]) {
        let (x, slopes) = (random([70, channels], 1), random([channels], 2));
        let expected = Tensor::from_fn([70, channels], |[pixel, c]| {
            reference::prelu(f64::from(x[[pixel, c]]), f64::from(slopes[[c]])) as f32
        });
        for isa in Isa::available() {
            let mut found = x.clone();
            prelu(isa, found.as_mut_slice(), slopes.as_slice());
            assert_close(&format!("prelu, {channels} channels, {isa}"), &found, &expected, 1e-7);
        }
    }
}
