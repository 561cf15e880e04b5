//! Functions of a real number on vectors, each with its error bound against `f64`.

use super::Simd;

/// ln 2 in two parts: the first has so few bits that n·`LN2_HIGH` is exact for every exponent n of
/// an `f32`.
const LN2_HIGH: f32 = 0.693_359_4; // 355/512
const LN2_LOW: f32 = -2.121_944_4e-4; // ln 2 − 355/512

/// Adding and subtracting 1.5·2²³ leaves no bit for a fraction: the sum rounds to the nearest
/// integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Below this, eˣ would be smaller than the smallest normal number; it becomes 0.
const EXP_LOWEST: f32 = -87.336_54;
/// Above this, the exponent would not fit; eˣ stays at 2.4e38.
const EXP_HIGHEST: f32 = 88.376_26;

/// The nearest integer, ties to even, for |x| < 2²².
#[inline(always)]
pub fn round<S: Simd>(s: S, x: S::V) -> S::V {
    let rounder = s.splat(ROUNDER);
    s.sub(s.add(x, rounder), rounder)
}

/// eˣ = 2ⁿ·eʳ with n = round(x / ln 2) and |r| ≤ ln 2 / 2, where eʳ is its Taylor polynomial of
/// degree 7 (the first term left out is below r⁸/8! = 5.2e-9).
///
/// Relative error at most 1.5e-7 (an ulp and a quarter). 0 below −87.3; saturates at 2.4e38 above
/// 88.3; NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let lowest = s.splat(EXP_LOWEST);
    // In `min` and `max` the second operand wins over NaN.
    let bounded = s.max(lowest, s.min(s.splat(EXP_HIGHEST), x));
    let n = round(s, s.mul(bounded, s.splat(std::f32::consts::LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), bounded);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    // 1 + r·(1 + r/2·(1 + r/3·(…))) with the factorials multiplied out.
    let mut p = s.splat(1.0 / 5040.0);
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = s.mul_add(p, r, s.splat(coefficient));
    }
    s.select_less(x, lowest, s.zero(), s.ldexp(p, n))
}

/// `c₀ + c₁·x + c₂·x² + …`, from the inside out.
#[inline(always)]
pub fn polynomial<S: Simd, const N: usize>(s: S, coefficients: [f32; N], x: S::V) -> S::V {
    let mut sum = s.splat(coefficients[N - 1]);
    for &coefficient in coefficients[..N - 1].iter().rev() {
        sum = s.mul_add(sum, x, s.splat(coefficient));
    }
    sum
}

/// [`polynomial`] as `c₀ + x·((c₁ + c₂·x) + x²·((c₃ + c₄·x) + …))`: one operation more, but less of
/// a chain, for registers too few to hold many polynomials that are under way. Of at least two
/// coefficients.
#[inline(always)]
pub fn polynomial_in_pairs<S: Simd, const N: usize>(s: S, coefficients: [f32; N], x: S::V) -> S::V {
    let (first, pairs) = (coefficients[0], &coefficients[1..]);
    let square = s.mul(x, x);
    let mut sum = None;
    for pair in pairs.chunks(2).rev() {
        let pair = match *pair {
            [c, d] => s.mul_add(s.splat(d), x, s.splat(c)),
            _ => s.splat(pair[0]),
        };
        sum = Some(match sum {
            Some(sum) => s.mul_add(sum, square, pair),
            None => pair,
        });
    }
    s.mul_add(sum.expect("a second coefficient"), x, s.splat(first))
}

/// The polynomial of degree 6 whose largest relative error against 2ʳ on [0, 1] is smallest,
/// constant term first. Found by Remez exchange; 7.3e-9 with these rounded coefficients.
#[expect(clippy::approx_constant, reason = "the best polynomial's slope is near ln 2, and not ln 2")]
const EXP2: [f32; 7] =
    [1.0, 0.693_147, 0.240_229_83, 0.055_483_34, 0.009_678_841, 1.243_968_7e-3, 2.170_225_6e-4];

/// 2ˣ = 2ⁿ·2ʳ with n = ⌊x⌋.
///
/// Relative error at most 1.5e-7 of 2ˣ. For x up to 127; next to nothing from x = −126 down; NaN
/// stays NaN.
#[inline(always)]
pub fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
    s.exp2_with(x, EXP2)
}

/// 2ʳ on [0, 1] by a polynomial of degree 3.
const COARSE_EXP2: [f32; 4] = [0.999_925_2, 0.695_833_56, 0.226_067_16, 0.078_024_52];

