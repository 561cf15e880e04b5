//! F(4, 3): four outputs of a window of three from six products, along one axis, then the other.
//!
//! Three numbers of a window g are the coefficients of a polynomial, and a convolution is a product
//! of polynomials. One of degree n is known from its values at n + 1 points, and the values of a
//! product are products of values: *Toom–Cook*. A filter does the same backwards. Six points: 0,
//! ±a, ±b and ∞, where the value is the highest coefficient. With N(p) the product of p's distances
//! from the other finite points:
//!
//! ```text
//! weights   u(p) = (g₀ + p·g₁ + p²·g₂) / N(p)                    u(∞) = g₂
//! input     v(p) = Σ dᵢ · (coefficient i of x(x² − a²)(x² − b²) / (x − p))
//!           v(∞): of x(x² − a²)(x² − b²)
//! output    yᵢ   = Σ pⁱ · u(p)·v(p)                              y₃ also + u(∞)·v(∞)
//! ```
//!
//! In exact arithmetic any points do. In f32 large powers drown small ones. The mean error over
//! that of a direct sum, for 320 channels: ±1, ±2 (Lavin and Gray) 6.1; ±1/2, ±3/2 3.4; ±2/3, ±4/3
//! 2.9; ±5/8, ±3/2 2.8, and in those all numbers of the input's and the output's formula are exact.
//! What to look for: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
//! Convolution for Deep Neural Networks" (2018).

use super::{IN, OUT};
use crate::cpu::simd::Simd;

/// The first pair of points is ±A.
const A: f32 = 0.625;
/// The second is ±B.
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/// 1 / N(±A), and 1 / N(±B): N is even.
const N_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const N_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// The values of six pixels at 0, A, −A, B, −B, ∞. A pair shares its even and its odd terms.
#[inline(always)]
fn values_of_input<S: Simd>(s: S, d: [S::V; IN]) -> [S::V; IN] {
    let mul_add = |x: f32, a, b| s.mul_add(s.splat(x), a, b);
    let (even_a, odd_a) = (mul_add(-B2, d[2], d[4]), mul_add(-B2, d[1], d[3]));
    let (even_b, odd_b) = (mul_add(-A2, d[2], d[4]), mul_add(-A2, d[1], d[3]));
    [
        mul_add(A2 * B2, d[0], mul_add(-A2 - B2, d[2], d[4])),
        mul_add(A, odd_a, even_a),
        mul_add(-A, odd_a, even_a),
        mul_add(B, odd_b, even_b),
        mul_add(-B, odd_b, even_b),
        mul_add(A2 * B2, d[1], mul_add(-A2 - B2, d[3], d[5])),
    ]
}

/// The values of three weights at the same points.
#[inline(always)]
fn values_of_weights<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; IN] {
    let mul = |x: f32, a| s.mul(s.splat(x), a);
    let mul_add = |x: f32, a, b| s.mul_add(s.splat(x), a, b);
    let even_a = mul_add(N_A * A2, g[2], mul(N_A, g[0]));
    let even_b = mul_add(N_B * B2, g[2], mul(N_B, g[0]));
    [
        mul(1.0 / (A2 * B2), g[0]),
        mul_add(N_A * A, g[1], even_a),
        mul_add(-N_A * A, g[1], even_a),
        mul_add(N_B * B, g[1], even_b),
        mul_add(-N_B * B, g[1], even_b),
        g[2],
    ]
}

