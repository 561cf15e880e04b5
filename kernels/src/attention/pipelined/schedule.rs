//! Attention as a software pipeline: in each iteration, a *beat*, the tile unit scores 16 queries × 32 keys, the vectors turn the scores before into
//! weights, and the tile unit multiplies the weights before those by V.
//!
//! ```text
//! beat        n − 1           n               n + 1           n + 2         a unit: 16 queries × 32 keys
//! tiles       S(n−1)          S(n)            S(n+1)          S(n+2)        S = Q·Kᵀ
//! vectors     P(n−2)          P(n−1)          P(n)            P(n+1)        P = 2^(factor·S − m)
//! tiles       O += P(n−3)·V   O += P(n−2)·V   O += P(n−1)·V   O += P(n)·V
//! ```
//!
//! Nothing in a beat waits for anything else in it. Done one after the other, the two units of the CPU would take turns and half of the
//! time each would do nothing; a CPU looks 500 micro-operations ahead, so the work of both must be no further apart than that.
//!
//! Queries are rows and keys are columns: so P leaves the vectors as the rows of a left operand, and none of it is ever turned. m, which only has to
//! keep the powers from overflowing, is estimated beforehand from some of the keys; who uses beats must look at the sums of the weights at the end
//! ([`in_range`]). V has a column of ones, whose product is that sum.
//!
//! The exponential is a table's. Adding 1.5·2¹⁵ to a number leaves it in the lower half of the sum's bits, in 1/256ths, and the fixed-point number
//! n + f is nearly the bf16 of 2ⁿ⁺ᶠ: its exponent *is* n, and its fraction should be 2ᶠ − 1 instead of f. The table has the difference for 64
//! values of f. What an overflow makes of it is NaN, so that no sum that could be wrong is in_range.
//!
//! Source of the number format's trick: Schraudolph, *A Fast, Compact Approximation of the Exponential Function* (1999).

use std::ops::Range;
use std::sync::LazyLock;

use crate::cpu::tile::{ATile, BTile, Pair, TILE_K, TILE_M, TileRow};

/// Keys of a *unit of keys*: the columns of a tile of scores.
pub(crate) const KEYS: usize = TILE_K;
/// Queries of a beat.
pub(crate) const QUERIES: usize = TILE_M;
/// Columns of V that are multiplied in one go, in tiles.
pub(crate) const GROUP: usize = 3;
/// Units of a block: their K and V are 28 KB for heads of 40, and stay in the L1 cache for all queries.
pub(crate) const BLOCK: usize = 4;

/// Sums of 16 queries, 16 columns of V.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct SumTile(pub(crate) [[f32; TILE_M]; QUERIES]);

impl SumTile {
    pub(crate) const ZERO: Self = Self([[0.0; TILE_M]; QUERIES]);
}

/// The scores of a unit.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Scores([[f32; KEYS]; QUERIES]);

impl Scores {
    pub(crate) const ZERO: Self = Self([[0.0; KEYS]; QUERIES]);
}

/// The two keys of pair `r` of a line of weights, the second being the next: the order in which an instruction that packs two vectors leaves them.
/// V's rows stand in the same order.
pub(crate) fn pair_of_keys(r: usize) -> usize {
    let (lane, place) = (r / 4, r % 4);
    4 * lane + 2 * (place % 2) + KEYS / 2 * (place / 2)
}

/// 1.5·2¹⁵: numbers near it have steps of 1/256.
pub(super) const ROUNDER: f32 = 49152.0;
/// The exponent of bf16 that stands for 2⁰.
const BIAS: f32 = 127.0;
/// What is added to `factor·score`, for weights 2^(factor·score − m): exact, if m is an integer.
pub(crate) fn shift(m: f32) -> f32 {
    ROUNDER + BIAS - m
}

/// `256·(1 + f − 2ᶠ)` in the middle of each 64th of [0, 1], rounded.
pub(super) static EXCESS: LazyLock<[u8; 64]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let f = (i as f64 + 0.5) / 64.0;
        (256.0 * (1.0 + f - f.exp2())).round() as u8
    })
});

