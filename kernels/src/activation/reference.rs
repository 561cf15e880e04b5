//! The activations as their papers write them, on one number, in `f64`.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

use aquatint_tensor::{Tensor, View};

/// `σ(x) = 1 / (1 + e⁻ˣ)`
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x·σ(x)` (Elfwing et al. 2017, [arXiv:1702.03118](https://arxiv.org/abs/1702.03118)).
pub fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// `x·Φ(x)`, where `Φ(x) = (1 + erf(x/√2)) / 2` is the share of a normal distribution that lies
/// below x (Hendrycks & Gimpel 2016, [arXiv:1606.08415](https://arxiv.org/abs/1606.08415)).
pub fn gelu(x: f64) -> f64 {
    x * (1.0 + erf(x / 2.0f64.sqrt())) / 2.0
}

/// `x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2`, the approximation in section 2 of the same paper.
pub fn gelu_tanh(x: f64) -> f64 {
    x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()) / 2.0
}

/// `x·σ(1.702·x)`, the coarser approximation of the same paper, which OpenAI's CLIP was trained
/// with.
pub fn quick_gelu(x: f64) -> f64 {
    x * sigmoid(1.702 * x)
}

/// `out[.., j] = x[.., j]·gelu(x[.., c + j])`, `x: [.., 2c]` → `[.., c]`.
///
/// # Panics
/// If the last axis is odd.
pub fn geglu<const N: usize>(x: View<'_, f32, N>) -> Tensor<f32, N> {
    let mut shape = x.shape();
    assert!(shape[N - 1].is_multiple_of(2), "GEGLU halves the last axis of {shape:?}, which is odd");
    shape[N - 1] /= 2;
    Tensor::from_fn(shape, |index| {
        let mut gate = index;
        gate[N - 1] += shape[N - 1];
        (f64::from(x.at(index)) * gelu(f64::from(x.at(gate)))) as f32
    })
}

/// `erf(x) = 2/√π · e^(−x²) · Σₖ 2ᵏ·x^(2k+1) / (1·3·5·…·(2k+1))`
///
/// All terms of the series have the sign of x, so nothing cancels; beyond 6 the value is ±1 to the
/// last digit.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    let mut k = 0.0;
    while term.abs() > 1e-17 * sum.abs() {
        k += 1.0;
        term *= 2.0 * x * x / (2.0 * k + 1.0);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// `x` above 0, `slope·x` below.
pub fn prelu(x: f64, slope: f64) -> f64 {
    x.max(0.0) + slope * x.min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Abramowitz & Stegun, Handbook of Mathematical Functions, table 7.1.
    #[test]
    fn erf_of_the_handbook() {
        for (x, expected) in
            [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((erf(x) - expected).abs() < 6e-11, "erf({x}) = {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
        assert!(erf(f64::NAN).is_nan());
    }
}
