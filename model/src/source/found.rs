//! Where a network's tensors come from: one question, asked by the name that the network uses.
//!
//! ```text
//! find("…self_attn.q_proj.weight") → the stored tensor `…attn.in_proj_weight`
//!                                    rows 0..1024 of it                        slice
//!                                    · its scale, if it is fp8                 scale
//!                                    + what adapters add                       apply
//! ```
//!
//! [`Checkpoint`](super::Checkpoint) answers from files. A source may wrap another one, find its
//! tensors there and have something more done to them: so adapters reach the weights before these
//! are packed, one tensor at a time.

use std::ops::Range;

use aquatint_tensor::View;

use super::tensor::{Elements, StoredTensor};
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};

/// Tensors by the names of diffusers and transformers.
pub trait TensorSource: Send + Sync {
    /// The tensor of this name.
    fn find(&self, name: &str) -> Option<FoundTensor<'_>>;

    /// Takes note that a network has asked for the tensor.
    fn mark_used(&self, name: &str);

    /// The files, for messages.
    fn describe(&self) -> String;
}

/// A change of weights before they are packed: what an adapter adds.
pub trait WeightDelta: Send + Sync {
    /// Changes `weights`, the row-major numbers of a tensor of `shape`.
    fn apply(&self, shape: &[usize], weights: &mut [f32]);
}

/// A tensor, and what is done to its numbers on their way to the network.
pub struct FoundTensor<'a> {
    /// The file that holds it.
    pub file: &'a TensorFile,
    /// The tensor as it is stored.
    pub stored: StoredTensor<'a>,
    /// Which rows of its first axis are meant, if not all.
    pub rows: Option<Range<usize>>,
    /// Whether it is a matrix that is stored the other way round.
    pub transposed: bool,
    /// The factor of all its numbers, or one for each row: how fp8 weights keep their range.
    pub scale: Option<StoredTensor<'a>>,
    /// What is done last, in this order.
    pub deltas: Vec<&'a dyn WeightDelta>,
}

impl<'a> FoundTensor<'a> {
    /// A stored tensor as it is.
    pub fn whole(file: &'a TensorFile, stored: StoredTensor<'a>) -> Self {
        Self { file, stored, rows: None, transposed: false, scale: None, deltas: Vec::new() }
    }

    /// The shape that the network gets.
    pub fn shape(&self) -> Vec<usize> {
        let mut shape = self.stored.shape.to_vec();
        if let Some(rows) = &self.rows {
            shape[0] = rows.len();
        }
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// Whether the numbers come out as they are stored.
    pub fn is_plain(&self) -> bool {
        self.scale.is_none() && self.deltas.is_empty() && !self.transposed
    }

    /// An error about this tensor: "`file`: tensor `name`: message".
    pub fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::in_file(self.file.path(), format_args!("tensor `{}`: {message}", self.stored.name))
    }

    /// Whether its numbers can be had; nothing is read.
    ///
    /// # Errors
    /// If the element type carries no weights, or if the scale is neither one number nor one for
    /// each row.
    pub fn check(&self) -> Result<()> {
        if !self.stored.dtype.is_float() {
            let found = self.stored.dtype;
            return Err(self.error(format_args!("expected element type F32, F16, BF16 or F8, found {found}")));
        }
        if let Some(scale) = &self.scale {
            let rows = self.stored.shape.first().copied().unwrap_or(1);
            if !scale.dtype.is_float() || (scale.len() != 1 && scale.len() != rows) {
                return Err(self.error(format_args!(
                    "its scale `{}` is {:?} of {}; expected one number, or one for each of {rows} rows",
                    scale.name, scale.shape, scale.dtype
                )));
            }
        }
        Ok(())
    }

    /// Its numbers, row-major, with everything done to them.
    ///
    /// # Errors
    /// See [`FoundTensor::check`].
    pub fn elements(&self) -> Result<Elements<'a>> {
        self.check()?;
        let all = 0..self.stored.shape.first().copied().unwrap_or(1);
        let rows = self.rows.clone().unwrap_or(all.clone());
        let plain = if rows == all { self.stored.elements() } else { Some(self.stored.rows(rows.clone())) };
        let plain = plain.ok_or_else(|| self.error("carries no weights"))?;
        if self.is_plain() {
            return Ok(plain);
        }
        let mut numbers = plain.into_f32();
        if let Some(scale) = self.scale.as_ref().and_then(StoredTensor::to_f32) {
            let row = numbers.len() / rows.len().max(1);
            for (i, row) in rows.zip(numbers.chunks_exact_mut(row.max(1))) {
                let scale = if scale.len() == 1 { scale[0] } else { scale[i] };
                row.iter_mut().for_each(|x| *x *= scale);
            }
        }
        let shape = self.shape();
        if let ([columns, rows], true) = (&shape[..], self.transposed) {
            let stored = View::from_slice([*rows, *columns], &numbers);
            numbers = stored.permute([1, 0]).to_tensor().into_vec();
        }
        for delta in &self.deltas {
            delta.apply(&shape, &mut numbers);
        }
        Ok(Elements::F32(numbers.into()))
    }

    /// Gives the memory behind the stored tensor back to the operating system; see
    /// [`TensorFile::release`].
    pub fn release(&self) {
        self.file.release(&self.stored);
    }
}