/// `2^(factor·score − m)` as a bf16, in the upper half of the bits of an f32; `shift` is that of m.
///
/// Relative error at most 0.71 %, 0.19 % on average, where rounding alone has 0.39 and 0.14. Nothing, or −0, from 2⁻¹²⁷ down. Infinite or NaN from
/// 2¹²⁸ up, of NaN without a sign, and between 2⁻⁴⁹²⁷⁹ and 2⁻⁹⁸⁴³¹, where the sum has the other sign.
#[inline(always)]
fn weight(score: f32, factor: f32, shift: f32, excess: &[u8; 64]) -> u32 {
    let bits = score.mul_add(factor, shift).to_bits().cast_signed();
    let fixed = bits.wrapping_sub(ROUNDER.to_bits().cast_signed()).clamp(0, 0xFFFF) as u16;
    u32::from(fixed.wrapping_sub(excess[usize::from(fixed / 4 % 64)].into()).div_ceil(2)) << 16
}

/// Whether a sum of weights is far from what its numbers cannot hold; otherwise m was a bad estimate.
pub(crate) fn in_range(total: f32) -> bool {
    (1e-18..1e18).contains(&total)
}

/// What happens in a beat, by numbers of tiles. Those behind the last unit and before the first do what they do for that unit, and nobody looks at it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Iteration {
    /// The unit that is scored: first tile of Q, first step of K, and where the scores go.
    pub(super) queries: u32,
    pub(super) keys: u32,
    pub(super) scores: u32,
    /// The unit that is weighed: its scores, its row of shifts, and where the weights go.
    pub(super) scored: u32,
    pub(super) shifts: u32,
    pub(super) weights: u32,
    /// The unit whose weighted values are added: the weights, and the first tile of V.
    pub(super) weighted: u32,
    pub(super) values: u32,
    /// If these sums are done with and others begun: which, and which. The same if not.
    pub(super) done: u32,
    pub(super) begun: u32,
}

/// All beats for some tiles of queries and units of keys.
pub(crate) struct Schedule {
    query_tiles: usize,
    units: usize,
    pub(super) steps: usize,
    weights: usize,
    pub(super) iterations: Vec<Iteration>,
}

impl Schedule {
    /// Heads of `steps` steps. The weights are all kept if `keep`, else only as long as they are needed.
    pub(crate) fn new(query_tiles: usize, units: usize, steps: usize, keep: bool) -> Self {
        assert!(query_tiles * units * steps > 0, "a plan of nothing");
        let count = query_tiles * units;
        let weights = if keep { count } else { 2 };
        let iteration = |n: usize| {
            // The stages are a beat apart; the last is followed by one beat more, in which the last sums are put away.
            let [scored, weighed, added] = [0, 1, 2].map(|late| n.saturating_sub(late).min(count - 1));
            let swap = n >= 2 && (n == count + 2 || added.is_multiple_of(units));
            let done = if n == 2 { query_tiles } else { n.saturating_sub(3) / units };
            let begun = if n == count + 2 { query_tiles } else { added / units };
            let number = |n: usize| u32::try_from(n).expect("a plan for one core");
            Iteration {
                queries: number(scored / units * steps),
                keys: number(scored % units * steps),
                scores: number(n % 2),
                scored: number((n + 1) % 2),
                shifts: number(weighed / units),
                weights: number(weighed % weights),
                weighted: number(added % weights),
                values: number(added % units * GROUP),
                done: number(if swap { done } else { begun }),
                begun: number(begun),
            }
        };
        Self { query_tiles, units, steps, weights, iterations: (0..count + 3).map(iteration).collect() }
    }

    /// Tiles of weights.
    pub(crate) fn weights(&self) -> usize {
        self.weights
    }

    /// Panics unless all that the beats name is there.
    pub(super) fn check(&self, buffers: &Buffers<'_>) {
        let Self { query_tiles, units, steps, weights, .. } = *self;
        assert!(buffers.queries.len() >= query_tiles * steps && buffers.keys.len() >= units * steps);
        assert!(buffers.values.len() >= units * GROUP && buffers.shifts.len() >= query_tiles);
        assert!(buffers.weights.len() >= weights && buffers.sums.len() > query_tiles);
    }
}

