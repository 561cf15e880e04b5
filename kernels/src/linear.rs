//! A linear layer: `y = x·Wᵀ + b` on the last axis, whatever the axes before it mean.
//!
//! | | |
//! |---|---|
//! | [`linear`], [`linear_into`], [`linear_of_rows`] | f32 comes out |
//! | [`linear_packed`], [`linear_packed_into`] | what comes out is rounded for the next product |
//! | [`linear_geglu`] | with GEGLU behind it, never writing the wide product |
//! | [`linear_concat`] | of inputs side by side, without joining them |
//!
//! The product itself is [`gemm`]'s `blocked.rs`, or that of `tiled.rs`.

use std::borrow::Cow;
use std::ops::Range;

use aquatint_tensor::{Tensor, View, f16};

use crate::cpu::partition::row_major;
use crate::cpu::stored::Stored;
use crate::cpu::tile::TILE_M;
use crate::gemm::{
    self, ChannelStats, ConcatRows, Epilogue, GegluWeights, Matrix, Output, PackedA, PackedWeights, RowsFrom,
    blocked, tiled,
};
use crate::packed_input::{Activations, Input, PackedRowsMut};
use crate::{Isa, Precision};

/// `out[.., n] = epilogue(Σₖ x[.., k]·w[n, k])`
///
/// `x: [.., in_features]` → `[.., out_features]`; the leading axes are the rows of the product. As
/// `torch.nn.Linear`.
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
/// If the last axis of `x` is not as long as the weights are deep, a term of the epilogue does not
/// fit, or `x` was rounded for something else.
pub fn linear<'a, T: Stored, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, N> {
    let x = x.into();
    let mut shape = x.shape();
    shape[N - 1] = w.out_features();
    let mut out = Tensor::recycled(shape);
    linear_into(isa, x, w, epilogue, out.as_mut_slice());
    out
}

/// [`linear`], with the statistics of the features of each image: the first axis of `x` counts
/// images. They are for the group norm behind the layer.
///
/// There are none if the products are in f32, which take so long that reading the result once more
/// hardly counts, or if the rows of an image cannot be cut into equal blocks of 32 or more.
///
/// ```
/// # use aquatint_kernels::gemm::{Epilogue, PackedWeights};
/// # use aquatint_kernels::{Isa, Precision, linear::linear_with_stats};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_fn([1, 32, 1], |[_, m, _]| m as f32);
/// let twice = PackedWeights::pack_for(Precision::Bf16, Tensor::full([1, 1], 2.0f32).view());
/// let (_, stats) = linear_with_stats(Isa::best(), x.view(), &twice, Epilogue::default());
/// let of_channels = stats.expect("a block of 32 rows").of_image(0);
/// let stats = (of_channels[0].mean, of_channels[0].variance());
/// assert_eq!(stats, (31.0, 341.0)); // of 0, 2, …, 62: (32² − 1) / 3
/// ```
///
/// # Panics
/// As [`linear`].
pub fn linear_with_stats<'a, T: Stored, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    epilogue: Epilogue<'_, T>,
) -> (Tensor<T, N>, Option<ChannelStats>) {
    let x = x.into();
    let mut shape = x.shape();
    check(shape[N - 1], w);
    shape[N - 1] = w.out_features();
    let (mut out, mut stats) = (Tensor::recycled(shape), ChannelStats::new(shape[0]));
    let count = shape[..N - 1].iter().product();
    let rows = gemm::rows_of(out.as_mut_slice(), count, w.out_features());
    product_of(isa, x, w, &epilogue, Output { rows, stats: Some(&mut stats) });
    (out, stats.if_any())
}

/// [`linear`] of some rows of activations, which begin with a whole tile of 16:
/// `[rows.len(), out_features]`.
///
/// # Panics
/// As [`linear`], or if there are no such rows.
pub fn linear_of_rows<const N: usize>(
    isa: Isa,
    x: &Activations<N>,
    rows: Range<usize>,
    w: &PackedWeights,
    epilogue: Epilogue<'_>,
) -> Tensor<f32, 2> {
    let in_features = x.shape()[N - 1];
    check(in_features, w);
    let flat = Flat::of(isa, Input::from(x));
    assert!(rows.end <= flat.rows && rows.start.is_multiple_of(TILE_M), "rows {rows:?} of {}", flat.rows);
    let shape = [rows.len(), w.out_features()];
    let mut out = Tensor::recycled(shape);
    match flat.numbers {
        Numbers::F32(x) => {
            let a = matrix(rows.len(), in_features, &x[rows.start * in_features..rows.end * in_features]);
            gemm::product(isa, rows.len(), &a, w, &epilogue, out.as_mut_slice());
        }
        Numbers::Packed(packed) => {
            let out = gemm::rows_of(out.as_mut_slice(), shape[0], shape[1]);
            let a = RowsFrom { packed, first: rows.start };
            tiled::product_packed(isa, &a, w, &epilogue, out.into());
        }
    }
    out
}

fn check(in_features: usize, w: &PackedWeights) {
    assert_eq!(w.segments(), 1, "these weights belong to a convolution");
    assert_eq!(in_features, w.segment_len(), "the input has {in_features} features, not {}", w.segment_len());
}

/// [`linear`], written to `out`, which is row-major: a part of a larger result.
///
/// # Panics
/// As [`linear`], or if `out` has another size.
pub fn linear_into<'a, T: Stored, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    epilogue: Epilogue<'_, T>,
    out: &mut [T],
) {
    let x = x.into();
    let [.., in_features] = x.shape()[..] else { panic!("a linear layer needs a last axis") };
    check(in_features, w);
    let rows = x.shape()[..N - 1].iter().product();
    product_of(isa, x, w, &epilogue, gemm::rows_of(out, rows, w.out_features()).into());
}

