//! The left operand as a rule: where do the numbers of row m stand?

use std::ops::Range;

use aquatint_tensor::View;

/// The longest part of a row that is asked for at a time.
pub(crate) const MAX_PART: usize = 512;

/// Stands for any part of a row that is zero, such as a convolution's padding.
pub(crate) static ZEROS: [f32; MAX_PART] = [0.0; MAX_PART];

/// The left operand of a product: rows that are cut into segments, each contiguous in memory.
///
/// A plain matrix has one segment. A convolution has one for each tap of its kernel: row m is an output pixel,
/// segment s the channels of the input pixel under tap s.
pub trait Rows: Sync {
    /// Appends to `out`, for each row of `rows` in order, its numbers at `part` of the depth.
    fn gather<'a>(&'a self, rows: Range<usize>, part: Part, out: &mut Vec<&'a [f32]>);
}

/// A part of the depth.
#[derive(Clone, Debug)]
pub struct Part {
    /// The segment.
    pub segment: usize,
    /// Where in the segment; at most 512 numbers.
    pub range: Range<usize>,
    /// Where in the whole depth, the segments standing one behind the other.
    pub start: usize,
}

/// A row-major matrix as left operand. If the weights come in several segments, each row is cut likewise.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    columns: usize,
}

impl<'a> Matrix<'a> {
    /// The rows of `x`.
    ///
    /// # Panics
    /// If `x` is not row-major.
    pub fn new(x: View<'a, f32, 2>) -> Self {
        let [_, columns] = x.shape();
        Self { data: x.as_slice().expect("a row-major matrix"), columns }
    }
}

impl Rows for Matrix<'_> {
    fn gather<'a>(&'a self, rows: Range<usize>, part: Part, out: &mut Vec<&'a [f32]>) {
        out.extend(rows.map(|m| &self.data[m * self.columns + part.start..][..part.range.len()]));
    }
}
