//! A panel of the right operand: 32 columns of a matrix product, row by row.

use std::ops::{Deref, DerefMut};

/// Columns in a panel.
pub const NR: usize = 32;

/// Vectors in a row of a panel at the most: every instruction set has at least eight lanes.
pub(crate) const MAX_VECTORS: usize = NR / 8;

/// One row of a panel: 32 neighbouring columns at one depth. It begins at a cache line, so that no
/// vector crosses one.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct Row<T>(pub [T; NR]);

/// One row of a panel in f32, and a row of its sums.
pub type PanelRow = Row<f32>;

impl PanelRow {
    /// A row of zeros.
    pub const ZERO: Self = Self([0.0; NR]);
}

impl<T> Deref for Row<T> {
    type Target = [T; NR];
    #[inline(always)]
    fn deref(&self) -> &[T; NR] {
        &self.0
    }
}

impl<T> DerefMut for Row<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T; NR] {
        &mut self.0
    }
}
