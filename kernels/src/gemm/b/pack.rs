//! How weights come into their panels: a transposition, 32 columns and 32 deep at a time.
//!
//! ```text
//! as published    all the depth of a column, then the next column
//!                 [out][in] of a linear layer, [out][in][taps] of a convolution
//! in a panel      32 columns side by side, one row for each depth
//! ```
//!
//! A piece is gathered column by column, since that is how the file is read from start to end;
//! converted and rounded in this order, where the compiler makes vectors of it; and turned last,
//! when two numbers are one pair. All of it happens in the L1 cache, so loading a model takes as
//! long as its bytes take to come and go.

use std::borrow::Cow;
use std::ops::Range;

use aquatint_tensor::View;
use rayon::prelude::*;

use super::panels::Packable;
use crate::cpu::simd::{Op, Simd};
use crate::cpu::tile::{BTile, NR, Row, TILE_K, split_bf16};
use crate::{Isa, Precision};

/// Depth of a piece.
const PIECE: usize = 32;
/// Pieces of a task, at least.
const TASK: usize = 8;

/// PackedWeights `[out_features, segments, segment_len]` as they are published: the depth of a
/// column in one piece, in either order.
pub(in crate::gemm) struct Columns<'a, T: Clone> {
    data: Cow<'a, [T]>,
    out_features: usize,
    segments: usize,
    segment_len: usize,
    /// From a segment to the next, and from a position in it to the next.
    strides: [usize; 2],
    /// Which published column comes to each place, if not the one of the same number.
    order: Option<&'a [usize]>,
}

impl<'a, T: Packable> Columns<'a, T> {
    /// Of a view under any strides; it is copied if they are neither those of a linear layer nor
    /// those of a convolution.
    pub(in crate::gemm) fn of(w: View<'a, T, 3>) -> Self {
        let [out_features, segments, segment_len] = w.shape();
        let (data, strides) = if let Some(data) = w.as_slice() {
            (Cow::Borrowed(data), [segment_len, 1])
        } else if let Some(data) = w.permute([0, 2, 1]).as_slice() {
            (Cow::Borrowed(data), [1, segments])
        } else {
            (Cow::Owned(w.to_tensor().into_vec()), [segment_len, 1])
        };
        Self { data, out_features, segments, segment_len, strides, order: None }
    }

    /// The columns in another order, in which some may come twice.
    pub(in crate::gemm) fn in_order(self, order: &'a [usize]) -> Self {
        Self { out_features: order.len(), order: Some(order), ..self }
    }

    pub(in crate::gemm) fn out_features(&self) -> usize {
        self.out_features
    }

    fn panels(&self) -> usize {
        self.out_features.div_ceil(NR)
    }

    /// The columns that a panel holds.
    fn columns(&self, panel: usize) -> Range<usize> {
        panel * NR..self.out_features.min((panel + 1) * NR)
    }

    /// `out[k] = w[column, segment, start + k]`
    #[inline(always)]
    fn gather(&self, column: usize, segment: usize, start: usize, out: &mut [T]) {
        let depth = self.segments * self.segment_len;
        let column = self.order.map_or(column, |order| order[column]);
        let column = &self.data[column * depth..][..depth];
        let from = &column[segment * self.strides[0] + start * self.strides[1]..];
        match self.strides[1] {
            1 => out.copy_from_slice(&from[..out.len()]),
            stride => {
                for (out, x) in out.iter_mut().zip(from.iter().step_by(stride)) {
                    *out = *x;
                }
            }
        }
    }
}

/// `[panels][segments][segment_len]` rows of 32 columns, in the type in which they were published.
pub(in crate::gemm) fn rows<T: Packable>(w: &Columns<'_, T>) -> Vec<Row<T>> {
    match w.segment_len.is_multiple_of(PIECE) {
        true => pieces::<T, PIECE>(w).into_flattened(),
        false => pieces::<T, 1>(w).into_flattened(),
    }
}

