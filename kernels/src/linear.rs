//! A linear layer: `y = x·Wᵀ + b` on the last axis, whatever the axes before it mean.
//!
//! | | |
//! |---|---|
//! | [`linear`], [`linear_into`] | f32 comes out |
//! | [`linear_packed`] | what comes out is rounded, for attention |
//! | [`linear_geglu`] | with GEGLU behind it, never writing the wide product |
//! | [`linear_concat`] | of inputs side by side, without joining them |
//!
//! The product itself is [`gemm`](crate::gemm)'s `blocked.rs`, or that of `tiled.rs`.

use std::borrow::Cow;

use aquatint_tensor::{Tensor, View};

use crate::cpu::partition::row_major;
use crate::gemm::{
    self, ChannelStats, ConcatRows, Epilogue, GegluWeights, Matrix, Output, PackedA, PackedWeights, blocked,
    tiled,
};
use crate::packed_input::{Activations, Input};
use crate::{Isa, Precision};

/// `out[.., n] = epilogue(Σₖ x[.., k]·w[n, k])`
///
/// `x: [.., in_features]` → `[.., out_features]`; the leading axes are the rows of the product. As `torch.nn.Linear`.
///
/// ```
/// # use aquatint_kernels::{Isa, gemm::{Epilogue, PackedWeights}, linear::linear};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 2], vec![1.0, 2.0]);
/// let w = PackedWeights::pack(Tensor::from_vec([1, 2], vec![3.0f32, 4.0]).view());
/// let y = linear(Isa::best(), x.view(), &w, Epilogue::bias(Some(&[0.5])));
/// assert_eq!(y.as_slice(), [11.5]);
/// ```
///
/// # Panics
/// If the last axis of `x` is not as long as the weights are deep, a term of the epilogue does not fit, or `x` was rounded for something else.
pub fn linear<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    epilogue: Epilogue<'_>,
) -> Tensor<f32, N> {
    let x = x.into();
    let mut shape = x.shape();
    shape[N - 1] = w.out_features();
    let mut out = Tensor::recycled(shape);
    linear_into(isa, x, w, epilogue, out.as_mut_slice());
    out
}

/// [`linear`], with the statistics of the features of each image: the first axis of `x` counts images. They are for the group norm behind the layer.
///
/// There are none if the products are in f32, which take so long that reading the result once more hardly counts, or if the rows of an image cannot be
/// cut into equal blocks of 32 or more.
///
/// ```
/// # use aquatint_kernels::{Isa, Precision, gemm::{Epilogue, PackedWeights}, linear::linear_with_stats};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_fn([1, 32, 1], |[_, m, _]| m as f32);
/// let twice = PackedWeights::pack_for(Precision::Bf16, Tensor::full([1, 1], 2.0f32).view());
/// let (_, stats) = linear_with_stats(Isa::best(), x.view(), &twice, Epilogue::default());
/// let of_channels = stats.expect("a block of 32 rows").of_image(0);
/// assert_eq!((of_channels[0].mean, of_channels[0].variance()), (31.0, 341.0)); // of 0, 2, …, 62: (32² − 1) / 3
/// ```
///
/// # Panics
/// As [`linear`].
pub fn linear_with_stats<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    epilogue: Epilogue<'_>,
) -> (Tensor<f32, N>, Option<ChannelStats>) {
    let x = x.into();
    let mut shape = x.shape();
    check(shape[N - 1], w);
    shape[N - 1] = w.out_features();
    let (mut out, mut stats) = (Tensor::recycled(shape), ChannelStats::new(shape[0]));
    let flat = Flat::of(x);
    let rows = gemm::rows_of(out.as_mut_slice(), flat.rows, w.out_features());
    product(isa, flat, w, &epilogue, Output { rows, stats: Some(&mut stats) });
    (out, stats.if_any())
}

fn check(in_features: usize, w: &PackedWeights) {
    assert_eq!(w.segments(), 1, "these weights belong to a convolution");
    assert_eq!(in_features, w.segment_len(), "the input has {in_features} features, not {}", w.segment_len());
}

/// [`linear`], written to `out`, which is row-major: a part of a larger result.
///
/// # Panics
/// As [`linear`], or if `out` has another size.
pub fn linear_into<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let x = x.into();
    let [.., in_features] = x.shape()[..] else { panic!("a linear layer needs a last axis") };
    check(in_features, w);
    let flat = Flat::of(x);
    let out = gemm::rows_of(out, flat.rows, w.out_features()).into();
    product(isa, flat, w, &epilogue, out);
}

