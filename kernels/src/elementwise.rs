//! Arithmetic on whole slices, number by number: what is left between the networks.
//!
//! Each loop reads and writes memory and little else, in tasks of 64 KiB on all cores. There is no
//! ladder: the formula *is* the loop. Sums of a layer's result with something else are not here;
//! the [`Epilogue`](crate::gemm::Epilogue) of the layer does them before it stores.

use rayon::prelude::*;

use crate::Isa;
use crate::cpu::partition::CHUNK;
use crate::cpu::simd::{Op, Simd};

/// `out = uncond + guidance_scale·(text − uncond)`: classifier-free guidance.
///
/// `uncond` is the prediction without the text, `text` the one with it. A scale of 0 ignores the
/// text, 1 is the plain prediction, more goes beyond it (Ho & Salimans 2022,
/// [arXiv:2207.12598](https://arxiv.org/abs/2207.12598)).
///
/// ```
/// # use aquatint_kernels::{Isa, elementwise::guide};
/// assert_eq!(guide(Isa::best(), &[1.0, 2.0], &[2.0, 1.0], 7.5), [8.5, -5.5]);
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn guide(isa: Isa, uncond: &[f32], text: &[f32], guidance_scale: f32) -> Vec<f32> {
    assert_eq!(uncond.len(), text.len(), "the two predictions have different lengths");
    let mut out = vec![0.0; uncond.len()];
    out.par_chunks_mut(CHUNK)
        .zip(uncond.par_chunks(CHUNK).zip(text.par_chunks(CHUNK)))
        .for_each(|(out, (uncond, text))| isa.run(Guide { uncond, text, guidance_scale, out }));
    out
}

/// Whether there is neither NaN nor an infinity in `x`.
///
/// ```
/// # use aquatint_kernels::{Isa, elementwise::all_finite};
/// assert!(all_finite(Isa::best(), &[1.0, f32::MAX]));
/// assert!(!all_finite(Isa::best(), &[1.0, f32::NEG_INFINITY]));
/// ```
pub fn all_finite(isa: Isa, x: &[f32]) -> bool {
    x.par_chunks(CHUNK).all(|x| isa.run(AllFinite { x }))
}

struct Guide<'a> {
    uncond: &'a [f32],
    text: &'a [f32],
    guidance_scale: f32,
    out: &'a mut [f32],
}

impl Op for Guide<'_> {
    type Output = ();
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) {
        let scale = s.splat(self.guidance_scale);
        s.zip(self.out, self.uncond, self.text, |uncond, text| s.mul_add(scale, s.sub(text, uncond), uncond));
    }
}

struct AllFinite<'a> {
    x: &'a [f32],
}

impl Op for AllFinite<'_> {
    type Output = bool;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> bool {
        // 0·x is 0 for a finite x and NaN otherwise, and a NaN stays in the sum.
        let sum = s.reduce(self.x, 0.0, s.zero(), |sum, x| s.mul_add(s.zero(), x, sum));
        s.sum(sum) == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, random};
    use aquatint_tensor::Tensor;

    #[test]
    fn guidance_agrees_with_its_formula_at_every_length() {
        for len in (0..=33).chain([CHUNK + 1]) {
            let (uncond, text) = (random([len], 1), random([len], 2));
            let expected = Tensor::from_fn([len], |i| {
                (f64::from(uncond[i]) + 7.5 * (f64::from(text[i]) - f64::from(uncond[i]))) as f32
            });
            for isa in Isa::available() {
                let found = Tensor::from_vec([len], guide(isa, uncond.as_slice(), text.as_slice(), 7.5));
                assert_close(&format!("guide, {len} numbers, {isa}"), &found, &expected, 1e-6);
            }
        }
    }

    #[test]
    fn one_number_that_is_not_finite_is_found_wherever_it_stands() {
        for isa in Isa::available() {
            for len in [1, 7, 16, 33, CHUNK + 40] {
                let mut x = vec![f32::MAX; len];
                assert!(all_finite(isa, &x), "{isa}, {len} numbers");
                for at in [0, len / 2, len - 1] {
                    for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        x[at] = odd;
                        assert!(!all_finite(isa, &x), "{isa}, {odd} at {at} of {len}");
                    }
                    x[at] = f32::MIN_POSITIVE;
                }
            }
            assert!(all_finite(isa, &[]), "{isa}");
        }
    }
}