/// Panels in pieces of `DEPTH` rows, which divides the length of a segment.
fn pieces<T: Packable, const DEPTH: usize>(w: &Columns<'_, T>) -> Vec<[Row<T>; DEPTH]> {
    let per_segment = w.segment_len / DEPTH;
    let per_panel = w.segments * per_segment;
    let piece = |i: usize| {
        let (panel, segment, start) = (i / per_panel, i % per_panel / per_segment, i % per_segment * DEPTH);
        let mut rows = [Row([T::default(); NR]); DEPTH];
        for (n, column) in w.columns(panel).enumerate() {
            let mut numbers = [T::default(); DEPTH];
            w.gather(column, segment, start, &mut numbers);
            for (row, x) in rows.iter_mut().zip(numbers) {
                row[n] = x;
            }
        }
        rows
    };
    (0..w.panels() * per_panel).into_par_iter().with_min_len(TASK).map(piece).collect()
}

/// `[panels][parts][steps]`, rounded, in the order of [`PackedWeights`](super::PackedWeights).
/// Segment i is the sum of the segments `sums[i]` of `w`, in f32.
pub(in crate::gemm) fn k_steps<T: Packable>(
    precision: Precision,
    w: &Columns<'_, T>,
    sums: &[Vec<usize>],
) -> Vec<BTile> {
    let per_segment = w.segment_len.div_ceil(TILE_K);
    let (segments, terms) = (sums.len(), precision.terms());
    let k_steps = segments * per_segment;
    let isa = Isa::best(); // a number is rounded the same on each
    let step = |i: usize| {
        let (panel, term, step) = (i / k_steps / terms, i / k_steps % terms, i % k_steps);
        let (summed, start) = (&sums[step % segments], step / segments * TILE_K);
        let columns = sum(w, panel, summed, start..w.segment_len.min(start + TILE_K));
        isa.run(Transpose { columns: &columns, lo: term > 0 })
    };
    (0..w.panels() * terms * k_steps).into_par_iter().with_min_len(TASK).map(step).collect()
}

/// 32 columns, rounded and transposed: the part that is high, or low.
struct Transpose<'a> {
    columns: &'a [[f32; TILE_K]; NR],
    lo: bool,
}

impl Op for Transpose<'_> {
    type Output = BTile;
    #[inline(always)]
    fn eval<S: Simd>(self, s: S) -> BTile {
        match self.lo {
            false => BTile::from_columns(s, self.columns, |x| split_bf16(x).hi),
            true => BTile::from_columns(s, self.columns, |x| split_bf16(x).lo),
        }
    }
}

