//! Packs Q, K and V into tiles, from f32 or from what a linear layer rounded.
//!
//! ```text
//! Q     rows are queries: tiles as they are, packed by the tasks, 16 queries at a time
//! K     columns are keys: squares of pairs are transposed, 32 keys at a time
//! V     pairs of keys side by side, in the order in which the pipeline leaves numerators
//! ```
//!
//! Heads need not begin where a line does: what was rounded is copied in pieces of 8, 16 or 32
//! channels.

use std::ops::Range;

use aquatint_tensor::View;

use super::Shape;
use super::numerators::pair_of_keys;
use super::schedule::{GROUP, KEYS};
use crate::cpu::simd::Simd;
use crate::cpu::tile::{
    ATile, AlignedBuffer, BTile, MatmulUnit, NR, Pair, TILE_K, TILE_M, TileRow, UnitOp, ZERO_TILE,
};
use crate::gemm::PackedA;

/// Columns of V that are multiplied in one go.
pub(super) const GROUP_COLUMNS: usize = GROUP * TILE_M;

/// Q, K or V of all heads.
#[derive(Clone, Copy)]
pub(super) enum HeadSource<'a> {
    /// `[images, tokens, heads, head_dim]`
    F32(View<'a, f32, 4>),
    /// `[images · tokens, heads · head_dim]`
    Packed(&'a PackedA),
}

/// The channels of a head are whole pieces of lines.
pub(in crate::attention) const PIECE: usize = 8;

impl HeadSource<'_> {
    /// Rounds rows of a head, or copies them rounded: row i becomes line i of each step.
    #[inline(always)]
    pub(super) fn lines<U: MatmulUnit>(
        &self,
        unit: U,
        (image, head, head_dim): (usize, usize, usize),
        rows: Range<usize>,
        steps: &mut [&mut [TileRow]],
    ) {
        match self {
            Self::F32(x) => {
                let x = x.select::<3>(0, image % x.shape()[0]).select::<2>(1, head).slice(0, rows);
                let rows: Vec<&[f32]> = x.rows().collect();
                unit.round_rows(&rows, steps, 0);
            }
            // In the largest pieces in which heads come.
            Self::Packed(x) => {
                let from = (*x, head * head_dim, head_dim);
                if head_dim.is_multiple_of(TILE_K) {
                    copy_pieces::<{ TILE_K / 2 }>(from, rows, steps);
                } else if head_dim.is_multiple_of(2 * PIECE) {
                    copy_pieces::<PIECE>(from, rows, steps);
                } else {
                    copy_pieces::<{ PIECE / 2 }>(from, rows, steps);
                }
            }
        }
    }

    /// The rows of an image among all.
    pub(super) fn rows(&self, image: usize, tokens: usize) -> Range<usize> {
        match self {
            Self::F32(_) => 0..tokens,
            Self::Packed(x) => {
                let first = image * tokens % x.layout().pixels();
                first..first + tokens
            }
        }
    }
}

/// Copies `channels` of some rows, from channel `first` on, in pieces of `PAIRS` pairs of channels;
/// what is missing of the last step becomes zero.
#[inline(always)]
fn copy_pieces<const PAIRS: usize>(
    (x, first, channels): (&PackedA, usize, usize),
    rows: Range<usize>,
    steps: &mut [&mut [TileRow]],
) {
    for (i, step) in steps.iter_mut().enumerate() {
        for to in (0..TILE_K / 2).step_by(PAIRS) {
            let out = step[..rows.len()].iter_mut().map(|line| &mut line.0[to..][..PAIRS]);
            let channel = i * TILE_K + 2 * to;
            if channel >= channels {
                out.for_each(|pairs| pairs.fill(Pair::default()));
                continue;
            }
            let (plane, from) = ((first + channel) / TILE_K, (first + channel) % TILE_K / 2);
            for (pairs, line) in out.zip(&x.plane(0, plane)[rows.clone()]) {
                pairs.copy_from_slice(&line.0[from..][..PAIRS]);
            }
        }
    }
}