/// 2ˣ to four digits: for weights that are rounded to bf16 afterwards, fifty times as coarsely.
///
/// Relative error at most 7.6e-5. For x up to 127; next to nothing from x = −126 down; NaN stays
/// NaN.
#[inline(always)]
pub fn coarse_exp2<S: Simd>(s: S, x: S::V) -> S::V {
    s.exp2_with(x, COARSE_EXP2)
}

/// The logistic function σ(x) = 1 / (1 + e⁻ˣ). Relative error at most 3e-7 where the result is a
/// normal number.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.zero(), x))))
}

/// From here on, erf(x) rounds to 1: 1 − erf(4) = 1.5e-8 is less than half of the last digit.
const ERF_ONE: f32 = 4.0;

/// q(x) of degree 7 that minimises the largest error of e^(−x·q(x)) against 1 − erf(x) on [0, 4];
/// constant term first. Found by Remez exchange on −ln(1 − erf(x)) with weight 1 − erf(x), from
/// 15-digit values; the error left is 1.6e-8.
const ERF: [f32; 8] = [
    1.128_380_3,
    0.636_597_75,
    0.102_919_61,
    -0.019_583_96,
    5.369_322e-4,
    1.032_402_3e-3,
    -3.088_023_6e-4,
    3.144_018e-5,
];

/// The error function erf(x) = 2/√π · ∫₀ˣ e^(−t²) dt, as ±(1 − e^(−|x|·q(|x|))): −ln(1 − erf) is so
/// smooth that a polynomial follows it, and the exponential forgives its errors where erf is
/// near 1.
///
/// Absolute error at most 1.5e-7. Exactly ±1 from |x| = 4 on; NaN stays NaN.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    // In `min` the second operand wins over NaN.
    let a = s.min(s.splat(ERF_ONE), s.abs(x));
    let q = polynomial(s, ERF, a);
    let erf = s.sub(s.splat(1.0), exp(s, s.sub(s.zero(), s.mul(a, q))));
    s.select_less(x, s.zero(), s.sub(s.zero(), erf), erf)
}

/// log₂ Φ(x) of degree 3 for x ≤ 0, constant term first. Found by Remez exchange with weight 1 down
/// to −1 and then that of x·Φ(x), so that |x|·Φ(x) has a relative error of 5.2e-4 down to there,
/// and one of 8.3e-5 absolutely from there on.
const COARSE_NORMAL_CDF: [f32; 4] = [-1.000_750_1, 1.139_036_7, -0.489_707_77, 0.027_288_416];

