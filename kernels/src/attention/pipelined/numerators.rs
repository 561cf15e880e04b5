//! The numerators of the softmax, 2^(factor·score − m), rounded to bf16: from a table.
//!
//! Adding 1.5·2¹⁵ to a number leaves it in the lower half of the sum's bits, in 1/256ths, and the
//! fixed-point number n + f is nearly the bf16 of 2ⁿ⁺ᶠ: its exponent *is* n, and its fraction
//! should be 2ᶠ − 1 instead of f. The table has the difference for 64 values of f. An overflow
//! becomes NaN or infinite, so that no sum is trusted that could be wrong.
//!
//! Of the eight instructions for 32 numerators only two multiply. That matters because a core that
//! uses tiles begins one multiplication a cycle instead of two, while additions, logic and
//! permutations keep a port of their own.
//!
//! Source of the trick with the number format: Schraudolph, *A Fast, Compact Approximation of the
//! Exponential Function* (1999).

use std::sync::LazyLock;

use crate::cpu::tile::{ATile, Pair, TILE_K, TILE_M};

/// Keys of a tile of scores.
pub(crate) const KEYS: usize = TILE_K;
/// Queries of a tile.
pub(crate) const QUERIES: usize = TILE_M;

/// The scores of 16 queries for 32 keys.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct ScoreTile(pub(super) [[f32; KEYS]; QUERIES]);

impl ScoreTile {
    pub(super) const ZERO: Self = Self([[0.0; KEYS]; QUERIES]);
}

/// 1.5·2¹⁵: numbers near it have steps of 1/256.
pub(super) const ROUNDER: f32 = 49152.0;
/// The biased exponent of 2⁰ in bf16.
const BIAS: f32 = 127.0;
/// `shift = SHIFT_OF_ZERO − m` is added to `factor·score`: exact, if m is an integer.
pub(super) const SHIFT_OF_ZERO: f32 = ROUNDER + BIAS;

/// `256·(1 + f − 2ᶠ)` in the middle of each 64th of [0, 1], rounded.
pub(super) static EXCESS: LazyLock<[u8; 64]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let f = (i as f64 + 0.5) / 64.0;
        (256.0 * (1.0 + f - f.exp2())).round() as u8
    })
});

/// A tile of scores, and where its numerators go.
pub(super) struct Exp<'a> {
    /// `SHIFT_OF_ZERO − m` of each query.
    pub(super) shifts: &'a [f32; QUERIES],
    pub(super) scores: &'a ScoreTile,
    pub(super) numerators: &'a mut ATile,
}

impl Exp<'_> {
    /// On any CPU, and slowly; `factor` is log₂e times the scale.
    pub(super) fn compute(self, factor: f32) {
        let Self { shifts, scores, numerators } = self;
        for ((line, scores), &shift) in numerators.iter_mut().zip(&scores.0).zip(shifts) {
            for (r, pair) in line.0.iter_mut().enumerate() {
                let [first, second] =
                    [0, 1].map(|i| numerator(scores[pair_of_keys(r) + i], factor, shift, &EXCESS));
                *pair = Pair::of(first, second);
            }
        }
    }
}

/// The two keys of pair `r` of a row of numerators, the second being the next: the order in which
/// an instruction that packs two vectors leaves them. The rows of V are packed in the same order.
pub(super) fn pair_of_keys(r: usize) -> usize {
    let (lane, place) = (r / 4, r % 4);
    4 * lane + 2 * (place % 2) + KEYS / 2 * (place / 2)
}

/// `2^(factor·score − m)` as a bf16, in the upper half of the bits of an f32; `shift` is that of m.
///
/// Relative error at most 0.71 %, 0.19 % on average, where rounding alone has 0.39 and 0.14. ±0
/// below 2⁻¹²⁷. Infinite or NaN above 2¹²⁸, for positive NaN, and where the fixed-point sum wraps
/// (2⁻⁹⁸⁴³¹ … 2⁻⁴⁹²⁷⁹).
#[inline(always)]
fn numerator(score: f32, factor: f32, shift: f32, excess: &[u8; 64]) -> u32 {
    let bits = score.mul_add(factor, shift).to_bits().cast_signed();
    let fixed = bits.wrapping_sub(ROUNDER.to_bits().cast_signed()).clamp(0, 0xFFFF) as u16;
    u32::from(fixed.wrapping_sub(excess[usize::from(fixed / 4 % 64)].into()).div_ceil(2)) << 16
}

/// Whether a sum of numerators is far from both ends of what bf16 can hold; otherwise m was a bad
/// estimate, or something was not finite.
pub(super) fn in_range(total: f32) -> bool {
    (1e-18..1e18).contains(&total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerators_are_powers_of_two_nearly_as_exact_as_bf16() {
        let (mut worst, mut sum, mut count) = (0.0f64, 0.0, 0);
        for i in -2000..2000 {
            let x = f64::from(i) / 100.0;
            let found = f64::from(f32::from_bits(numerator(x as f32, 1.0, SHIFT_OF_ZERO, &EXCESS)));
            let error = (found / x.exp2() - 1.0).abs();
            (worst, sum, count) = (worst.max(error), sum + error, count + 1);
        }
        let mean = sum / f64::from(count);
        assert!(worst < 7.2e-3 && mean < 2e-3, "worst {worst}, mean {mean}");
    }

    #[test]
    fn what_does_not_fit_is_nothing_or_never_in_range() {
        let numerator = |score: f32| f32::from_bits(numerator(score, 1.0, SHIFT_OF_ZERO, &EXCESS));
        for small in [-127.5, -1000.0, -40_000.0, -1e6, f32::NEG_INFINITY] {
            assert_eq!(numerator(small), 0.0, "2^{small}");
        }
        for large in [128.0, 128.5, 129.0, 1e4, 1e9, f32::INFINITY, f32::NAN, -60_000.0] {
            let found = numerator(large);
            assert!(!in_range(found) && !in_range(found * 0.0 + 1.0), "2^{large}: {found}");
        }
        assert!(in_range(numerator(0.0)));
    }

    #[test]
    fn the_keys_of_a_row_are_all_there() {
        let mut keys: Vec<usize> =
            (0..KEYS / 2).flat_map(|r| [pair_of_keys(r), pair_of_keys(r) + 1]).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..KEYS).collect::<Vec<_>>());
    }
}