/// A linear layer and [`geglu`](crate::activation::geglu()) of its result, which is never written: `x: [.., in_features]` → `[.., features]`, rounded
/// if the weights are.
///
/// ```
/// # use aquatint_kernels::{Isa, Precision, gemm::GegluWeights, linear::linear_geglu};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 1], vec![2.0]);
/// let w = Tensor::from_vec([2, 1], vec![3.0f32, 0.0]); // the value 3·2, the gate 0·2 + 1
/// let w = GegluWeights::pack(Precision::F32, w.view(), &[0.0, 1.0]);
/// let y = linear_geglu(Isa::best(), x.view(), &w).into_tensor(); // gelu(1) = 0.8413
/// assert_eq!(y.map(|y| (y * 1e3).round() / 1e3).as_slice(), [5.048]);
/// ```
///
/// # Panics
/// If the last axis of `x` is not as long as the weights are deep, or `x` was rounded for something else.
pub fn linear_geglu<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &GegluWeights,
) -> Activations<N> {
    let x = x.into();
    let (mut shape, in_features) = (x.shape(), w.in_features());
    assert_eq!(shape[N - 1], in_features, "the input has {} features, not {in_features}", shape[N - 1]);
    shape[N - 1] = w.features();
    geglu_product(isa, Flat::of(x), w).reshape(shape)
}

/// A linear layer whose result is rounded for the product behind it, if the weights are: `x: [.., in_features]` → `[.., out_features]`.
///
/// # Panics
/// As [`linear`].
pub fn linear_packed<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    bias: Option<&[f32]>,
) -> Activations<N> {
    let x = x.into();
    if w.precision() == Precision::F32 {
        return linear(isa, x, w, Epilogue::bias(bias)).into();
    }
    let mut shape = x.shape();
    check(shape[N - 1], w);
    shape[N - 1] = w.out_features();
    product_to_packed(isa, Flat::of(x), w, bias).reshape(shape)
}

/// A linear layer of inputs that are joined feature by feature, without joining them: `[.., a]`, `[.., b]`, … are the input `[.., a + b + …]`.
///
/// The weights must be packed in segments of which each input holds whole ones. An input with fewer rows begins again at its end.
///
/// ```
/// # use aquatint_kernels::{Isa, Precision, gemm::{Epilogue, PackedWeights}, linear::linear_concat};
/// # use aquatint_tensor::Tensor;
/// let (x, y) = (Tensor::from_vec([1, 1], vec![1.0]), Tensor::from_vec([1, 2], vec![2.0, 3.0]));
/// let w = Tensor::from_vec([1, 3, 1], vec![1.0f32, 10.0, 100.0]);
/// let w = PackedWeights::pack_segments(Precision::F32, w.view());
/// let z = linear_concat(Isa::best(), &[x.view(), y.view()], &w, Epilogue::default());
/// assert_eq!(z.as_slice(), [321.0]);
/// ```
///
/// # Panics
/// If the inputs do not fit each other or the weights, or a term of the epilogue does not fit.
pub fn linear_concat<const N: usize>(
    isa: Isa,
    pieces: &[View<'_, f32, N>],
    w: &PackedWeights,
    epilogue: Epilogue<'_>,
) -> Tensor<f32, N> {
    let rows_of = |piece: &View<'_, f32, N>| piece.shape()[..N - 1].iter().product::<usize>();
    let largest = pieces.iter().max_by_key(|piece| rows_of(piece)).expect("at least one input");
    let (mut shape, rows) = (largest.shape(), rows_of(largest));
    let in_features: usize = pieces.iter().map(|piece| piece.shape()[N - 1]).sum();
    let expected = w.segments() * w.segment_len();
    assert_eq!(in_features, expected, "the inputs have {in_features} features, not {expected}");
    assert!(
        pieces.iter().all(|piece| rows == 0 || rows_of(piece) > 0 && rows.is_multiple_of(rows_of(piece))),
        "the inputs have different numbers of rows"
    );
    shape[N - 1] = w.out_features();

    let matrices: Vec<_> = pieces.iter().map(|&piece| (piece.shape()[N - 1], row_major(piece))).collect();
    let mut out = Tensor::recycled(shape);
    joined_product(isa, rows, &matrices, w, &epilogue, out.as_mut_slice());
    out
}

/// An input as rows. Behind it the number of axes is forgotten, so that all loops are compiled once, here, and not again by those who call.
struct Flat<'a> {
    rows: usize,
    numbers: Numbers<'a>,
}

