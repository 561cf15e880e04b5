//! Softmax: `e^xⱼ / Σₖ e^xₖ` over the last axis turns any numbers into shares that sum to 1.
//!
//! | step | idea |
//! |---|---|
//! | [`mod@reference`] | the formula in `f64`, each exponent lowered by the largest one, so that nothing overflows |
//! | [`three_pass`] | the same in f32 on vectors, in place |
//!
//! Attention has a third form that never sees a whole row: see [`attention`](crate::attention).

use aquatint_tensor::Tensor;

use crate::Isa;

pub mod reference;
pub mod three_pass;

/// `x[.., j] = e^x[.., j] / Σₖ e^x[.., k]`, in place. As `torch.softmax(x, dim=-1)`.
///
/// `−∞` gets a share of exactly 0; shares below e^−87 become 0. A row that holds NaN, or nothing
/// but −∞, becomes NaN.
///
/// ```
/// # use aquatint_kernels::{Isa, softmax::softmax};
/// # use aquatint_tensor::Tensor;
/// let mut x = Tensor::from_vec([2, 2], vec![0.0, 0.0, 1000.0, f32::NEG_INFINITY]);
/// softmax(Isa::best(), &mut x);
/// assert_eq!(x.as_slice(), [0.5, 0.5, 1.0, 0.0]);
/// ```
///
/// # Panics
/// If the rank is 0.
pub fn softmax<const N: usize>(isa: Isa, x: &mut Tensor<f32, N>) {
    three_pass::softmax(isa, x);
}

#[cfg(test)]
mod tests;