/// Four outputs from the products of values.
#[inline(always)]
fn outputs<S: Simd>(s: S, m: [S::V; IN]) -> [S::V; OUT] {
    let mul = |x: f32, a| s.mul(s.splat(x), a);
    let mul_add = |x: f32, a, b| s.mul_add(s.splat(x), a, b);
    let (sum_a, difference_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (sum_b, difference_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(m[0], s.add(sum_a, sum_b)),
        mul_add(A, difference_a, mul(B, difference_b)),
        mul_add(A2, sum_a, mul(B2, sum_b)),
        mul_add(A * A2, difference_a, mul_add(B * B2, difference_b, m[5])),
    ]
}

/// The 36 values of a tile of 6×6 pixels.
#[inline(always)]
pub(super) fn input<S: Simd>(s: S, tile: &[[S::V; IN]; IN]) -> [[S::V; IN]; IN] {
    let mut columns = [[s.zero(); IN]; IN];
    for y in 0..IN {
        let row = values_of_input(s, tile[y]);
        for q in 0..IN {
            columns[q][y] = row[q];
        }
    }
    let mut values = [[s.zero(); IN]; IN];
    for q in 0..IN {
        let column = values_of_input(s, columns[q]);
        for p in 0..IN {
            values[p][q] = column[p];
        }
    }
    values
}

/// The 36 values of a window of 3×3 weights.
#[inline(always)]
pub(super) fn weights<S: Simd>(s: S, window: &[[S::V; 3]; 3]) -> [[S::V; IN]; IN] {
    let mut columns = [[s.zero(); 3]; IN];
    for y in 0..3 {
        let row = values_of_weights(s, window[y]);
        for q in 0..IN {
            columns[q][y] = row[q];
        }
    }
    let mut values = [[s.zero(); IN]; IN];
    for q in 0..IN {
        let column = values_of_weights(s, columns[q]);
        for p in 0..IN {
            values[p][q] = column[p];
        }
    }
    values
}

/// The 4×4 outputs of a tile.
#[inline(always)]
pub(super) fn output<S: Simd>(s: S, products: &[[S::V; IN]; IN]) -> [[S::V; OUT]; OUT] {
    let mut columns = [[s.zero(); IN]; OUT];
    for p in 0..IN {
        let row = outputs(s, products[p]);
        for x in 0..OUT {
            columns[x][p] = row[x];
        }
    }
    let mut pixels = [[s.zero(); OUT]; OUT];
    for x in 0..OUT {
        let column = outputs(s, columns[x]);
        for y in 0..OUT {
            pixels[y][x] = column[y];
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::cpu::simd::Op;

    /// Four outputs of a window over six numbers, in all lanes.
    struct Filter([f32; IN], [f32; 3]);

    impl Op for Filter {
        type Output = [f32; OUT];
        #[inline(always)]
        fn eval<S: Simd>(self, s: S) -> [f32; OUT] {
            let values = values_of_input(s, self.0.map(|x| s.splat(x)));
            let weights = values_of_weights(s, self.1.map(|x| s.splat(x)));
            let mut products = values;
            for p in 0..IN {
                products[p] = s.mul(values[p], weights[p]);
            }
            outputs(s, products).map(|v| s.largest(v))
        }
    }

    #[test]
    fn six_products_give_four_outputs_of_a_window_of_three() {
        let (d, g) = ([3.0, -1.0, 4.0, 1.0, -5.0, 9.0], [2.0, 7.0, -8.0]);
        for isa in Isa::available() {
            for (i, found) in isa.run(Filter(d, g)).into_iter().enumerate() {
                let expected = d[i] * g[0] + d[i + 1] * g[1] + d[i + 2] * g[2];
                assert!((found - expected).abs() < 1e-4, "{isa}: output {i} is {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn each_pixel_and_each_weight_reaches_each_output_with_its_own_factor() {
        let unit = |n: usize| move |i: usize| if i == n { 1.0 } else { 0.0 };
        for (pixel, weight) in (0..IN).flat_map(|pixel| (0..3).map(move |weight| (pixel, weight))) {
            let (d, g) = (std::array::from_fn(unit(pixel)), std::array::from_fn(unit(weight)));
            for (i, found) in Isa::portable().run(Filter(d, g)).into_iter().enumerate() {
                let expected = if i + weight == pixel { 1.0 } else { 0.0 };
                assert!(
                    (found - expected).abs() < 1e-5,
                    "pixel {pixel}, weight {weight}, output {i}: {found}"
                );
            }
        }
    }
}
