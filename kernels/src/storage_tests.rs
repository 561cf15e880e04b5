//! Layers that store f16 and read it: the arithmetic is that of f32, so they must give the bits of
//! layers in f32 whose inputs were widened and whose outputs are rounded.

use aquatint_tensor::{Tensor, View, f16};

use crate::conv2d::upsample::{UpsampleWeights, upsample_conv};
use crate::conv2d::{ConvWeights, Geometry, Padding, conv2d};
use crate::cpu::simd::{Op, Simd};
use crate::cpu::stored::Stored;
use crate::gemm::{Epilogue, PackedWeights};
use crate::linear::{linear, linear_concat};
use crate::norm::group::{Activation, GroupNorm, NormInput, group_norm_packed};
use crate::norm::layer::layer_norm_packed;
use crate::packed_input::ALayout;
use crate::testing::random;
use crate::{Isa, Precision};

/// Numbers in f16, and the same in f32.
fn both<const N: usize>(shape: [usize; N], seed: u64) -> (Tensor<f16, N>, Tensor<f32, N>) {
    let half = random(shape, seed).map(|x| 3.0 * x).convert::<f16>();
    let wide = half.convert::<f32>();
    (half, wide)
}

fn everywhere(mut f: impl FnMut(Isa, Precision)) {
    for isa in Isa::all_and_emulated() {
        Precision::ALL.into_iter().for_each(|precision| f(isa, precision));
    }
}

/// The epilogue of a layer with a bias, and a residual in this type.
fn epilogue<'a, T: Stored>(bias: &'a Tensor<f32, 1>, residual: &'a [T]) -> Epilogue<'a, T> {
    Epilogue { bias: Some(bias.as_slice()), residual: Some(residual), scale: 0.5, ..Epilogue::none() }
}

#[test]
fn linear_layers_read_and_store_f16() {
    for [rows, depth, columns] in [[1, 5, 3], [70, 96, 64], [300, 70, 45]] {
        let (half, wide) = both([rows, depth], 1);
        let (half_residual, residual) = both([rows, columns], 2);
        let (w, bias) = (random([columns, depth], 3), random([columns], 4));
        everywhere(|isa, precision| {
            let w = PackedWeights::pack_for(precision, w.view());
            let expected = linear(isa, wide.view(), &w, epilogue(&bias, residual.as_slice()));
            let found = linear(isa, f16::view(half.view()), &w, epilogue(&bias, half_residual.as_slice()));
            assert!(found == expected.convert::<f16>(), "{rows}×{depth}→{columns}, {precision}, {isa}");
        });
    }
}

#[test]
fn joined_inputs_are_read_in_f16() {
    let ((half, wide), (few_half, few)) = (both([26, 80], 1), both([13, 40], 2));
    let w = random([70, 3, 40], 3);
    everywhere(|isa, precision| {
        let w = PackedWeights::pack_segments(precision, w.view());
        let expected = linear_concat(isa, &[wide.view(), few.view()], &w, Epilogue::default());
        let found = linear_concat(isa, &[half.view(), few_half.view()], &w, Epilogue::none());
        assert!(found == expected.convert::<f16>(), "{precision}, {isa}");
    });
}

#[test]
fn convolutions_read_and_store_f16() {
    for (size, channels, out_channels, geometry) in [
        ([8, 32], 40, 70, Geometry::same(3)),
        ([8, 8], 24, 32, Geometry::same(3)),
        ([9, 6], 70, 33, Geometry::halving(Padding::all(1))),
        ([5, 7], 33, 64, Geometry::same(1)),
    ] {
        let [kernel_h, kernel_w] = geometry.kernel_size;
        let (half, wide) = both([2, size[0], size[1], channels], 1);
        let (w, bias) = (random([out_channels, channels, kernel_h, kernel_w], 3), random([out_channels], 4));
        let [out_h, out_w] = geometry.output(size).expect("the window fits");
        let (half_residual, residual) = both([2, out_h, out_w, out_channels], 2);
        everywhere(|isa, precision| {
            let w = ConvWeights::pack_for(precision, w.view());
            let what = format!("{size:?}, {channels}→{out_channels}, {precision}, {isa}");
            let half_epilogue = epilogue(&bias, half_residual.as_slice());
            let expected = conv2d(isa, wide.view(), &w, geometry, epilogue(&bias, residual.as_slice()));
            let found = conv2d(isa, wide.view(), &w, geometry, half_epilogue);
            assert!(found == expected.convert::<f16>(), "stored: {what}");
            // What is not packed yet is not filtered, whose sums have another order.
            if precision != Precision::F32 {
                let found = conv2d(isa, f16::view(half.view()), &w, geometry, half_epilogue);
                assert!(found == expected.convert::<f16>(), "read: {what}");
            }
        });
    }
}