/// What all queries of a head share.
pub(super) struct Head {
    /// Whether all numbers of K are finite. Numerators do not show if one is not: that of NaN may
    /// be 0.
    pub(super) keys_are_finite: bool,
    /// K: `[tiles of keys][steps]`
    pub(super) keys: AlignedBuffer,
    /// V: `[groups][tiles of keys][3]` tiles
    pub(super) values: AlignedBuffer,
}

/// A head's K and V.
pub(super) struct Pack<'a> {
    pub(super) k: HeadSource<'a>,
    pub(super) v: HeadSource<'a>,
    pub(super) shape: Shape,
    pub(super) image: usize,
    pub(super) head: usize,
}

impl UnitOp for Pack<'_> {
    type Output = Head;
    #[inline(always)]
    fn eval<S: Simd, U: MatmulUnit>(self, s: S, unit: U) -> Head {
        let Pack { k, v, shape, image, head } = self;
        let Shape { keys, head_dim, .. } = shape;
        let (key_tiles, steps, groups) = (keys.div_ceil(KEYS), head_dim.div_ceil(TILE_K), groups(head_dim));
        let mut packed = Head {
            keys_are_finite: true,
            keys: AlignedBuffer::recycled(key_tiles * steps * NR),
            values: AlignedBuffer::recycled(groups * key_tiles * GROUP * TILE_M),
        };
        let mut rounded = vec![[TileRow::ZERO; KEYS]; steps];
        let all_keys = packed.keys.steps_mut();
        let (all_values, _) = packed.values.as_chunks_mut::<TILE_M>();
        for key_tile in 0..key_tiles {
            let first = key_tile * KEYS;
            let count = KEYS.min(keys - first);
            let lines = |x: HeadSource<'_>, rounded: &mut [[TileRow; KEYS]]| {
                let rows = x.rows(image, keys);
                if count < KEYS {
                    rounded.fill([TileRow::ZERO; KEYS]);
                }
                let mut steps: Vec<&mut [TileRow]> = rounded.iter_mut().map(|step| &mut step[..]).collect();
                x.lines(
                    unit,
                    (image, head, head_dim),
                    rows.start + first..rows.start + first + count,
                    &mut steps,
                );
            };
            lines(k, &mut rounded);
            packed.keys_are_finite &= rounded.iter().flatten().all(TileRow::is_finite);
            for (packed, step) in all_keys[key_tile * steps..].iter_mut().zip(&rounded) {
                *packed = BTile::from_lines(s, step);
            }
            lines(v, &mut rounded);
            for group in 0..groups {
                let tiles = &mut all_values[(group * key_tiles + key_tile) * GROUP..][..GROUP];
                for (i, tile) in tiles.iter_mut().enumerate() {
                    let column = group * GROUP_COLUMNS + i * TILE_M;
                    let ones = head_dim.checked_sub(column).filter(|&at| at < TILE_M);
                    pair_values(&rounded, column, tile);
                    for (r, line) in tile.iter_mut().enumerate() {
                        if let Some(at) = ones {
                            let [first, second] = [0, 1].map(|i| pair_of_keys(r) + i < count);
                            line.0[at] = Pair::of(one_if(first), one_if(second));
                        }
                    }
                }
            }
        }
        packed
    }
}

/// The bits of 1 or 0.
fn one_if(it_is: bool) -> u32 {
    f32::from(u8::from(it_is)).to_bits()
}

/// Sixteen columns of V, from `column` on, with neighbouring keys side by side; zeros behind the
/// last step.
#[inline(always)]
fn pair_values(rows: &[[TileRow; KEYS]], column: usize, tile: &mut ATile) {
    let Some(rows) = rows.get(column / TILE_K) else {
        *tile = ZERO_TILE;
        return;
    };
    let from = column % TILE_K / 2;
    for (r, line) in tile.iter_mut().enumerate() {
        let [first, second] = [0, 1].map(|i| &rows[pair_of_keys(r) + i].0[from..][..TILE_M / 2]);
        for ((pairs, &a), &b) in line.0.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
            *pairs = Pair::cross(a, b);
        }
    }
}

/// Groups of columns of V, with the column of ones.
pub(super) fn groups(head_dim: usize) -> usize {
    (head_dim + 1).div_ceil(GROUP_COLUMNS)
}
