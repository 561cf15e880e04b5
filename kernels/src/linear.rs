//! A linear layer: `y = x·Wᵀ + b` on the last axis, whatever the axes before it mean.

use aquatint_tensor::{Tensor, View};

use crate::Isa;
use crate::chunks::row_major;
use crate::gemm::{Epilogue, Matrix, Weights, blocked};

/// `out[.., n] = epilogue(Σₖ x[.., k]·w[n, k])`
///
/// `x: [.., in_features]` → `[.., out_features]`; the leading axes are the rows of the product. As `torch.nn.Linear`.
///
/// ```
/// # use aquatint_kernels::{Isa, gemm::{Epilogue, Weights}, linear::linear};
/// # use aquatint_tensor::Tensor;
/// let x = Tensor::from_vec([1, 2], vec![1.0, 2.0]);
/// let w = Weights::pack(Tensor::from_vec([1, 2], vec![3.0f32, 4.0]).view());
/// let y = linear(Isa::best(), x.view(), &w, Epilogue::bias(Some(&[0.5])));
/// assert_eq!(y.as_slice(), [11.5]);
/// ```
///
/// # Panics
/// If the last axis of `x` is not as long as the weights are deep, or a term of the epilogue does not fit.
pub fn linear<const N: usize>(
    isa: Isa,
    x: View<'_, f32, N>,
    w: &Weights,
    epilogue: Epilogue<'_>,
) -> Tensor<f32, N> {
    let mut shape = x.shape();
    let in_features = shape[N - 1];
    assert_eq!(w.segments(), 1, "these weights belong to a convolution");
    assert_eq!(in_features, w.segment_len(), "the input has {in_features} features, not {}", w.segment_len());
    let rows = shape[..N - 1].iter().product();
    shape[N - 1] = w.out_features();

    let x = row_major(x);
    let mut out = Tensor::recycled(shape);
    let a = Matrix::new(View::from_slice([rows, in_features], &x));
    blocked::product(isa, rows, &a, w, &epilogue, out.as_mut_slice());
    out
}
