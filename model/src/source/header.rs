//! What the header of a file of tensors says, whichever format it has.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tensor::StoredType;

/// What the header of a file says.
#[derive(Default)]
pub(super) struct Header {
    /// By name.
    pub(super) tensors: BTreeMap<String, Entry>,
    /// Whatever else the file says: `format`, `modelspec.title`, `global_step`.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Where a tensor is.
pub(super) struct Entry {
    pub(super) dtype: StoredType,
    pub(super) shape: Vec<usize>,
    /// Its bytes in the file, or those of its storage.
    pub(super) range: Range<usize>,
    /// See [`StoredTensor::strides`].
    pub(super) strides: Option<Vec<usize>>,
}
