//! The sums behind the statistics, for the columns of a panel at a time: what a layer does to each
//! vector that it stores, and the same in a pass of its own.

use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;
use crate::cpu::tile::MAX_VECTORS;

/// The statistics of a panel's columns, or of as many as there are.
pub(crate) struct RunningStats<S: Simd> {
    /// The means of the rows before.
    x0: [S::V; MAX_VECTORS],
    sums: [S::V; MAX_VECTORS],
    squares: [S::V; MAX_VECTORS],
}

/// Sees the vectors of a panel's row on their way to memory.
pub(crate) trait StatsSink<S: Simd> {
    /// Vector number i of a row. Implementations must be marked `#[inline(always)]`.
    fn add(&mut self, s: S, i: usize, x: S::V);
}

/// No statistics are wanted.
impl<S: Simd> StatsSink<S> for () {
    #[inline(always)]
    fn add(&mut self, _: S, _: usize, _: S::V) {}
}

impl<S: Simd> StatsSink<S> for RunningStats<S> {
    #[inline(always)]
    fn add(&mut self, s: S, i: usize, x: S::V) {
        let x = s.sub(x, self.x0[i]);
        self.sums[i] = s.add(self.sums[i], x);
        self.squares[i] = s.mul_add(x, x, self.squares[i]);
    }
}

impl<S: Simd> RunningStats<S> {
    /// Starts a run of rows; `mean` is that of the rows before, or the first of them.
    #[inline(always)]
    pub(crate) fn new(s: S, mean: &[f32]) -> Self {
        let mut x0 = [s.zero(); MAX_VECTORS];
        for (x0, mean) in x0.iter_mut().zip(mean.chunks(S::LANES)) {
            *x0 = load(s, mean);
        }
        Self { x0, sums: [s.zero(); MAX_VECTORS], squares: [s.zero(); MAX_VECTORS] }
    }

    /// Ends the run: adds its `rows` to the `before` rows of the block.
    #[inline(always)]
    pub(crate) fn merge(self, s: S, [before, rows]: [usize; 2], [mean, squares]: [&mut [f32]; 2]) {
        let share = s.splat(1.0 / (before + rows) as f32);
        let columns = mean.chunks_mut(S::LANES).zip(squares.chunks_mut(S::LANES));
        for (i, (mean, squares)) in columns.enumerate().take(MAX_VECTORS) {
            let offset = s.mul(self.sums[i], share);
            let square = s.sub(self.squares[i], s.mul(self.sums[i], offset));
            store(s, s.add(load(s, squares), square), squares);
            store(s, s.add(self.x0[i], offset), mean);
        }
    }
}

/// As many columns as there are, up to a vector; the rest are zero.
#[inline(always)]
pub(crate) fn load<S: Simd, T: Stored>(s: S, x: &[T]) -> S::V {
    if x.len() < S::LANES { T::load_or(s, x, 0.0) } else { T::load(s, x) }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, out: &mut [f32]) {
    if out.len() < S::LANES { s.store_part(v, out) } else { s.store(v, out) }
}
