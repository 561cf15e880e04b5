//! The definition of a matrix product, with sums in `f64`.

use aquatint_tensor::{Element, Tensor, View};

/// `out[m, n] = Σₖ a[m, k]·w[n, k]`, the product of a linear layer (`torch.nn.Linear` keeps w as
/// [out, in]).
///
/// `a: [rows, in]`, `w: [out, in]` → `[rows, out]`
///
/// ```
/// # use aquatint_kernels::gemm::reference::product;
/// # use aquatint_tensor::Tensor;
/// let a = Tensor::from_vec([1, 2], vec![1.0, 2.0]);
/// let w = Tensor::from_vec([3, 2], vec![1.0f32, 0.0, 0.0, 1.0, 3.0, 4.0]);
/// assert_eq!(product(a.view(), w.view()).as_slice(), [1.0, 2.0, 11.0]);
/// ```
///
/// # Panics
/// If the inner lengths differ.
pub fn product<T: Element>(a: View<'_, f32, 2>, w: View<'_, T, 2>) -> Tensor<f32, 2> {
    let ([rows, depth], [out_features, in_features]) = (a.shape(), w.shape());
    assert_eq!(depth, in_features, "the rows have {depth} numbers, the weights {in_features}");
    Tensor::from_fn([rows, out_features], |[m, n]| {
        let sum: f64 = (0..depth).map(|k| f64::from(a.at([m, k])) * f64::from(w.at([n, k]).to_f32())).sum();
        sum as f32
    })
}
