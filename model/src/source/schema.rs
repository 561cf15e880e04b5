//! The tensors that an architecture needs, found by running its load code without a file.
//!
//! A [`Schema`] stands in for a [`Checkpoint`](super::Checkpoint): it notes each name and shape
//! that is asked for and answers with empty weights. So the list of tensors of a model is never
//! written down a second time; `inspect` (what is missing?) and `random-model` (what to write?)
//! both come from the code that loads.
//!
//! ```
//! # use aquatint_model::source::Schema;
//! # use aquatint_model::networks::layers::Linear;
//! let schema = Schema::new();
//! Linear::load(&schema.weights().at("time_embedding.linear_1"), [1280, 320])?;
//! let names: Vec<String> = schema.tensors().into_iter().map(|tensor| tensor.name).collect();
//! assert_eq!(names, ["time_embedding.linear_1.weight", "time_embedding.linear_1.bias"]);
//! # Ok::<(), aquatint_model::Error>(())
//! ```

use std::sync::{Mutex, PoisonError};

use super::TensorSource;
use super::spec::{TensorSpec, same_shape};

/// Where a checkpoint and an architecture disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What the architecture needs.
    pub expected: TensorSpec,
    /// The shape that the checkpoint has under this name, if it has one at all.
    pub found: Option<Vec<usize>>,
}

/// A source of weights that holds none, and takes note of what is asked for.
#[derive(Default)]
pub struct Schema<'a> {
    /// Old checkpoints spell some names differently; a known checkpoint decides which spelling is
    /// meant.
    spelling: Option<&'a dyn TensorSource>,
    tensors: Mutex<Vec<TensorSpec>>,
}

impl<'a> Schema<'a> {
    /// A schema in which each tensor has the name that the load code prefers, where there are
    /// several.
    pub fn new() -> Self {
        Self::default()
    }

    /// A schema in the spelling of `source`, to be compared with it by [`Schema::mismatches`].
    pub fn of(source: &'a dyn TensorSource) -> Self {
        Self { spelling: Some(source), tensors: Mutex::default() }
    }

    /// What has been asked for, in the order of asking.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        self.tensors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every tensor that `source` lacks or has in another shape.
    pub fn mismatches(&self, source: &dyn TensorSource) -> Vec<Mismatch> {
        self.tensors()
            .into_iter()
            .filter_map(|expected| {
                let found = source.find(&expected.name).map(|found| found.shape());
                source.mark_used(&expected.name);
                let fits = found.as_ref().is_some_and(|found| same_shape(found, &expected.shape));
                (!fits).then_some(Mismatch { expected, found })
            })
            .collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.spelling.is_some_and(|source| source.find(name).is_some())
    }

    pub(super) fn record(&self, spec: TensorSpec) {
        self.tensors.lock().unwrap_or_else(PoisonError::into_inner).push(spec);
    }
}
