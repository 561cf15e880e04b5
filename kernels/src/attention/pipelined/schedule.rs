//! The order in which the tile unit and the vectors work on a head: a software pipeline.
//!
//! ```text
//! round     n                      n + 1                     of a pair of query tiles and a block:
//! tiles     S(n)    O(n−1) += …    S(n+1)    O(n) += …       S = Q·Kᵀ, then O += P·V
//! vectors   P(n)    P(n)           P(n+1)    P(n+1)          P = 2^(factor·S − m)
//! ```
//!
//! An *iteration* is what the tile unit does for one tile of keys, and the vectors do one tile of
//! numerators meanwhile: the oldest whose scores are complete, always from an iteration before.
//! Nothing in an iteration waits for anything else in it. A CPU looks 500 micro-operations ahead,
//! so the work of both must be no further apart than that; one after the other, either unit of the
//! CPU would do nothing half of the time.
//!
//! Both query tiles use each tile of K and of V that is loaded. Four tiles of scores and six of
//! sums do not fit eight registers together: so all scores of a block come first, then all values,
//! while P waits in the L1 cache.

use crate::cpu::tile::{ATile, BTile, TILE_M, TileRow};

use super::numerators::Exp;
pub(crate) use super::numerators::{KEYS, QUERIES, ScoreTile};

/// Columns of V that are multiplied in one go, in tiles.
pub(crate) const GROUP: usize = 3;
/// Tiles of keys of a block, at least 2. To be timed on a CPU with AMX: 2 or 4. For heads of 40,
/// kilobytes:
///
/// | block | K, V | Q, O of a pair | S | P | together | tile loads and stores, per tile of keys |
/// |---|---|---|---|---|---|---|
/// | 2 | 14 | 10 | 8 | 8 | 40 | 18, 7 |
/// | 3 | 21 | 10 | 12 | 12 | 55 | 17, 6 |
/// | 4 | 28 | 10 | 16 | 16 | 70 | 16½, 5½ |
///
/// The 14 products take 224 cycles; 18 loads take 144 of the load ports and the vectors 48, so that
/// the fewest that fit an L1 cache of 48 KB are enough. Q and O come from L2: 5 KB for a tile of
/// keys.
pub(crate) const BLOCK: usize = 2;

/// Sums of 16 queries, 16 columns of V.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct SumTile(pub(super) [[f32; TILE_M]; QUERIES]);

/// O of two tiles of queries.
pub(crate) type PairSums = [[SumTile; GROUP]; 2];

/// Sums of nothing.
pub(crate) const ZERO_SUMS: PairSums = [[SumTile([[0.0; TILE_M]; QUERIES]); GROUP]; 2];

/// `S = Q·Kᵀ` of two tiles of queries and one of keys.
pub(super) struct ScoreStep<'a> {
    /// `[2][steps]`
    pub(super) queries: &'a [ATile],
    /// `[steps]`
    pub(super) keys: &'a [BTile],
    pub(super) scores: &'a mut [ScoreTile; 2],
}

impl ScoreStep<'_> {
    /// Panics unless Q and K have the same depth.
    pub(super) fn check(&self) {
        assert!(!self.keys.is_empty() && self.queries.len() == 2 * self.keys.len(), "Q as deep as K");
    }
}

/// `O += P·V` of two tiles of queries and a block of keys.
pub(super) struct ValueStep<'a> {
    /// `[tiles of keys][2]`
    pub(super) numerators: &'a [[ATile; 2]],
    /// `[tiles of keys][3]`
    pub(super) values: &'a [ATile],
    pub(super) sums: &'a mut PairSums,
}

impl ValueStep<'_> {
    /// Panics unless P and V are of the same keys, a block at most.
    pub(super) fn check(&self) {
        let tiles = self.numerators.len();
        assert!((1..=BLOCK).contains(&tiles) && self.values.len() == GROUP * tiles, "P for each key of V");
    }
}