/// Φ(x) = (1 + erf(x/√2)) / 2, the share of a normal distribution that lies below x, for x ≤ 0:
/// log₂ Φ is so smooth that a cubic follows it.
///
/// For what is multiplied by x and rounded to bf16 afterwards: relative error at most 6e-4 down to
/// −1 and 1.6e-3 down to −2, absolute error of x·Φ(x) at most 9.5e-5 everywhere, and the product
/// vanishes as it should far below. NaN stays NaN.
#[inline(always)]
pub fn coarse_normal_cdf<S: Simd>(s: S, x: S::V) -> S::V {
    coarse_exp2(s, polynomial(s, COARSE_NORMAL_CDF, x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::pointwise::InPlace;
    use crate::{Isa, cpu::simd::Pointwise};

    #[derive(Clone, Copy)]
    struct Exp;
    impl Pointwise for Exp {
        #[inline(always)]
        fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
            exp(s, x)
        }
    }

    #[test]
    fn exp_is_within_its_bound_on_the_whole_range() {
        let xs: Vec<f32> = (-87_000..88_000).map(|i| i as f32 * 1e-3 + 1e-4).collect();
        for isa in Isa::available() {
            let mut ys = xs.clone();
            isa.run(InPlace { x: &mut ys, f: Exp });
            for (&x, &y) in xs.iter().zip(&ys) {
                let expected = f64::from(x).exp();
                let error = (f64::from(y) - expected).abs() / expected;
                assert!(
                    error < 1.5e-7,
                    "{isa}: exp({x}) = {y}, expected {expected}, relative error {error:e}"
                );
            }
        }
    }

    #[test]
    fn exp_at_the_edges() {
        for isa in Isa::available() {
            let mut ys = [f32::NEG_INFINITY, -200.0, -87.4, 0.0, 1000.0, f32::INFINITY, f32::NAN];
            isa.run(InPlace { x: &mut ys, f: Exp });
            assert_eq!(ys[..4], [0.0, 0.0, 0.0, 1.0], "{isa}");
            assert!(ys[4] > 2e38 && ys[5] > 2e38 && ys[6].is_nan(), "{isa}: {ys:?}");
        }
    }

    #[derive(Clone, Copy)]
    struct Exp2;
    impl Pointwise for Exp2 {
        #[inline(always)]
        fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
            exp2(s, x)
        }
    }

    #[derive(Clone, Copy)]
    struct CoarseExp2;
    impl Pointwise for CoarseExp2 {
        #[inline(always)]
        fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
            coarse_exp2(s, x)
        }
    }

    #[test]
    fn powers_of_two_are_within_their_bounds() {
        powers_of_two_are_within(Exp2, 1.5e-7);
        powers_of_two_are_within(CoarseExp2, 7.6e-5);
    }

    fn powers_of_two_are_within(f: impl Pointwise, bound: f64) {
        let xs: Vec<f32> = (-125_999..127_000).map(|i| i as f32 * 1e-3).collect();
        for isa in Isa::available() {
            let mut ys = xs.clone();
            isa.run(InPlace { x: &mut ys, f });
            for (&x, &y) in xs.iter().zip(&ys) {
                let expected = f64::from(x).exp2();
                let error = (f64::from(y) - expected).abs() / expected;
                assert!(
                    error < bound,
                    "{isa}: 2^{x} = {y:e}, expected {expected:e}, relative error {error:e}"
                );
            }
            let mut edges = [f32::NEG_INFINITY, -1e9, f32::NAN];
            isa.run(InPlace { x: &mut edges, f });
            assert!(
                edges[..2].iter().all(|&y| (0.0..2.4e-38).contains(&y)) && edges[2].is_nan(),
                "{isa}: {edges:?}"
            );
        }
    }

    #[derive(Clone, Copy)]
    struct Erf;
    impl Pointwise for Erf {
        #[inline(always)]
        fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
            erf(s, x)
        }
    }

    #[test]
    fn erf_is_within_its_bound() {
        let xs: Vec<f32> = (-600_000..600_000).map(|i| i as f32 * 1e-5).collect();
        let expected: Vec<f64> =
            xs.iter().map(|&x| crate::activation::reference::erf(f64::from(x))).collect();
        for isa in Isa::available() {
            let mut ys = xs.clone();
            isa.run(InPlace { x: &mut ys, f: Erf });
            for (i, &y) in ys.iter().enumerate() {
                let error = (f64::from(y) - expected[i]).abs();
                assert!(
                    error < 1.5e-7,
                    "{isa}: erf({}) = {y}, expected {}, error {error:e}",
                    xs[i],
                    expected[i]
                );
            }
        }
    }

    #[test]
    fn erf_at_the_edges() {
        for isa in Isa::available() {
            let mut ys = [f32::NEG_INFINITY, -4.0, 0.0, 4.0, f32::MAX, f32::INFINITY, f32::NAN];
            isa.run(InPlace { x: &mut ys, f: Erf });
            assert_eq!(ys[..6], [-1.0, -1.0, 0.0, 1.0, 1.0, 1.0], "{isa}");
            assert!(ys[6].is_nan(), "{isa}: {ys:?}");
        }
    }

    #[derive(Clone, Copy)]
    struct CoarseNormalCdf;
    impl Pointwise for CoarseNormalCdf {
        #[inline(always)]
        fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
            coarse_normal_cdf(s, x)
        }
    }

    #[test]
    fn the_normal_distribution_is_within_its_bounds() {
        let xs: Vec<f32> = (0..400_000).map(|i| i as f32 * -2e-5).collect();
        let sqrt_2 = std::f64::consts::SQRT_2;
        // The series has no digits left of so small a share; of the product there is none either.
        let expected = |x: f32| (1.0 + crate::activation::reference::erf(f64::from(x) / sqrt_2)) / 2.0;
        let expected: Vec<f64> = xs.iter().map(|&x| expected(x)).collect();
        for isa in Isa::available() {
            let mut ys = xs.clone();
            isa.run(InPlace { x: &mut ys, f: CoarseNormalCdf });
            for ((&x, &y), expected) in xs.iter().zip(&ys).zip(&expected) {
                let error = (f64::from(y) - expected).abs();
                let relative = if x >= -1.0 { 6e-4 } else { 1.6e-3 };
                assert!(
                    error * f64::from(-x) < 9.5e-5 && (x < -2.0 || error < relative * expected),
                    "{isa}: Φ({x}) = {y}, expected {expected}, error {error:e}"
                );
            }
            let mut edges = [-1e3, -1e30, f32::NAN];
            isa.run(InPlace { x: &mut edges, f: CoarseNormalCdf });
            assert!(edges[..2].iter().all(|&y| y < 2.4e-38) && edges[2].is_nan(), "{isa}: {edges:?}");
        }
    }
}