enum Numbers<'a> {
    F32(Cow<'a, [f32]>),
    Packed(&'a PackedA),
}

impl<'a> Flat<'a> {
    fn of<const N: usize>(x: Input<'a, N>) -> Self {
        let rows = x.shape()[..N - 1].iter().product();
        let numbers = match x {
            Input::F32(x) => Numbers::F32(row_major(x)),
            Input::Packed(_, x) => Numbers::Packed(x),
        };
        Self { rows, numbers }
    }
}

/// Row-major numbers as a left operand.
fn matrix(rows: usize, columns: usize, numbers: &[f32]) -> Matrix<'_> {
    Matrix::new(View::from_slice([rows, columns], numbers))
}

fn product(
    isa: Isa,
    Flat { rows, numbers }: Flat<'_>,
    w: &PackedWeights,
    epilogue: &Epilogue<'_>,
    out: Output<'_>,
) {
    match numbers {
        Numbers::F32(x) => gemm::product_to(isa, &matrix(rows, w.segment_len(), &x), w, epilogue, out),
        Numbers::Packed(x) => tiled::product_packed(isa, x, w, epilogue, out),
    }
}

fn joined_product(
    isa: Isa,
    rows: usize,
    matrices: &[(usize, Cow<'_, [f32]>)],
    w: &PackedWeights,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let a = ConcatRows::new(matrices.iter().map(|(columns, data)| (*columns, &data[..])), w.segment_len());
    gemm::product(isa, rows, &a, w, epilogue, out);
}

fn geglu_product(isa: Isa, Flat { rows, numbers }: Flat<'_>, w: &GegluWeights) -> Activations<2> {
    let shape = [rows, w.features()];
    match numbers {
        Numbers::F32(x) => {
            let a = matrix(rows, w.in_features(), &x);
            if w.precision() == Precision::F32 {
                let mut out = Tensor::recycled(shape);
                let out_rows = gemm::rows_of(out.as_mut_slice(), rows, w.features());
                blocked::geglu_product(isa, &a, w, out_rows);
                return out.into();
            }
            let a = PackedA::of_rows(isa, w.precision(), &a, 0..rows, [1, w.in_features()]);
            Activations::packed(shape, tiled::geglu_to_packed(isa, &a, rows, w))
        }
        Numbers::Packed(x) => Activations::packed(shape, tiled::geglu_to_packed(isa, x, rows, w)),
    }
}

fn product_to_packed(
    isa: Isa,
    Flat { rows, numbers }: Flat<'_>,
    w: &PackedWeights,
    bias: Option<&[f32]>,
) -> Activations<2> {
    let rounded = match numbers {
        Numbers::F32(x) => {
            let a = matrix(rows, w.segment_len(), &x);
            let a = PackedA::of_rows(isa, w.precision(), &a, 0..rows, [1, w.segment_len()]);
            tiled::product_to_packed(isa, &a, rows, w, bias)
        }
        Numbers::Packed(x) => tiled::product_to_packed(isa, x, rows, w, bias),
    };
    Activations::packed([rows, w.out_features()], rounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation;
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
        // Of inputs one step and many blocks deep; of outputs half a panel, one and a half, and more tasks than one.
        for (rows, in_features, features) in [(5, 7, 16), (300, 40, 48), (37, 4200, 72), (530, 330, 400)] {
            let (x, w) = (random([rows, in_features], 1), random([2 * features, in_features], 2));
            let (w, bias) = (w.map(|w| w / (in_features as f32).sqrt()), random([2 * features], 3));
            let rounded = (to_bf16(&x), to_bf16(&w));
            // In bf16 nothing but the result is rounded, by half of its last place, 2⁻⁸; the coarse gelu adds its 10⁻⁴.
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
            let same = PackedWeights::pack_for(
                precision,
                Tensor::from_fn([64, 64], |[i, j]| f32::from(i == j)).view(),
            );
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
}