/// What tiles and vectors do at the same time.
pub(super) trait Engine: Copy {
    /// The scores of one tile of keys, and the numerators of another.
    fn scores(self, step: ScoreStep<'_>, exp: Option<Exp<'_>>);
    /// The values of a block, and the numerators of a tile for each tile of keys.
    fn values(self, step: ValueStep<'_>, exps: [Option<Exp<'_>>; BLOCK]);
    /// Numerators alone, where the pipeline fills or runs empty.
    fn exp(self, exp: Exp<'_>);
}

/// The work of one head for a chunk of queries.
pub(super) struct Work<'a> {
    /// Q: `[pairs][2][steps]`
    pub(super) queries: &'a [ATile],
    /// K, a column for each key: `[tiles of keys][steps]`
    pub(super) keys: &'a [BTile],
    /// Columns of V in groups of three tiles: `[groups][tiles of keys][3]`, pairs of keys in the
    /// order of [`pair_of_keys`](super::numerators::pair_of_keys).
    pub(super) values: &'a [ATile],
    /// What is added to `factor·score` of each query: `[pairs][2]`
    pub(super) shifts: &'a [[f32; QUERIES]],
    /// O, to which is added: `[groups][pairs]`
    pub(super) sums: &'a mut [PairSums],
}

/// What the pipeline has under way.
pub(super) struct Buffers {
    /// A place for each tile of keys of a block, used in turns.
    scores: [[ScoreTile; 2]; BLOCK],
    /// P of one phase that is being computed and of one that is being added.
    numerators: [[[ATile; 2]; BLOCK]; 2],
}

impl Buffers {
    pub(super) const ZERO: Self = Self {
        scores: [[ScoreTile::ZERO; 2]; BLOCK],
        numerators: [[[[TileRow::ZERO; TILE_M]; 2]; BLOCK]; 2],
    };
}

/// A pair of query tiles and a block of keys.
#[derive(Clone, Copy, Default)]
struct Phase {
    pair: usize,
    /// Its first tile of keys, and how many.
    first: usize,
    len: usize,
    /// Which half of the numerators is its own.
    half: usize,
}

/// Tiles of scores that wait for the vectors, oldest first.
#[derive(Default)]
struct Queue {
    /// Tiles since the pipeline began.
    scored: usize,
    done: usize,
    /// To what the scores in each place belong: the phase and the tile of keys in it.
    origins: [(Phase, usize); BLOCK],
}

/// A tile of scores in the queue.
struct Waiting {
    phase: Phase,
    query_tile: usize,
    /// Its place among the scores.
    place: usize,
    /// Its place among the numerators of the phase, `[tiles of keys][2]`.
    to: usize,
}

impl Queue {
    /// The place of the next scores.
    fn next_place(&self) -> usize {
        assert!(self.scored - self.done <= 2 * BLOCK - 2, "scores that still wait would be overwritten");
        self.scored / 2 % BLOCK
    }

    /// Both tiles of scores of a tile of keys, which are in `place`.
    fn push(&mut self, place: usize, phase: Phase, key_tile: usize) {
        self.origins[place] = (phase, key_tile);
        self.scored += 2;
    }

    fn peek(&self) -> Option<Waiting> {
        let (place, query_tile) = (self.done / 2 % BLOCK, self.done % 2);
        let (phase, key_tile) = self.origins[place];
        (self.done < self.scored).then_some(Waiting {
            phase,
            query_tile,
            place,
            to: 2 * key_tile + query_tile,
        })
    }

    fn pop(&mut self) -> Option<Waiting> {
        let oldest = self.peek();
        self.done += usize::from(oldest.is_some());
        oldest
    }
}

impl Waiting {
    fn exp<'a>(&self, work: &Work<'a>, scores: &'a [ScoreTile; 2], numerators: &'a mut ATile) -> Exp<'a> {
        let shifts = &work.shifts[2 * self.phase.pair + self.query_tile];
        Exp { shifts, scores: &scores[self.query_tile], numerators }
    }
}