/// On what the beats work.
pub(crate) struct Buffers<'a> {
    /// log₂e times the scale.
    pub(crate) factor: f32,
    /// Q: `[tiles of 16 queries][steps]`
    pub(crate) queries: &'a [ATile],
    /// K, a column for each key: `[units][steps]`
    pub(crate) keys: &'a [BTile],
    /// Three tiles of columns of V: `[units][3]`, pairs of keys in the order of [`pair_of_keys`].
    pub(crate) values: &'a [ATile],
    /// The [`shift`] of each query: `[tiles of queries]`
    pub(crate) shifts: &'a [[f32; QUERIES]],
    /// Room for two units.
    pub(crate) scores: &'a mut [Scores; 2],
    /// `[tiles of queries][units]` if the plan keeps them
    pub(crate) weights: &'a mut [ATile],
    /// `[tiles of queries][3]`, to which is added; and one more, of any numbers.
    pub(crate) sums: &'a mut [[SumTile; GROUP]],
}

/// Does all beats of a plan, on any CPU and slowly: the specification of [`amx`].
pub(crate) fn run_schedule(schedule: &Schedule, buffers: Buffers<'_>) {
    schedule.check(&buffers);
    let Buffers { factor, queries, keys, values, shifts, scores, weights, sums } = buffers;
    let mut running = [SumTile::ZERO; GROUP];
    for iteration in &schedule.iterations {
        if iteration.done != iteration.begun {
            sums[iteration.done as usize] = running;
            running = sums[iteration.begun as usize];
        }
        for (i, row) in scores[iteration.scores as usize].0.iter_mut().enumerate() {
            for (key, score) in row.iter_mut().enumerate() {
                let steps = queries[iteration.queries as usize..]
                    .iter()
                    .zip(&keys[iteration.keys as usize..])
                    .take(schedule.steps);
                *score = steps.map(|(q, k)| dot(&q[i], |depth| k.at(key, depth))).sum();
            }
        }
        let Scores(scored) = &scores[iteration.scored as usize];
        for ((line, row), &shift) in
            weights[iteration.weights as usize].iter_mut().zip(scored).zip(&shifts[iteration.shifts as usize])
        {
            for (r, pair) in line.0.iter_mut().enumerate() {
                let [first, second] =
                    [0, 1].map(|i| weight(row[pair_of_keys(r) + i], factor, shift, &EXCESS));
                *pair = Pair::of(first, second);
            }
        }
        add(
            &weights[iteration.weighted as usize],
            &values[iteration.values as usize..][..GROUP],
            &mut running,
        );
    }
}

/// `sums += weights · values` over some units: for the columns of V that the beats leave out.
pub(crate) fn add_values(weights: &[ATile], values: &[ATile], sums: &mut [SumTile; GROUP]) {
    for (weights, values) in weights.iter().zip(values.chunks(GROUP)) {
        add(weights, values, sums);
    }
}

/// `sums += weights · values` of 16 queries and 32 keys.
fn add(weights: &ATile, values: &[ATile], sums: &mut [SumTile; GROUP]) {
    for (SumTile(sums), values) in sums.iter_mut().zip(values) {
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for (column, sum) in sums.iter_mut().enumerate() {
                let value = |depth: usize| {
                    let pair = values[depth / 2].0[column];
                    if depth.is_multiple_of(2) { pair.first() } else { pair.second() }
                };
                *sum += dot(weights, value);
            }
        }
    }
}

/// The scalar product of a line with 32 other numbers.
fn dot(line: &TileRow, other: impl Fn(usize) -> f32) -> f32 {
    let pairs = line.0.iter().enumerate();
    pairs.map(|(i, pair)| pair.first() * other(2 * i) + pair.second() * other(2 * i + 1)).sum()
}

