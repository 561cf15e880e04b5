use aquatint_tensor::Tensor;

use super::*;
use crate::testing::random;

#[test]
fn four_by_four_becomes_eight_by_eight() {
    let x = Tensor::from_vec([1, 4, 4, 1], (1..=16).map(|i| i as f32).collect());
    #[rustfmt::skip]
    let expected = [
         1,  1,  2,  2,  3,  3,  4,  4,
         1,  1,  2,  2,  3,  3,  4,  4,
         5,  5,  6,  6,  7,  7,  8,  8,
         5,  5,  6,  6,  7,  7,  8,  8,
         9,  9, 10, 10, 11, 11, 12, 12,
         9,  9, 10, 10, 11, 11, 12, 12,
        13, 13, 14, 14, 15, 15, 16, 16,
        13, 13, 14, 14, 15, 15, 16, 16,
    ].map(|i| i as f32);
    assert_eq!(reference::nearest(x.view(), [8, 8]).as_slice(), expected);
    for isa in Isa::available() {
        let found = nearest_2x(isa, x.view());
        assert_eq!((found.shape(), found.as_slice()), ([1, 8, 8, 1], &expected[..]), "{isa}");
    }
}

#[test]
fn every_rung_agrees_with_the_reference() {
    let cases = [
        ("no image", [0, 2, 2, 3], [4, 4]),
        ("no channels", [1, 2, 2, 0], [4, 4]),
        ("to nothing", [1, 2, 2, 3], [0, 4]),
        ("one pixel", [1, 1, 1, 1], [3, 5]),
        ("the same size", [2, 3, 4, 5], [3, 4]),
        ("an odd size doubled less one", [2, 5, 7, 3], [9, 13]),
        ("smaller", [1, 7, 9, 2], [3, 4]),
        ("doubled", [2, 8, 16, 40], [16, 32]),
    ];
    for (name, shape, size) in cases {
        let x = random(shape, 1);
        let expected = reference::nearest(x.view(), size);
        for isa in Isa::available() {
            assert_eq!(nearest(isa, x.view(), size), expected, "nearest, {name}, {isa}");
        }
    }
}

#[test]
fn views_of_any_strides_are_taken() {
    let x = random([2, 3, 4, 5], 2);
    let view = x.view().permute([0, 2, 1, 3]).slice(3, 1..4);
    assert_eq!(nearest_2x(Isa::best(), view), reference::nearest(view, [8, 6]));
}

/// `torch.nn.functional.interpolate(torch.arange(26.0)[None, None], size=22)`: 26/22 rounded to f32
/// is a little less than 13/11, so index 11 shows 12 where exact arithmetic shows 13.
#[test]
fn ties_fall_as_in_pytorch() {
    let x = Tensor::from_vec([1, 1, 26, 1], (0..26).map(|i| i as f32).collect());
    let expected =
        [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24].map(|i| i as f32);
    assert_eq!(reference::nearest(x.view(), [1, 22]).as_slice(), expected);
    assert_eq!(nearest(Isa::best(), x.view(), [1, 22]).as_slice(), expected);
}

#[test]
#[should_panic(expected = "cannot make 2 × 2 pixels out of 0 × 3")]
fn nothing_cannot_grow() {
    nearest(Isa::best(), Tensor::zeros([1, 0, 3, 1]).view(), [2, 2]);
}
