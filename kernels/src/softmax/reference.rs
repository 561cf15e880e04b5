//! The definition of softmax, with sums in `f64`.

use aquatint_tensor::{Tensor, View};

/// `out[.., j] = e^x[.., j] / Σₖ e^x[.., k]`
///
/// Every exponent is lowered by the row's largest number. Numerator and denominator shrink by the
/// same factor, and nothing overflows.
pub fn softmax<const N: usize>(x: View<'_, f32, N>) -> Tensor<f32, N> {
    let mut out = x.to_tensor();
    let columns = *out.shape().last().expect("softmax needs a tensor of rank 1 or more");
    for row in out.as_mut_slice().chunks_exact_mut(columns.max(1)) {
        let largest = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let exp = |x: f32| (f64::from(x) - f64::from(largest)).exp();
        let sum: f64 = row.iter().map(|&x| exp(x)).sum();
        for x in row {
            *x = (exp(*x) / sum) as f32;
        }
    }
    out
}
