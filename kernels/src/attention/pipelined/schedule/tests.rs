use super::*;
use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::attention::pipelined::amx::Amx;
use crate::attention::pipelined::numerators::SHIFT_OF_ZERO;
use crate::attention::pipelined::portable::Portable;
use crate::cpu::simd::Simd;
use crate::cpu::tile::{MatmulUnit, Pair, UnitOp, ZERO_TILE};

/// Small integers, all sums of which are exact.
#[derive(Clone, Copy)]
struct Integers {
    pairs: usize,
    tiles: usize,
    steps: usize,
    groups: usize,
}

const FACTOR: f32 = 0.125;

impl Integers {
    fn tile(t: usize, m: usize) -> ATile {
        let pair = |i: usize| Pair::of(((i % m) as f32).to_bits(), ((i % 2) as f32).to_bits());
        std::array::from_fn(|row| TileRow(std::array::from_fn(|i| pair(7 * t + 3 * row + i))))
    }

    fn key(t: usize) -> BTile {
        let pair = |i: usize| Pair::of(((i % 2) as f32).to_bits(), ((i % 3 % 2) as f32).to_bits());
        BTile(std::array::from_fn(|k| std::array::from_fn(|n| pair(t + k + 5 * n))))
    }

    /// Calls `f` with the work and the buffers; the sums.
    fn with(self, f: impl FnOnce(Work<'_>, &mut Buffers)) -> Vec<f32> {
        let Self { pairs, tiles, steps, groups } = self;
        let queries: Vec<ATile> = (0..2 * pairs * steps).map(|t| Self::tile(t, 3)).collect();
        let values: Vec<ATile> = (0..groups * tiles * GROUP).map(|t| Self::tile(t, 5)).collect();
        let keys: Vec<BTile> = (0..tiles * steps).map(Self::key).collect();
        let shifts: Vec<_> = (0..2 * pairs).map(|t| [SHIFT_OF_ZERO - 8.0 - t as f32; QUERIES]).collect();
        let mut sums = vec![ZERO_SUMS; groups * pairs];
        let work = Work { queries: &queries, keys: &keys, values: &values, shifts: &shifts, sums: &mut sums };
        let mut buffers = Buffers::ZERO;
        f(work, &mut buffers);
        sums.iter().flatten().flatten().flat_map(|tile| tile.0).flatten().collect()
    }

    /// A tile after the other: scores, numerators, values.
    fn one_after_the_other(self) -> Vec<f32> {
        let Self { pairs, tiles, steps, groups } = self;
        let engine = Portable { factor: FACTOR };
        self.with(|work, _| {
            for pair in 0..pairs {
                for tile in 0..tiles {
                    let mut scores = [ScoreTile::ZERO; 2];
                    let mut numerators = [[ZERO_TILE; 2]];
                    let queries = &work.queries[2 * pair * steps..][..2 * steps];
                    let keys = &work.keys[tile * steps..][..steps];
                    engine.scores(ScoreStep { queries, keys, scores: &mut scores }, None);
                    for (i, numerators) in numerators[0].iter_mut().enumerate() {
                        let shifts = &work.shifts[2 * pair + i];
                        engine.exp(Exp { shifts, scores: &scores[i], numerators });
                    }
                    for group in 0..groups {
                        let values = &work.values[(group * tiles + tile) * GROUP..][..GROUP];
                        let sums = &mut work.sums[group * pairs + pair];
                        engine.values(
                            ValueStep { numerators: &numerators, values, sums },
                            [const { None }; BLOCK],
                        );
                    }
                }
            }
        })
    }
}

impl UnitOp for Integers {
    type Output = Vec<f32>;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, _: S, unit: U) -> Vec<f32> {
        self.with(|work, buffers| {
            #[cfg(target_arch = "x86_64")]
            if let Some(engine) = unit.amx().and_then(|tiles| Amx::new(tiles, FACTOR)) {
                return run(&engine, work, buffers);
            }
            run(Portable { factor: FACTOR }, work, buffers);
        })
    }
}

/// Blocks that are whole and that are not, one and several; pairs fewer and more than are under
/// way.
#[test]
fn the_pipeline_has_the_sums_of_one_tile_after_the_other() {
    for (pairs, tiles, steps, groups) in [
        (1, 1, 1, 1),
        (1, 1, 2, 2),
        (1, 2, 2, 1),
        (1, 5, 2, 1),
        (2, 3, 2, 1),
        (3, 1, 3, 1),
        (2, 7, 5, 2),
        (4, 4, 1, 1),
        (3, 6, 2, 4),
    ] {
        let integers = Integers { pairs, tiles, steps, groups };
        let expected = integers.one_after_the_other();
        assert!(expected.iter().any(|&x| x > 0.0));
        for isa in Isa::all_and_emulated() {
            let found = isa.run_with_unit(integers);
            let name = format!("{isa}: {pairs} pairs, {tiles} tiles of keys, {steps} steps, {groups} groups");
            assert!(found == expected, "{name}");
        }
    }
}
