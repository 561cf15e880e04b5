//! The memory layout of bf16 operands: what a tile register holds, and how it gets there.
//!
//! ```text
//! TileRow  32 numbers             pairs (k, k + 1) for k = 0, 2, … 30                    64 bytes
//! ATile    16 rows × 32 deep      a `TileRow` for each row                               1 KB
//! BTile    32 deep × 32 columns   row k/2: pairs (k, k + 1) of columns 0, 1, … 31        2 KB
//! ```
//!
//! Intel calls the last order VNNI. Rounding is to the nearest bf16, ties to even, as the
//! instructions do it: cutting the lower half off instead would make every number smaller, and
//! errors that all point one way add up.

use super::panel::{NR, PanelRow};
use crate::cpu::simd::{MAX_LANES, Simd};

/// Depth of a step: what one tile register holds of a row.
pub(crate) const TILE_K: usize = 32;
/// Rows of a tile.
pub(crate) const TILE_M: usize = 16;
/// Pairs of a step.
const PAIRS: usize = TILE_K / 2;

/// Two bf16 numbers that are neighbours in the depth, the first in the lower half.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

impl Pair {
    /// The pair of two numbers that are bf16 already.
    #[inline(always)]
    pub(crate) fn of(first: u32, second: u32) -> Self {
        Self(second & HIGH | first >> 16)
    }

    /// Of two pairs, the first numbers and the second ones.
    #[inline(always)]
    pub(crate) fn cross(a: Self, b: Self) -> [Self; 2] {
        [Self(a.0 & !HIGH | b.0 << 16), Self(a.0 >> 16 | b.0 & HIGH)]
    }

    /// Both, the first in the lower half.
    #[inline(always)]
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The first number.
    #[inline(always)]
    pub(crate) fn first(self) -> f32 {
        f32::from_bits(self.0 << 16)
    }

    /// The second number.
    #[inline(always)]
    pub(crate) fn second(self) -> f32 {
        f32::from_bits(self.0 & HIGH)
    }
}

/// The bits of an f32 that are its bf16.
const HIGH: u32 = 0xFFFF_0000;

/// The nearest bf16 as the bits of an f32, ties to even; NaN stays NaN, and what is beyond the
/// largest bf16 becomes infinite.
#[inline(always)]
fn round(x: f32) -> u32 {
    let bits = x.to_bits();
    // Adding almost half of the last place carries into it when the rest is larger than half; the
    // last place itself decides a tie.
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    // The carry could turn a NaN into a number; its top bit makes it a quiet one.
    (if x.is_nan() { bits | 0x0040_0000 } else { rounded }) & HIGH
}

/// A number in two parts, each a bf16 as the bits of an f32.
#[derive(Clone, Copy)]
pub(crate) struct HiLo {
    /// The nearest bf16.
    pub(crate) hi: u32,
    /// The nearest bf16 of what is left.
    pub(crate) lo: u32,
}

/// `x ≈ high + low`, the error at most 2⁻¹⁷·|x|.
#[inline(always)]
pub(crate) fn split_bf16(x: f32) -> HiLo {
    let hi = round(x);
    HiLo { hi, lo: round(x - f32::from_bits(hi)) }
}

/// One row of A, one step deep: a cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct TileRow(pub(crate) [Pair; PAIRS]);

impl TileRow {
    pub(crate) const ZERO: Self = Self([Pair(0); PAIRS]);

    /// Whether no number is infinite or NaN.
    #[inline(always)]
    pub(crate) fn is_finite(&self) -> bool {
        // All bits of the exponent are set in those that are not.
        const EXPONENTS: [u32; 2] = [0x7F80, 0x7F80_0000];
        let finite = |pair: &Pair| EXPONENTS.map(|bits| pair.0 & bits != bits);
        self.0.iter().map(finite).fold(true, |all, [first, second]| all & first & second)
    }

    /// Makes zero all numbers from the given one on.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Some(pairs) = self.0.get_mut(len.div_ceil(2)..) {
            pairs.fill(Pair::default());
        }
        if !len.is_multiple_of(2) {
            let last = &mut self.0[len / 2];
            *last = Pair::of(last.first().to_bits(), 0);
        }
    }
}

/// 16 rows of A, one step deep: a tile register, 1 KB.
pub(crate) type ATile = [TileRow; TILE_M];

/// A tile of zeros.
pub(crate) const ZERO_TILE: ATile = [TileRow::ZERO; TILE_M];

/// 32 columns of B, one step deep: two tile registers side by side, 2 KB. Public only as a part of
/// packed weights.
#[doc(hidden)]
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct BTile(pub(crate) [[Pair; NR]; PAIRS]);

impl BTile {
    pub(crate) const ZERO: Self = Self([[Pair(0); NR]; PAIRS]);