/// Adds to the sums of all queries what all keys contribute.
pub(super) fn run<E: Engine>(engine: E, work: Work<'_>, buffers: &mut Buffers) {
    let pairs = work.shifts.len() / 2;
    assert!(pairs > 0 && work.shifts.len() == 2 * pairs, "tiles of queries in pairs");
    let steps = work.queries.len() / (2 * pairs);
    assert!(steps > 0 && work.keys.len() >= steps, "heads of at least one channel, and a key");
    let tiles = work.keys.len() / steps;
    let mut pipeline = Pipeline { engine, work, buffers, queue: Queue::default(), pairs, steps, tiles };

    let mut before = None;
    for first in (0..tiles).step_by(BLOCK) {
        for pair in 0..pairs {
            let half = before.map_or(0, |before: Phase| 1 - before.half);
            let phase = Phase { pair, first, len: BLOCK.min(tiles - first), half };
            pipeline.score(phase);
            match before {
                Some(before) => pipeline.add(before),
                None => (0..phase.len).for_each(|_| _ = pipeline.exp()),
            }
            before = Some(phase);
        }
    }
    while pipeline.exp() {}
    before.into_iter().for_each(|last| pipeline.add(last));
}

struct Pipeline<'a, E> {
    engine: E,
    work: Work<'a>,
    buffers: &'a mut Buffers,
    queue: Queue,
    pairs: usize,
    /// Steps of the depth of Q and K.
    steps: usize,
    /// Tiles of keys.
    tiles: usize,
}

impl<E: Engine> Pipeline<'_, E> {
    /// S of a phase; meanwhile the last of P of the phase before, and the first of its own.
    fn score(&mut self, phase: Phase) {
        let Self { engine, work, queue, steps, .. } = self;
        let Buffers { scores, numerators } = &mut *self.buffers;
        let steps = *steps;
        for i in 0..phase.len {
            let step = |scores| ScoreStep {
                queries: &work.queries[2 * phase.pair * steps..][..2 * steps],
                keys: &work.keys[(phase.first + i) * steps..][..steps],
                scores,
            };
            let place = queue.next_place();
            if let Some(waiting) = queue.pop() {
                let [place, from] = scores.get_disjoint_mut([place, waiting.place]).expect("two places");
                let to = &mut numerators[waiting.phase.half].as_flattened_mut()[waiting.to];
                engine.scores(step(place), Some(waiting.exp(work, from, to)));
            } else {
                engine.scores(step(&mut scores[place]), None);
            }
            queue.push(place, phase, i);
        }
    }

    /// Adds P·V of a phase, whose P is complete, to O; meanwhile P of the next.
    fn add(&mut self, phase: Phase) {
        let Self { engine, work, queue, pairs, tiles, .. } = self;
        let Buffers { scores, numerators: [even, odd] } = &mut *self.buffers;
        let (complete, next) = if phase.half == 0 { (even, odd) } else { (odd, even) };
        for group in 0..work.sums.len() / *pairs {
            let oldest = queue.peek();
            assert!(oldest.as_ref().is_none_or(|oldest| oldest.phase.half != phase.half), "P is complete");
            let mut to = next.as_flattened_mut().iter_mut().skip(oldest.map_or(0, |oldest| oldest.to));
            let exps = std::array::from_fn(|i| {
                let waiting = (i < phase.len).then(|| queue.pop()).flatten()?;
                Some(waiting.exp(work, &scores[waiting.place], to.next()?))
            });
            let first = (group * *tiles + phase.first) * GROUP;
            let step = ValueStep {
                numerators: &complete[..phase.len],
                values: &work.values[first..][..phase.len * GROUP],
                sums: &mut work.sums[group * *pairs + phase.pair],
            };
            engine.values(step, exps);
        }
    }

    /// Numerators alone; false if no scores wait.
    fn exp(&mut self) -> bool {
        let Buffers { scores, numerators } = &mut *self.buffers;
        let Some(waiting) = self.queue.pop() else { return false };
        let to = &mut numerators[waiting.phase.half].as_flattened_mut()[waiting.to];
        self.engine.exp(waiting.exp(&self.work, &scores[waiting.place], to));
        true
    }
}

#[cfg(test)]
mod tests;