fn product_of<T: Stored, const N: usize>(
    isa: Isa,
    x: Input<'_, N>,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: Output<'_, T>,
) {
    match x {
        // Rounded as it is read; nothing is widened before.
        Input::F16(x) if w.precision() != Precision::F32 => {
            let x = row_major(x);
            tiled::product(isa, &matrix(out.rows.len(), w.segment_len(), &x), w, epilogue, out);
        }
        x => product(isa, Flat::of(isa, x), w, epilogue, out),
    }
}

/// A linear layer and [`geglu`](crate::activation::geglu()) of its result, which is never written:
/// `x: [.., in_features]` → `[.., features]`, rounded if the weights are.
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
/// If the last axis of `x` is not as long as the weights are deep, or `x` was rounded for something
/// else.
pub fn linear_geglu<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &GegluWeights,
) -> Activations<N> {
    let x = x.into();
    let (mut shape, in_features) = (x.shape(), w.in_features());
    assert_eq!(shape[N - 1], in_features, "the input has {} features, not {in_features}", shape[N - 1]);
    shape[N - 1] = w.features();
    geglu_product(isa, Flat::of(isa, x), w).reshape(shape)
}

/// A linear layer whose result is rounded for the product behind it, if the weights are: `x: [..,
/// in_features]` → `[.., out_features]`.
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
    product_to_packed(isa, Flat::of(isa, x), w, bias).reshape(shape)
}

/// [`linear_packed`] of a residual layer, `residual + x·Wᵀ + b`, written to some rows of rounded
/// activations.
///
/// # Panics
/// As [`linear`]; also if the weights are in f32, or `out` has another number of rows or columns.
pub fn linear_packed_into<'a, const N: usize>(
    isa: Isa,
    x: impl Into<Input<'a, N>>,
    w: &PackedWeights,
    [bias, residual]: [Option<&[f32]>; 2],
    out: PackedRowsMut<'_>,
) {
    let x = x.into();
    check(x.shape()[N - 1], w);
    let Flat { rows, numbers } = Flat::of(isa, x);
    match numbers {
        Numbers::F32(x) => {
            let a = matrix(rows, w.segment_len(), &x);
            let a = PackedA::of_rows(isa, w.precision(), &a, 0..rows, [1, w.segment_len()]);
            tiled::product_to_planes(isa, &a, w, [bias, residual], out.planes);
        }
        Numbers::Packed(x) => tiled::product_to_planes(isa, x, w, [bias, residual], out.planes),
    }
}

/// A linear layer of inputs that are joined feature by feature, without joining them: `[.., a]`,
/// `[.., b]`, … are the input `[.., a + b + …]`.
///
/// The weights must be packed in segments, and each input holds whole segments. An input with fewer
/// rows begins again at its end.
///
/// ```
/// # use aquatint_kernels::gemm::{Epilogue, PackedWeights};
/// # use aquatint_kernels::{Isa, Precision, linear::linear_concat};
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
pub fn linear_concat<T: Stored, const N: usize>(
    isa: Isa,
    pieces: &[View<'_, T, N>],
    w: &PackedWeights,
    epilogue: Epilogue<'_, T>,
) -> Tensor<T, N> {
    let rows_of = |piece: &View<'_, T, N>| piece.shape()[..N - 1].iter().product::<usize>();
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

/// An input as rows. Behind it the number of axes is forgotten, so that all loops are compiled
/// once, here, and not again by those who call.
struct Flat<'a> {
    rows: usize,
    numbers: Numbers<'a>,
}

enum Numbers<'a> {
    F32(Cow<'a, [f32]>),
    Packed(&'a PackedA),
}

impl<'a> Flat<'a> {
    fn of<const N: usize>(isa: Isa, x: Input<'a, N>) -> Self {
        let rows = x.shape()[..N - 1].iter().product();
        let numbers = match x {
            Input::F32(x) => Numbers::F32(row_major(x)),
            Input::F16(x) => Numbers::F32(f16::widen_all(isa, row_major(x))),
            Input::Packed(_, x) => Numbers::Packed(x),
        };
        Self { rows, numbers }
    }
}

/// Row-major numbers as a left operand.
fn matrix<T: Stored>(rows: usize, columns: usize, numbers: &[T]) -> Matrix<'_, T> {
    Matrix::new(View::from_slice([rows, columns], numbers))
}

fn product<T: Stored>(
    isa: Isa,
    Flat { rows, numbers }: Flat<'_>,
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: Output<'_, T>,
) {
    match numbers {
        Numbers::F32(x) => gemm::product_to(isa, &matrix(rows, w.segment_len(), &x), w, epilogue, out),
        Numbers::Packed(x) => tiled::product_packed(isa, x, w, epilogue, out),
    }
}

fn joined_product<X: Stored, T: Stored>(
    isa: Isa,
    rows: usize,
    matrices: &[(usize, Cow<'_, [X]>)],
    w: &PackedWeights,
    epilogue: &Epilogue<'_, T>,
    out: &mut [T],
) {
    let out = gemm::rows_of(out, rows, w.out_features());
    let segment_len = w.segment_len();
    if w.precision() != Precision::F32 {
        let a = ConcatRows::new(matrices.iter().map(|(columns, x)| (*columns, &x[..])), segment_len);
        return tiled::product(isa, &a, w, epilogue, out.into());
    }
    let matrices: Vec<_> =
        matrices.iter().map(|(columns, x)| (*columns, X::widen_all(isa, Cow::Borrowed(x)))).collect();
    let a = ConcatRows::new(matrices.iter().map(|(columns, x)| (*columns, &x[..])), segment_len);
    blocked::product(isa, &a, w, epilogue, out);
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
mod tests;
