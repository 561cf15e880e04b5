//! Each activation on a vector: one small type per function, so that a loop can be compiled for any
//! of them.

use super::{Op, Pointwise, Simd, math};

/// `x·σ(x)`
#[derive(Clone, Copy)]
pub(crate) struct Silu;

impl Pointwise for Silu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, math::sigmoid(s, x))
    }
}

/// `x·(1 + erf(x/√2)) / 2`
#[derive(Clone, Copy)]
pub(crate) struct Gelu;

impl Pointwise for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let erf = math::erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2)));
        let half = s.mul(x, s.splat(0.5));
        s.mul_add(half, erf, half)
    }
}

/// [`Gelu`] for what is rounded to bf16, a third as much work: `max(x, 0) − |x|·Φ(−|x|)`, where Φ
/// is that of [`math::coarse_normal_cdf`].
///
/// Absolute error at most 1e-4, relative error at most 6e-4 from −1 up, where rounding adds 3.9e-3.
#[derive(Clone, Copy)]
pub(crate) struct CoarseGelu;

impl Pointwise for CoarseGelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let below = s.sub(s.zero(), s.abs(x));
        s.mul_add(below, math::coarse_normal_cdf(s, below), s.max(x, s.zero()))
    }
}

/// `x·(1 + tanh(u)) / 2` with `u = √(2/π)·(x + 0.044715·x³)`, computed as `x·σ(2u)`, which is the
/// same thing.
#[derive(Clone, Copy)]
pub(crate) struct GeluTanh;

impl Pointwise for GeluTanh {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        const TWO_SQRT_2_OVER_PI: f32 = 1.595_769; // 2·√(2/π)
        let factor =
            s.mul_add(s.mul(x, x), s.splat(0.044715 * TWO_SQRT_2_OVER_PI), s.splat(TWO_SQRT_2_OVER_PI));
        s.mul(x, math::sigmoid(s, s.mul(x, factor)))
    }
}

/// `x·σ(1.702·x)`
#[derive(Clone, Copy)]
pub(crate) struct QuickGelu;

impl Pointwise for QuickGelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, math::sigmoid(s, s.mul(x, s.splat(1.702))))
    }
}

/// `x[i] = f(x[i])`
pub(crate) struct InPlace<'a, F> {
    pub(crate) x: &'a mut [f32],
    pub(crate) f: F,
}

impl<F: Pointwise> Op for InPlace<'_, F> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        s.map_in_place(self.x, self.f);
    }
}
