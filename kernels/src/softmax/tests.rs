use aquatint_tensor::Tensor;

use super::*;
use crate::testing::{assert_close, random};

/// Shape and the factor on numbers between −1 and 1.
const CASES: [(&str, [usize; 3], f32); 7] = [
    ("no rows", [0, 3, 4], 1.0),
    ("no columns", [2, 3, 0], 1.0),
    ("equal numbers", [1, 2, 9], 0.0),
    ("one prompt", [2, 8, 77], 5.0),
    ("a sharp peak", [1, 4, 100], 200.0),
    ("numbers that overflow e^x", [1, 4, 100], 1e4),
    ("a row above a task", [1, 2, 20_000], 3.0),
];

#[test]
fn every_rung_agrees_with_the_reference() {
    for (name, shape, factor) in CASES {
        check(name, &random(shape, 1).map(|x| factor * x));
    }
}

#[test]
fn every_length_around_a_vector() {
    for columns in 1..=33 {
        check(&format!("{columns} columns"), &random([3, columns], columns as u64).map(|x| 4.0 * x));
    }
}

#[test]
fn shares_of_infinitely_small_numbers_are_zero() {
    let mut x = random([5, 40], 2);
    x.as_mut_slice().iter_mut().step_by(3).for_each(|x| *x = f32::NEG_INFINITY);
    check("every third is −∞", &x);
}

#[test]
fn nan_stays_in_its_row_and_is_not_hidden() {
    for isa in Isa::available() {
        for column in [0, 3, 17, 19] {
            let mut x = random([2, 20], 3);
            x[[0, column]] = f32::NAN;
            softmax(isa, &mut x);
            let (first, second) = x.as_slice().split_at(20);
            assert!(first.iter().all(|x| x.is_nan()), "{isa}, NaN in column {column}: {first:?}");
            assert!(second.iter().all(|x| x.is_finite()), "{isa}: {second:?}");
        }
    }
}

fn check<const N: usize>(name: &str, x: &Tensor<f32, N>) {
    let expected = reference::softmax(x.view());
    for isa in Isa::available() {
        let mut found = x.clone();
        three_pass::softmax(isa, &mut found);
        assert_close(&format!("three_pass, {name}, {isa}"), &found, &expected, 1e-6);
    }
}
