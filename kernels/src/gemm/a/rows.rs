//! The left operand as a rule: where do the numbers of row m stand?

use std::ops::Range;

use aquatint_tensor::View;

use crate::cpu::simd::Simd;
use crate::cpu::stored::Stored;

/// The longest part of a row that is asked for at a time.
pub(crate) const MAX_DEPTH_RANGE: usize = 512;

/// Stands for any part of a row that is zero, such as a convolution's padding.
pub(crate) static ZEROS: [f32; MAX_DEPTH_RANGE] = [0.0; MAX_DEPTH_RANGE];

/// The left operand of a product: rows that are cut into segments, each contiguous in memory.
///
/// A plain matrix has one segment. A convolution has one for each tap of its kernel: row m is an
/// output pixel, segment s the channels of the input pixel under tap s.
pub trait Rows<T = f32>: Sync {
    /// Appends to `out`, for each row of `rows` in order, its numbers at `part` of the depth.
    fn gather<'a>(&'a self, rows: Range<usize>, depth: DepthRange, out: &mut Vec<&'a [T]>);
}

/// Rows of f32 that exist or are computed when they are asked for, one at a time.
pub(crate) trait RowSource: Sync {
    /// Row number m, which may be written to `room`, as long as a row.
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, buffer: &'a mut [f32]) -> &'a [f32];
}

/// Some of the depth of one segment.
#[derive(Clone, Debug)]
pub struct DepthRange {
    /// The segment.
    pub segment: usize,
    /// Where in the segment; at most 512 numbers.
    pub range: Range<usize>,
    /// Where in the whole depth, the segments standing one behind the other.
    pub start: usize,
}

/// A row-major matrix as left operand. If the weights come in several segments, each row is cut
/// likewise.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T = f32> {
    data: &'a [T],
    columns: usize,
}

impl<'a, T: Stored> Matrix<'a, T> {
    /// The rows of `x`.
    ///
    /// # Panics
    /// If `x` is not row-major.
    pub fn new(x: View<'a, T, 2>) -> Self {
        let [_, columns] = x.shape();
        Self { data: x.as_slice().expect("a row-major matrix"), columns }
    }
}

impl<T: Stored> Rows<T> for Matrix<'_, T> {
    fn gather<'a>(&'a self, rows: Range<usize>, depth: DepthRange, out: &mut Vec<&'a [T]>) {
        out.extend(rows.map(|m| &self.data[m * self.columns + depth.start..][..depth.range.len()]));
    }
}

impl<T: Stored> RowSource for Matrix<'_, T> {
    #[inline(always)]
    fn row<'a, S: Simd>(&'a self, s: S, m: usize, buffer: &'a mut [f32]) -> &'a [f32] {
        T::widen(s, &self.data[m * self.columns..][..self.columns], buffer)
    }
}

/// Matrices side by side as left operand: row m is row m of the first, then of the second, and so
/// on. A matrix with fewer rows begins again at its end. No segment of the weights may cross a
/// border.
pub struct ConcatRows<'a, T = f32> {
    /// Each matrix: its first column in the whole, its columns, its numbers.
    matrices: Vec<(usize, usize, &'a [T])>,
}

impl<'a, T: Stored> ConcatRows<'a, T> {
    /// Of matrices, each given by its columns and its numbers, for weights with segments of
    /// `segment_len`.
    ///
    /// # Panics
    /// If the columns of a matrix are no multiple of `segment_len`.
    pub fn new(matrices: impl IntoIterator<Item = (usize, &'a [T])>, segment_len: usize) -> Self {
        let mut first = 0;
        let place = |(columns, data): (usize, &'a [T])| {
            assert!(
                columns.is_multiple_of(segment_len),
                "a segment of {segment_len} numbers would cross the border after {columns} columns"
            );
            let matrix = (first, columns, data);
            first += columns;
            matrix
        };
        Self { matrices: matrices.into_iter().map(place).collect() }
    }
}

impl<T: Stored> Rows<T> for ConcatRows<'_, T> {
    fn gather<'a>(&'a self, rows: Range<usize>, depth: DepthRange, out: &mut Vec<&'a [T]>) {
        let after = self.matrices.partition_point(|&(first, ..)| first <= depth.start);
        let (first, columns, data) = self.matrices[after - 1];
        let (column, matrix_rows) = (depth.start - first, (data.len() / columns.max(1)).max(1));
        out.extend(rows.map(|m| &data[m % matrix_rows * columns + column..][..depth.range.len()]));
    }
}