/// Of each column of a panel the sum of some segments, from one position to another of at most a
/// step; zero where there is nothing.
fn sum<T: Packable>(
    w: &Columns<'_, T>,
    panel: usize,
    segments: &[usize],
    positions: Range<usize>,
) -> [[f32; TILE_K]; NR] {
    let mut sums = [[0.0; TILE_K]; NR];
    let mut numbers = [[T::default(); TILE_K]; NR];
    let mut term = [[0.0; TILE_K]; NR];
    for (i, &segment) in segments.iter().enumerate() {
        for (column, numbers) in w.columns(panel).zip(&mut numbers) {
            w.gather(column, segment, positions.start, &mut numbers[..positions.len()]);
        }
        if i == 0 {
            T::widen(numbers.as_flattened(), sums.as_flattened_mut());
            continue;
        }
        T::widen(numbers.as_flattened(), term.as_flattened_mut());
        for (sum, x) in sums.as_flattened_mut().iter_mut().zip(term.as_flattened()) {
            *sum += x;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquatint_tensor::{Tensor, bf16, f16};

    /// Numbers each of which is met once, under the strides of a linear layer, of a convolution,
    /// and of neither.
    fn views(w: &Tensor<f32, 3>, visit: &mut dyn FnMut(&str, View<'_, f32, 3>)) {
        let turned = w.view().permute([0, 2, 1]).to_tensor();
        let outside = w.view().permute([2, 0, 1]).to_tensor();
        visit("linear", w.view());
        visit("convolution", turned.view().permute([0, 2, 1]));
        visit("neither", outside.view().permute([1, 2, 0]));
    }

    #[test]
    fn every_number_comes_to_its_place_under_any_strides() {
        for [out, segments, len] in [[32, 1, 64], [40, 9, 32], [70, 2, 35], [1, 3, 1], [33, 9, 4]] {
            let w = Tensor::from_fn([out, segments, len], |[n, s, k]| (n * 1000 + s * 100 + k) as f32 + 0.37);
            views(&w, &mut |name, view| {
                let columns = Columns::of(view);
                let rows = rows(&columns);
                let identity: Vec<Vec<usize>> = (0..segments).map(|s| vec![s]).collect();
                let hi = k_steps(Precision::Bf16x3, &columns, &identity);
                let per_segment = len.div_ceil(TILE_K);
                assert_eq!(hi.len(), out.div_ceil(NR) * 2 * segments * per_segment);
                for (n, s, k) in (0..out.next_multiple_of(NR))
                    .flat_map(|n| (0..segments).flat_map(move |s| (0..len).map(move |k| (n, s, k))))
                {
                    let expected = if n < out { w[[n, s, k]] } else { 0.0 };
                    let place = format!("{name} {out}×{segments}×{len}: {n}, {s}, {k}");
                    assert_eq!(rows[(n / NR * segments + s) * len + k][n % NR], expected, "{place}");
                    let step = n / NR * 2 * segments * per_segment + k / TILE_K * segments + s;
                    let found =
                        [step, step + segments * per_segment].map(|step| hi[step].at(n % NR, k % TILE_K));
                    let terms = split_bf16(expected);
                    assert_eq!(found.map(f32::to_bits), [terms.hi, terms.lo], "{place}");
                }
            });
        }
    }

    #[test]
    fn columns_are_turned_alike_on_every_instruction_set() {
        let columns = std::array::from_fn(|n| std::array::from_fn(|k| (n * 1000 + k) as f32 + 0.37));
        for isa in Isa::all() {
            for lo in [false, true] {
                let found = isa.run(Transpose { columns: &columns, lo });
                let expected = BTile::from_fn(|n, k| {
                    let hi_lo = split_bf16(columns[n][k]);
                    if lo { hi_lo.lo } else { hi_lo.hi }
                });
                assert!(found.0 == expected.0, "{isa}, lo: {lo}");
            }
        }
    }

    #[test]
    fn sums_of_16_bit_numbers_are_rounded_once() {
        let w = Tensor::from_fn([5, 3, 40], |[n, s, k]| ((n * 31 + s * 17 + k * 7) % 101) as f32 * 0.0137);
        let sums = [vec![0], vec![2, 1], vec![0, 1, 2]];
        let check = |name: &str, w: Tensor<f32, 3>, k_steps: Vec<BTile>| {
            for (i, summed) in sums.iter().enumerate() {
                for (n, k) in (0..5).flat_map(|n| (0..40).map(move |k| (n, k))) {
                    let sum: f32 = summed.iter().map(|&s| w[[n, s, k]]).sum();
                    let found = k_steps[k / TILE_K * 3 + i].at(n, k % TILE_K);
                    assert_eq!(found, bf16::from_f32(sum).to_f32(), "{name}: {n}, {i}, {k}");
                }
            }
        };
        let (half, brain) = (w.convert::<f16>(), w.convert::<bf16>());
        let packed = k_steps(Precision::Bf16, &Columns::of(half.view()), &sums);
        check("f16", half.convert(), packed);
        let packed = k_steps(Precision::Bf16, &Columns::of(brain.view()), &sums);
        check("bf16", brain.convert(), packed);
        let packed = k_steps(Precision::Bf16, &Columns::of(w.view()), &sums);
        check("f32", w, packed);
    }
}
