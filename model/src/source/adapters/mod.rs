//! Adapters: small files that change a model's weights, and words that stand for learned vectors.
//!
//! ```text
//! keys.rs        the tensors of an adapter's file: the layer and the part of each
//! targets.rs     the layers of a model, by every name that adapters have for them
//! lora.rs        a file: what it does to which layer, and what is left
//! summary.rs     what a file is, without a model; training.rs what its trainer wrote into it
//! peft.rs        what PEFT and diffusers write about a file: alpha
//! delta.rs       the arithmetic: LoRA, LoHa, LoKr, (IA)³, DoRA, differences
//! embedding.rs   textual inversion: words and their vectors
//! ```
//!
//! Weights are changed in f32 while they are read, before they are packed, one tensor at a time: a
//! picture with adapters takes as long as one without. [`Adapted`] sits between a checkpoint and
//! the networks.

pub mod delta;
pub mod embedding;
pub mod hash;
pub mod keys;
pub mod lora;
mod peft;
pub mod summary;
pub mod targets;
pub mod training;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use delta::Delta;
pub use embedding::{TextWidth, TextualInversion};
pub(crate) use lora::stem;
pub use lora::{LoraAdapter, LoraSpec};
pub use peft::weights_of;
pub use summary::Summary;
pub use targets::{Target, Targets};

use crate::error::{Error, Result};

use super::{Component, FoundTensor, TensorSource, WeightDelta, files};

/// A source of tensors, changed by adapters.
pub struct Adapted {
    plain: Arc<dyn TensorSource>,
    deltas: BTreeMap<String, Vec<Arc<Delta>>>,
}

impl Adapted {
    /// The tensors of a network, changed by what `adapters` hold for it, in their order.
    pub fn new(plain: Arc<dyn TensorSource>, component: &Component, adapters: &[Arc<LoraAdapter>]) -> Self {
        let mut deltas: BTreeMap<String, Vec<Arc<Delta>>> = BTreeMap::new();
        for (name, delta) in adapters.iter().flat_map(|adapter| adapter.deltas(component)) {
            // A weight of zero changes nothing, not even a bit.
            if delta.weight != 0.0 {
                deltas.entry(name.to_owned()).or_default().push(Arc::clone(delta));
            }
        }
        Self { plain, deltas }
    }

    /// The tensors that are changed.
    pub fn changed(&self) -> impl Iterator<Item = &str> {
        self.deltas.keys().map(String::as_str)
    }
}

impl TensorSource for Adapted {
    fn find(&self, name: &str) -> Option<FoundTensor<'_>> {
        let mut found = self.plain.find(name)?;
        let own = self.deltas.get(name).into_iter().flatten();
        found.deltas.extend(own.map(|delta| &**delta as &dyn WeightDelta));
        Some(found)
    }

    fn mark_used(&self, name: &str) {
        self.plain.mark_used(name);
    }

    fn describe(&self) -> String {
        self.plain.describe()
    }
}

/// The file of an adapter in one of `folders` or below it, by its name without ending.
///
/// # Errors
/// `Request` if there is none.
pub fn find_adapter(folders: &[PathBuf], name: &str) -> Result<PathBuf> {
    if folders.is_empty() {
        return Err(Error::request(format_args!(
            "there is no adapter `{name}` among those that were given, and no folder in which to look for it"
        )));
    }
    let files = folders.iter().map(|folder| files_below(folder)).collect::<Result<Vec<_>>>()?.concat();
    files.iter().find(|file| stem(file) == name).cloned().ok_or_else(|| {
        let others = files.iter().map(|file| stem(file)).take(8).collect::<Vec<_>>().join(", ");
        let folders: Vec<_> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        let folders = folders.join(", ");
        Error::request(format_args!("there is no adapter `{name}` in {folders} (there: {others})"))
    })
}

/// The files in a folder and below it that may be adapters, in the order of their names.
///
/// # Errors
/// If a folder cannot be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    const DEEPEST: usize = 8; // links may go round in circles
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::reading(&folder))?.flatten() {
            let path = entry.path();
            if path.is_dir() && depth < DEEPEST {
                folders.push((path, depth + 1));
            } else if files::has_weights_ending(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