/// Units of which each block consists.
pub(crate) fn blocks(units: usize) -> impl Iterator<Item = Range<usize>> {
    (0..units).step_by(BLOCK).map(move |first| first..units.min(first + BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::attention::pipelined::unit::PipelinedUnit;
    use crate::cpu::simd::Simd;
    use crate::cpu::tile::MatmulUnit;
    use crate::cpu::tile::UnitOp;

    #[test]
    fn weights_are_powers_of_two_nearly_as_exact_as_bf16() {
        let (mut worst, mut sum, mut count) = (0.0f64, 0.0, 0);
        for i in -2000..2000 {
            let x = f64::from(i) / 100.0;
            let found = f64::from(f32::from_bits(weight(x as f32, 1.0, shift(0.0), &EXCESS)));
            let error = (found / x.exp2() - 1.0).abs();
            (worst, sum, count) = (worst.max(error), sum + error, count + 1);
        }
        let mean = sum / f64::from(count);
        assert!(worst < 7.2e-3 && mean < 2e-3, "worst {worst}, mean {mean}");
    }

    #[test]
    fn what_does_not_fit_is_nothing_or_never_trusted() {
        let weight = |score: f32| f32::from_bits(weight(score, 1.0, shift(0.0), &EXCESS));
        for small in [-127.5, -1000.0, -40_000.0, -1e6, f32::NEG_INFINITY] {
            assert_eq!(weight(small), 0.0, "2^{small}");
        }
        for large in [128.0, 128.5, 129.0, 1e4, 1e9, f32::INFINITY, f32::NAN, -60_000.0] {
            assert!(
                !in_range(weight(large)) && !in_range(weight(large) * 0.0 + 1.0),
                "2^{large}: {}",
                weight(large)
            );
        }
        assert!(in_range(weight(0.0)));
    }

    /// Small integers, of which all sums are exact.
    struct Integers {
        query_tiles: usize,
        units: usize,
        steps: usize,
        keep: bool,
    }

    impl UnitOp for Integers {
        type Output = Vec<f32>;
        #[inline(always)]
        fn eval<S: Simd, U: MatmulUnit>(self, _: S, unit: U) -> Vec<f32> {
            let Self { query_tiles, units, steps, keep } = self;
            let pair = |i: usize, m: usize| Pair::of(((i % m) as f32).to_bits(), ((i % 2) as f32).to_bits());
            let tile = |t: usize, m: usize| -> ATile {
                std::array::from_fn(|row| TileRow(std::array::from_fn(|i| pair(7 * t + 3 * row + i, m))))
            };
            let queries: Vec<ATile> = (0..query_tiles * steps).map(|t| tile(t, 3)).collect();
            let values: Vec<ATile> = (0..units * GROUP).map(|t| tile(t, 5)).collect();
            let step =
                |t: usize| BTile(std::array::from_fn(|k| std::array::from_fn(|n| pair(t + k + 5 * n, 2))));
            let keys: Vec<BTile> = (0..units * steps).map(step).collect();
            let shifts: Vec<_> = (0..query_tiles).map(|t| [shift(8.0 + t as f32); QUERIES]).collect();
            let schedule = Schedule::new(query_tiles, units, steps, keep);
            let mut weights = vec![[TileRow::ZERO; TILE_M]; schedule.weights()];
            let mut sums = vec![[SumTile::ZERO; GROUP]; query_tiles + 1];
            let buffers = Buffers {
                factor: 0.125,
                queries: &queries,
                keys: &keys,
                values: &values,
                shifts: &shifts,
                scores: &mut [Scores::ZERO; 2],
                weights: &mut weights,
                sums: &mut sums,
            };
            unit.run_schedule(&schedule, buffers);
            if keep {
                for (weights, sums) in weights.chunks(units).zip(&mut sums) {
                    unit.add_values(weights, &values, sums);
                }
            }
            let numbers = sums[..query_tiles].iter().flatten().flat_map(|tile| tile.0).flatten();
            numbers.collect()
        }
    }

    #[test]
    fn every_unit_plays_the_same_bits() {
        for (query_tiles, units, steps, keep) in
            [(1, 1, 1, false), (2, 1, 2, true), (3, 4, 2, false), (5, 3, 5, true)]
        {
            let integers = || Integers { query_tiles, units, steps, keep };
            let expected = Isa::portable().run_with_unit(integers());
            assert!(expected.iter().any(|&x| x > 0.0));
            for isa in Isa::all_and_emulated() {
                let found = isa.run_with_unit(integers());
                assert!(
                    found == expected,
                    "{isa}: {query_tiles} tiles, {units} units, {steps} steps, {keep}"
                );
            }
        }
    }

    #[test]
    fn the_keys_of_a_line_are_all_there() {
        let mut keys: Vec<usize> =
            (0..KEYS / 2).flat_map(|r| [pair_of_keys(r), pair_of_keys(r) + 1]).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..KEYS).collect::<Vec<_>>());
    }
}