    /// `f(column, depth)`, bf16 as the bits of an f32.
    pub(crate) fn from_fn(f: impl Fn(usize, usize) -> u32) -> Self {
        Self(std::array::from_fn(|pair| {
            std::array::from_fn(|n| Pair::of(f(n, 2 * pair), f(n, 2 * pair + 1)))
        }))
    }

    /// `f` of each number of 32 columns, bf16 as the bits of an f32.
    #[inline(always)]
    pub(crate) fn from_columns<S: Simd>(s: S, columns: &[[f32; TILE_K]; NR], f: impl Fn(f32) -> u32) -> Self {
        let mut pairs = [[0.0; PAIRS]; NR];
        for (pairs, column) in pairs.iter_mut().zip(columns) {
            for (pair, x) in pairs.iter_mut().zip(column.as_chunks().0) {
                let &[first, second] = x;
                *pair = f32::from_bits(Pair::of(f(first), f(second)).bits());
            }
        }
        Self::from_pairs(s, &pairs)
    }

    /// 32 columns that were rounded as rows.
    #[inline(always)]
    pub(crate) fn from_lines<S: Simd>(s: S, columns: &[TileRow; NR]) -> Self {
        Self::from_pairs(s, &columns.map(|column| column.0.map(|pair| f32::from_bits(pair.bits()))))
    }

    /// The pairs of 32 columns, as the bits of f32.
    #[inline(always)]
    fn from_pairs<S: Simd>(s: S, pairs: &[[f32; PAIRS]; NR]) -> Self {
        let mut step = Self::ZERO;
        for n in (0..NR).step_by(S::LANES) {
            for k in (0..PAIRS).step_by(S::LANES) {
                let mut square = [s.splat(0.0); MAX_LANES];
                for i in 0..S::LANES {
                    square[i] = s.load(&pairs[n + i][k..]);
                }
                s.transpose(&mut square);
                for i in 0..S::LANES {
                    let mut lanes = [0.0; MAX_LANES];
                    s.store(square[i], &mut lanes);
                    step.0[k + i][n..n + S::LANES]
                        .copy_from_slice(&lanes.map(|x| Pair(x.to_bits()))[..S::LANES]);
                }
            }
        }
        step
    }

    /// The number of a column at a depth.
    pub(crate) fn at(&self, column: usize, depth: usize) -> f32 {
        let pair = self.0[depth / 2][column];
        if depth.is_multiple_of(2) { pair.first() } else { pair.second() }
    }
}

/// Where rows are written that are rounded in two parts, or in one: a plane for each step.
pub(crate) type HiLoPlanes<'a, 'b> = (&'a mut [&'b mut [TileRow]], &'a mut [&'b mut [TileRow]]);

/// See [`MatmulUnit::round_rows`](super::MatmulUnit::round_rows).
#[inline(always)]
pub(super) fn round_rows(rows: &[&[f32]], planes: &mut [&mut [TileRow]], at: usize) {
    fill_rows(rows, planes.len(), |row, step, x| round_line(x, &mut planes[step][at + row]));
}

/// See [`MatmulUnit::round_line`](super::MatmulUnit::round_line).
#[inline(always)]
pub(super) fn round_line(numbers: &[f32; TILE_K], line: &mut TileRow) {
    for (pair, x) in line.0.iter_mut().zip(numbers.as_chunks().0) {
        let &[first, second] = x;
        *pair = Pair::of(round(first), round(second));
    }
}

/// See [`split_rows`](super::split_rows).
#[inline(always)]
pub(super) fn split_rows(rows: &[&[f32]], (hi, lo): HiLoPlanes<'_, '_>, at: usize) {
    fill_rows(rows, hi.len(), |row, step, x| {
        let pairs = hi[step][at + row].0.iter_mut().zip(&mut lo[step][at + row].0);
        for ((hi, lo), x) in pairs.zip(x.as_chunks().0) {
            let &[first, second] = x;
            let (first, second) = (split_bf16(first), split_bf16(second));
            *hi = Pair::of(first.hi, second.hi);
            *lo = Pair::of(first.lo, second.lo);
        }
    });
}

/// Calls `f(row, step, numbers)` for all rows and steps; numbers that do not exist are zero.
#[inline(always)]
pub(super) fn fill_rows(rows: &[&[f32]], k_steps: usize, mut f: impl FnMut(usize, usize, &[f32; TILE_K])) {
    for (row, numbers) in rows.iter().enumerate() {
        assert!(numbers.len() <= k_steps * TILE_K, "{} numbers do not fit {k_steps} steps", numbers.len());
        let (whole, rest) = numbers.as_chunks();
        for (step, x) in whole.iter().enumerate() {
            f(row, step, x);
        }
        for step in whole.len()..k_steps {
            let mut x = [0.0; TILE_K];
            if step == whole.len() {
                x[..rest.len()].copy_from_slice(rest);
            }
            f(row, step, &x);
        }
    }
}

