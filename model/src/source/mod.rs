//! The weights of one model part: which files, which bytes, and a cursor that reads them by name.
//!
//! ```text
//! folder.rs   unet/ → the file, its fp16 variant, or the shards that an index lists
//! safetensors.rs  one safetensors file, memory-mapped and validated
//! reader.rs       the cursor: w.at("mid_block").at("resnets.0").conv("conv1.weight", [64, 64, 3, 3])
//! schema.rs   the same reads without a file: which tensors does an architecture need?
//! ```
//!
//! Layers ask for the tensor that they need, by name and shape; nothing else in the project lists tensor names.
//! Weights keep the file's element type (f32, f16 or bf16) and are packed for the kernels as they are read; the
//! file's own pages are given back at once, so a model is never in memory twice.
//!
//! Read next: [`crate::networks::layers`], where the reads happen.

pub mod config;
pub mod embedded;
pub(crate) mod files;
mod folder;
pub mod model_id;
pub(crate) mod part;
mod reader;
mod safetensors;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

pub use self::safetensors::{StoredTensor, StoredType, TensorFile};
pub use folder::{PartFiles, WeightFiles};
pub use model_id::ModelId;
pub use reader::{Table, Weights};
pub use schema::{Mismatch, Schema, TensorSpec};

/// All tensors of one model part, from one safetensors file or from several shards.
pub struct Checkpoint {
    files: Vec<TensorFile>,
    /// Tensor name → the file that holds it.
    names: BTreeMap<String, usize>,
    read: Mutex<BTreeSet<String>>,
}

impl Checkpoint {
    /// Opens the weights of a part's folder, whose files are called `stem.safetensors` and the like.
    ///
    /// # Errors
    /// If the folder holds no safetensors weights, or if a file is not what its header says.
    pub fn open(folder: &Path, files: PartFiles) -> Result<Self> {
        Self::from_files(&WeightFiles::find(folder, files)?.paths)
    }

    /// Opens the given safetensors files as one set of tensors.
    ///
    /// # Errors
    /// If a file is not what its header says, or if two files hold a tensor of the same name.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self> {
        let files: Vec<TensorFile> =
            paths.iter().map(|path| TensorFile::open(path)).collect::<Result<_>>()?;
        let mut names = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for tensor in file.tensors() {
                if let Some(other) = names.insert(tensor.name.to_owned(), index) {
                    let other = files[other].path().display();
                    return Err(Error::in_file(
                        file.path(),
                        format_args!(
                            "tensor `{}` is also in `{other}`; a tensor belongs to one shard",
                            tensor.name
                        ),
                    ));
                }
            }
        }
        Ok(Self { files, names, read: Mutex::default() })
    }

    /// The cursor at the top of the tree of names.
    pub fn weights(&self) -> Weights<'_> {
        Weights::new(self)
    }

    /// Every tensor that the files hold, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = StoredTensor<'_>> {
        self.names.iter().filter_map(|(name, &file)| self.files[file].tensor(name))
    }

    /// Names of tensors that nobody has asked for, without those that are known to carry no weights.
    ///
    /// A checkpoint of another architecture shows itself here: the layers that we know were all found, and others are left.
    pub fn unused(&self) -> Vec<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = |name: &str| name.ends_with(".position_ids"); // 0, 1, 2, …: saved by old versions of transformers
        self.names.keys().filter(|name| !read.contains(*name) && !buffer(name)).cloned().collect()
    }

    /// The files, for messages.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(TensorFile::path)
    }

    /// The tensor and its file, if there is one of this name.
    fn find(&self, name: &str) -> Option<(&TensorFile, StoredTensor<'_>)> {
        let file = &self.files[*self.names.get(name)?];
        Some((file, file.tensor(name)?))
    }

    fn mark_read(&self, name: &str) {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }
}

#[cfg(test)]
mod tests;
