//! Memory for packed operands, aligned to cache lines and recycled as that of tensors is.

use std::ops::{Deref, DerefMut};

use aquatint_tensor::Tensor;

use super::layout::{BTile, TileRow};

/// Numbers of f32 that take as much room as a line.
const FLOATS: usize = size_of::<TileRow>() / size_of::<f32>();

/// A buffer of [`TileRow`]s, from those that [`Tensor::recycled`] has.
pub(crate) struct AlignedBuffer {
    memory: Tensor<f32, 1>,
    len: usize,
}

impl AlignedBuffer {
    /// `len` lines of any numbers, to be overwritten.
    pub(crate) fn recycled(len: usize) -> Self {
        // One more than asked for, since the first may begin in the middle of a cache line.
        let lines = Self { memory: Tensor::recycled([(len + 1) * FLOATS]), len };
        assert_eq!(lines.len(), len, "a buffer that can be aligned");
        lines
    }

    /// The lines as steps of B, as many as are whole.
    pub(crate) fn steps(&self) -> &[BTile] {
        // SAFETY: both are arrays of `u32` that begin at a cache line, without padding.
        let (_, steps, _) = unsafe { self[..].align_to() };
        steps
    }

    /// The lines as steps of B, to be written.
    pub(crate) fn steps_mut(&mut self) -> &mut [BTile] {
        // SAFETY: as above.
        let (_, steps, _) = unsafe { self[..].align_to_mut() };
        steps
    }
}

impl Deref for AlignedBuffer {
    type Target = [TileRow];
    #[inline(always)]
    fn deref(&self) -> &[TileRow] {
        // SAFETY: a `TileRow` is 64 bytes of `u32` without padding, for which any bits will do.
        let (_, lines, _) = unsafe { self.memory.as_slice().align_to() };
        &lines[..self.len]
    }
}

impl DerefMut for AlignedBuffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [TileRow] {
        // SAFETY: as above; and any bits will do for an `f32` as well.
        let (_, lines, _) = unsafe { self.memory.as_mut_slice().align_to_mut() };
        &mut lines[..self.len]
    }
}