/// See [`MatmulUnit::round_panel`](super::MatmulUnit::round_panel).
#[inline(always)]
pub(super) fn round_panel(rows: &[PanelRow], k_steps: &mut [BTile]) {
    fill_panel(rows, k_steps.len(), |step, row, first, second| {
        let pairs = &mut k_steps[step].0[row];
        for i in 0..NR {
            pairs[i] = Pair::of(round(first[i]), round(second[i]));
        }
    });
}

/// See [`MatmulUnit::round_pairs`](super::MatmulUnit::round_pairs).
#[inline(always)]
pub(super) fn round_pairs<S: Simd>(s: S, first: S::V, second: S::V, pairs: &mut [Pair]) {
    let mut lanes = [[0.0; MAX_LANES]; 2];
    s.store(first, &mut lanes[0]);
    s.store(second, &mut lanes[1]);
    let pairs = &mut pairs[..S::LANES];
    for i in 0..S::LANES {
        pairs[i] = Pair::of(round(lanes[0][i]), round(lanes[1][i]));
    }
}

/// See [`split_panel`](super::split_panel).
#[inline(always)]
pub(super) fn split_panel(rows: &[PanelRow], hi: &mut [BTile], lo: &mut [BTile]) {
    fill_panel(rows, hi.len(), |step, row, first, second| {
        let (hi, lo) = (&mut hi[step].0[row], &mut lo[step].0[row]);
        for i in 0..NR {
            let (first, second) = (split_bf16(first[i]), split_bf16(second[i]));
            hi[i] = Pair::of(first.hi, second.hi);
            lo[i] = Pair::of(first.lo, second.lo);
        }
    });
}

/// Calls `f(step, row of pairs, row of the panel, next row)` for all pairs of all steps; rows that
/// do not exist are zero.
#[inline(always)]
pub(super) fn fill_panel(
    rows: &[PanelRow],
    k_steps: usize,
    mut f: impl FnMut(usize, usize, &PanelRow, &PanelRow),
) {
    assert!(rows.len() <= k_steps * TILE_K, "{} rows do not fit {k_steps} steps", rows.len());
    for pair in 0..k_steps * PAIRS {
        let row = |k: usize| rows.get(k).unwrap_or(&PanelRow::ZERO);
        f(pair / PAIRS, pair % PAIRS, row(2 * pair), row(2 * pair + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquatint_tensor::bf16;

    #[test]
    fn rounding_is_to_the_nearest_ties_to_even() {
        let next = f32::from_bits(0x3F81_0000); // the bf16 behind 1
        for (x, expected) in [
            (1.0, 1.0),
            (f32::from_bits(0x3F80_8000), 1.0), // half way: 1 is even
            (f32::from_bits(0x3F80_8001), next),
            (f32::from_bits(0x3F81_8000), f32::from_bits(0x3F82_0000)), // half way: the upper is even
            (-0.0, -0.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(round(x), f32::to_bits(expected), "{x}");
        }
        for bits in [0x7FFF_FFFF, 0x7F80_0001, 0xFFFF_FFFF] {
            assert!(f32::from_bits(round(f32::from_bits(bits))).is_nan(), "{bits:x}");
        }
        for i in 0..1_000_000u32 {
            let x = f32::from_bits(i.wrapping_mul(0x9E37_79B1));
            if !x.is_nan() {
                assert_eq!(round(x), bf16::from_f32(x).to_f32().to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn two_halves_hold_seventeen_bits() {
        for i in 1..100_000u32 {
            let x = i as f32 * 1.234_567e-3;
            let HiLo { hi, lo } = split_bf16(x);
            let error = f64::from(x) - f64::from(f32::from_bits(hi)) - f64::from(f32::from_bits(lo));
            assert!(error.abs() <= f64::from(x) * 2f64.powi(-17), "{x}: {error:e}");
        }
    }

    #[test]
    fn rows_and_panels_are_filled_up_with_zeros() {
        let numbers: Vec<f32> = (0..40).map(|k| k as f32).collect();
        let mut tiles = [[TileRow([Pair(1); PAIRS]); TILE_M]; 2];
        round_rows(&[&numbers, &numbers[..33]], &mut tiles.each_mut().map(|tile| &mut tile[..]), 0);
        assert_eq!((tiles[1][0].0[3].first(), tiles[1][0].0[3].second()), (38.0, 39.0));
        assert_eq!((tiles[1][1].0[0].first(), tiles[1][1].0[0].second()), (32.0, 0.0));
        assert_eq!(tiles[0][2], TileRow([Pair(1); PAIRS]), "there is no third row");

        let rows: Vec<PanelRow> = (0..35).map(|k| super::super::panel::Row([k as f32; NR])).collect();
        let mut k_steps = [BTile([[Pair(1); NR]; PAIRS]); 2];
        round_panel(&rows, &mut k_steps);
        assert_eq!([31, 32, 34, 35].map(|k| k_steps[k / TILE_K].at(7, k % TILE_K)), [31.0, 32.0, 34.0, 0.0]);
    }
}
