//! The softmax of 32 queries over keys that arrive in blocks, queries on the lanes.
//!
//! ```text
//! x = scale·log₂e·score           powers of 2 are cheaper than of e, with the same quotients
//! m = the largest x, more or less
//! numerator = 2^(x − m),   total = sum of the numerators
//! ```
//!
//! A larger m in a later block makes all earlier numerators wrong by one factor, 2^(m − m'), and so
//! also the sums that were made of them. As m only has to keep the powers from overflowing, it need
//! not be the largest of all: while no x is above m + 8, it stays. A numerator is 256 at most then
//! and as exact, and after the first block there is hardly ever anything left to correct.

use crate::cpu::simd::{Simd, math};
use crate::cpu::tile::{BTile, MatmulUnit, Pair, TILE_K};
use crate::gemm::{MAX_VECTORS, NR, PanelRow, Row};

/// 2ˣ on vectors, for x up to 127.
pub(super) trait Exponential {
    /// 2ˣ; nothing or next to nothing at −∞.
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V;
}

/// To the last digit or so: see [`math::exp2`].
pub(super) struct Exact;

impl Exponential for Exact {
    #[inline(always)]
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
        math::exp2(s, x)
    }
}

/// To four digits: see [`math::coarse_exp2`].
pub(super) struct Coarse;

impl Exponential for Coarse {
    #[inline(always)]
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
        math::coarse_exp2(s, x)
    }
}

/// How far a score may be above m, as a power of 2.
const SLACK: f32 = 8.0;

/// Stands for scores of a key that does not exist.
const HIDDEN: PanelRow = Row([f32::NEG_INFINITY; NR]);

/// Rows whose numerators are computed together, column of vectors by column: four powers are enough
/// to hide each other's latency, and as all four have m in common, what they need fits sixteen
/// registers. With the powers in pairs of terms that is worth another 5 % of the peak to `flash.rs`
/// (AVX2, Zen 1).
const TOGETHER: usize = 4;

/// See the module.
pub(super) struct OnlineSoftmax {
    /// scale·log₂e
    factor: f32,
    /// m
    largest: PanelRow,
    /// The sum of all numerators so far.
    pub(super) total: PanelRow,
}

impl OnlineSoftmax {
    /// Of scores that are to be multiplied by `scale`, which is positive.
    pub(super) fn new(scale: f32) -> Self {
        let factor = scale * std::f32::consts::LOG2_E;
        Self { factor, largest: Row([f32::MIN; NR]), total: PanelRow::ZERO }
    }

    /// Makes m fit a block of scores. If that changed it, the factors that correct all earlier
    /// sums; the total is corrected already.
    #[inline(always)]
    pub(super) fn raise<S: Simd>(&mut self, s: S, scores: &[PanelRow]) -> Option<PanelRow> {
        let vectors = NR / S::LANES;
        // Two rows at a time, so that no comparison waits for the one before.
        let mut chains = [[s.splat(f32::MIN); MAX_VECTORS]; 2];
        let (pairs, rest) = scores.as_chunks::<2>();
        for pair in pairs {
            for (chain, row) in chains.iter_mut().zip(pair) {
                for j in 0..vectors {
                    chain[j] = s.max(chain[j], s.load(&row[j * S::LANES..]));
                }
            }
        }
        for row in rest {
            for j in 0..vectors {
                chains[0][j] = s.max(chains[0][j], s.load(&row[j * S::LANES..]));
            }
        }

        let mut after = self.largest;
        for j in 0..vectors {
            let before = s.load(&self.largest[j * S::LANES..]);
            let largest = s.mul(s.max(chains[0][j], chains[1][j]), s.splat(self.factor));
            let limit = s.add(before, s.splat(SLACK));
            s.store(s.select_less(limit, largest, largest, before), &mut after[j * S::LANES..]);
        }
        if after.0 == self.largest.0 {
            return None;
        }
        let mut correction = PanelRow::ZERO;
        for lanes in (0..NR).step_by(S::LANES) {
            let change = s.sub(s.load(&self.largest[lanes..]), s.load(&after[lanes..]));
            s.store(Exact::exp2(s, change), &mut correction[lanes..]);
        }
        self.largest = after;
        scale_rows(s, std::slice::from_mut(&mut self.total), &correction);
        Some(correction)
    }

