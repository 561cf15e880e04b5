//! The iterations on any CPU, and slowly: what [`amx`](super::amx) is tested against.

use super::numerators::Exp;
use super::schedule::{BLOCK, Engine, GROUP, ScoreStep, SumTile, ValueStep};
use crate::cpu::tile::{ATile, TileRow};

/// Any CPU.
#[derive(Clone, Copy)]
pub(super) struct Portable {
    /// log₂e times the scale.
    pub(super) factor: f32,
}

impl Engine for Portable {
    fn scores(self, step: ScoreStep<'_>, exp: Option<Exp<'_>>) {
        step.check();
        exp.into_iter().for_each(|exp| exp.compute(self.factor));
        let ScoreStep { queries, keys, scores } = step;
        for (scores, queries) in scores.iter_mut().zip(queries.chunks(keys.len())) {
            for (i, row) in scores.0.iter_mut().enumerate() {
                for (key, score) in row.iter_mut().enumerate() {
                    let steps = queries.iter().zip(keys);
                    *score = steps.map(|(q, k)| dot(&q[i], |depth| k.at(key, depth))).sum();
                }
            }
        }
    }

    fn values(self, step: ValueStep<'_>, exps: [Option<Exp<'_>>; BLOCK]) {
        step.check();
        exps.into_iter().flatten().for_each(|exp| exp.compute(self.factor));
        for (numerators, values) in step.numerators.iter().zip(step.values.chunks(GROUP)) {
            for (sums, numerators) in step.sums.iter_mut().zip(numerators) {
                sums.iter_mut().zip(values).for_each(|(sums, values)| add(numerators, values, sums));
            }
        }
    }

    fn exp(self, exp: Exp<'_>) {
        exp.compute(self.factor);
    }
}

/// `sums += numerators·values` of 16 queries, 32 keys and 16 columns.
fn add(numerators: &ATile, values: &ATile, SumTile(sums): &mut SumTile) {
    for (sums, numerators) in sums.iter_mut().zip(numerators) {
        for (column, sum) in sums.iter_mut().enumerate() {
            let value = |depth: usize| {
                let pair = values[depth / 2].0[column];
                if depth.is_multiple_of(2) { pair.first() } else { pair.second() }
            };
            *sum += dot(numerators, value);
        }
    }
}

/// The scalar product of a row with 32 other numbers.
fn dot(row: &TileRow, other: impl Fn(usize) -> f32) -> f32 {
    let pairs = row.0.iter().enumerate();
    pairs.map(|(i, pair)| pair.first() * other(2 * i) + pair.second() * other(2 * i + 1)).sum()
}