#[test]
fn enlarging_convolutions_read_and_store_f16() {
    for size in [[4, 6], [16, 16]] {
        let (half, wide) = both([2, size[0], size[1], 40], 1);
        let w = random([40, 40, 3, 3], 2);
        everywhere(|isa, precision| {
            let w = UpsampleWeights::pack_for(precision, w.view());
            let expected: Tensor<f32, 4> = upsample_conv(isa, wide.view(), &w, Epilogue::default());
            let found = upsample_conv(isa, half.view(), &w, Epilogue::<f16>::none());
            assert!(found == expected.convert::<f16>(), "{size:?}, {precision}, {isa}");
        });
    }
}

#[test]
fn norms_read_f16() {
    let (half, wide) = both([2, 5, 8, 70], 1);
    let (weight, bias) = (random([70], 2), random([70], 3));
    let (weight, bias) = (weight.as_slice(), bias.as_slice());
    let norm = GroupNorm { num_groups: 7, eps: 1e-5, weight, bias, activation: Activation::Silu };
    // What was packed can be read by a product only.
    let w = random([64, 70], 4);
    everywhere(|isa, precision| {
        let w = PackedWeights::pack_for(precision, w.view());
        let group = |x: &crate::packed_input::Activations<4>| linear(isa, x, &w, Epilogue::default());
        let layout = ALayout::rows(precision);
        let expected = group_norm_packed(isa, &[NormInput::from(wide.view())], norm, layout);
        let found = group_norm_packed(isa, &[NormInput::from(half.view())], norm, layout);
        assert!(group(&found) == group(&expected), "group norm, {precision}, {isa}");
        let layer = |x: &crate::packed_input::Activations<4>| linear(isa, x, &w, Epilogue::default());
        let expected = layer_norm_packed(isa, wide.view(), weight, bias, 1e-5, precision);
        let found = layer_norm_packed(isa, half.view(), weight, bias, 1e-5, precision);
        assert!(layer(&found) == layer(&expected), "layer norm, {precision}, {isa}");
    });
}

/// Stores vectors and loads them again.
struct ThroughF16<'a>(&'a [f32]);

impl Op for ThroughF16<'_> {
    type Output = (Vec<f16>, Vec<f32>);
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> Self::Output {
        let mut half = vec![f16::ZERO; self.0.len()];
        let mut wide = vec![0.0; self.0.len()];
        for (i, x) in self.0.chunks_exact(S::LANES).enumerate() {
            let at = i * S::LANES;
            match i % 2 {
                0 => f16::store(s, s.load(x), &mut half[at..]),
                _ => f16::stream(s, s.load(x), &mut half[at..]),
            }
            s.store(f16::load(s, &half[at..]), &mut wide[at..]);
        }
        s.drain();
        (half, wide)
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_f16_and_what_is_too_large_is_infinite() {
    let mut x: Vec<f32> = random([4096], 1).as_slice().iter().map(|x| x * 70000.0).collect();
    x.extend((0..4096).map(|i| f32::from_bits(0x3300_0000 + i * 0x3_0001))); // down to the smallest
    x.extend([65504.0, 65519.9, 65520.0, -1e9, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0].repeat(2));
    x.extend([f32::NAN; 16]);
    for isa in Isa::available() {
        let (half, wide) = isa.run(ThroughF16(&x));
        for ((x, half), wide) in x.iter().zip(half).zip(wide) {
            let expected = f16::from_f32(*x);
            assert!(
                half.to_bits() == expected.to_bits() || half.is_nan() && x.is_nan(),
                "{isa}: {x}: {half}"
            );
            assert!(wide == expected.to_f32() || wide.is_nan() && x.is_nan(), "{isa}: {x}: {wide}");
        }
    }
}

#[test]
fn what_f16_cannot_hold_is_seen_behind_the_next_norm() {
    let mut x: Tensor<f16, 4> = both([2, 3, 4, 8], 1).0;
    x[[1, 2, 0, 5]] = f16::INFINITY;
    let (weight, bias) = ([1.0; 8], [0.0; 8]);
    let norm =
        GroupNorm { num_groups: 1, eps: 1e-5, weight: &weight, bias: &bias, activation: Activation::Silu };
    for isa in Isa::available() {
        let layout = ALayout::image(Precision::F32);
        let y = group_norm_packed(isa, &[NormInput::from(x.view())], norm, layout).into_tensor();
        let finite = |image: View<'_, f32, 4>| image.to_tensor().as_slice().iter().all(|x| x.is_finite());
        assert!(finite(y.view().slice(0, 0..1)), "{isa}: the other image is as it was");
        assert!(y.view().slice(0, 1..2).to_tensor().as_slice().iter().all(|x| x.is_nan()), "{isa}");
    }
}