    /// Replaces the scores of a block by numerators and adds these to the total.
    #[inline(always)]
    pub(super) fn exp_scores<E: Exponential, S: Simd>(&mut self, s: S, scores: &mut [PanelRow]) {
        let mut block = Block::new(s, self);
        let (together, rest) = scores.as_chunks_mut::<TOGETHER>();
        for j in 0..NR / S::LANES {
            for rows in &mut *together {
                let mut numerators = [s.zero(); TOGETHER];
                for i in 0..TOGETHER {
                    numerators[i] = block.numerator::<E>(s, j, &rows[i][j * S::LANES..]);
                }
                for i in 0..TOGETHER {
                    block.totals[j] = s.add(block.totals[j], numerators[i]);
                    s.store(numerators[i], &mut rows[i][j * S::LANES..]);
                }
            }
            for row in &mut *rest {
                let score = &mut row[j * S::LANES..];
                let numerator = block.numerator::<E>(s, j, score);
                block.totals[j] = s.add(block.totals[j], numerator);
                s.store(numerator, score);
            }
        }
        block.finish(s, self);
    }

    /// The numerators of a block, rounded, in pairs of neighbouring keys. Adds them to the total
    /// only if `ADD`.
    #[inline(always)]
    pub(super) fn exp_scores_bf16<E: Exponential, S: Simd, U: MatmulUnit, const ADD: bool>(
        &mut self,
        (s, unit): (S, U),
        scores: &[PanelRow],
        steps: &mut [BTile],
    ) {
        let mut block = Block::new(s, self);
        for (rows, step) in scores.chunks(TILE_K).zip(steps) {
            let (pairs, missing) = step.0.split_at_mut(rows.len().div_ceil(2));
            for (i, pairs) in pairs.iter_mut().enumerate() {
                let (first, second) = (&rows[2 * i], rows.get(2 * i + 1).unwrap_or(&HIDDEN));
                for j in 0..NR / S::LANES {
                    let lanes = j * S::LANES;
                    let first = block.numerator::<E>(s, j, &first[lanes..]);
                    let second = block.numerator::<E>(s, j, &second[lanes..]);
                    if ADD {
                        block.totals[j] = s.add(block.totals[j], s.add(first, second));
                    }
                    unit.round_pairs(s, first, second, &mut pairs[lanes..]);
                }
            }
            missing.fill([Pair::default(); NR]);
        }
        block.finish(s, self);
    }
}

/// What stays in registers for the length of a block.
struct Block<V> {
    factor: V,
    minus_largest: [V; MAX_VECTORS],
    totals: [V; MAX_VECTORS],
}

impl<V: Copy> Block<V> {
    #[inline(always)]
    fn new<S: Simd<V = V>>(s: S, softmax: &OnlineSoftmax) -> Self {
        let mut minus_largest = [s.zero(); MAX_VECTORS];
        for j in 0..NR / S::LANES {
            minus_largest[j] = s.sub(s.zero(), s.load(&softmax.largest[j * S::LANES..]));
        }
        Self { factor: s.splat(softmax.factor), minus_largest, totals: [s.zero(); MAX_VECTORS] }
    }

    /// The numerators of the scores of vector j.
    #[inline(always)]
    fn numerator<E: Exponential>(&self, s: impl Simd<V = V>, j: usize, scores: &[f32]) -> V {
        E::exp2(s, s.mul_add(s.load(scores), self.factor, self.minus_largest[j]))
    }

    #[inline(always)]
    fn finish<S: Simd<V = V>>(self, s: S, softmax: &mut OnlineSoftmax) {
        for j in 0..NR / S::LANES {
            let total = &mut softmax.total[j * S::LANES..];
            s.store(s.add(s.load(total), self.totals[j]), total);
        }
    }
}

/// Multiplies each lane of all rows by a factor of its own.
#[inline(always)]
pub(super) fn scale_rows<S: Simd>(s: S, rows: &mut [PanelRow], factors: &PanelRow) {
    for row in rows {
        for lanes in (0..NR).step_by(S::LANES) {
            let scaled = s.mul(s.load(&row[lanes..]), s.load(&factors[lanes..]));
            s.store(scaled, &mut row[lanes..]);
        }
    }
}
