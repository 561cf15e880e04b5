//! The tensors of one network: in which files, and under which names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::component::Component;
use super::folder::WeightFiles;
use super::found::{FoundTensor, TensorSource};
use super::naming::Naming;
use super::reader::Weights;
use super::tensor::StoredTensor;
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};

/// All tensors of one network, from one file or from several shards.
pub struct Checkpoint {
    files: Vec<Arc<TensorFile>>,
    /// What is put in front of the names of each file, so that they differ.
    prefixes: Vec<&'static str>,
    /// Tensor name → the file that holds it.
    names: BTreeMap<String, usize>,
    naming: Naming,
    /// The files' names of what was asked for.
    used: Mutex<BTreeSet<String>>,
}

impl Checkpoint {
    /// Opens the weights of a component in its own folder.
    ///
    /// # Errors
    /// If the folder holds no weights, or if a file is not what its header says.
    pub fn open(folder: &Path, component: &Component) -> Result<Self> {
        Self::from_files(&WeightFiles::find(folder, component)?.paths)
    }

    /// Opens the given files as one set of tensors, under the names that they have.
    ///
    /// # Errors
    /// If a file is not what its header says, or if two files hold a tensor of the same name.
    pub fn from_files(paths: &[PathBuf]) -> Result<Self> {
        let open = |path: &PathBuf| TensorFile::open(path).map(Arc::new);
        Self::new(paths.iter().map(open).collect::<Result<_>>()?, Naming::default())
    }

    /// The tensors that `file` holds under other names.
    pub fn within(file: Arc<TensorFile>, naming: Naming) -> Self {
        Self::of_parts(vec![(file, "")], naming)
    }

    /// The tensors of several files, each with something put in front of its names, by which they
    /// differ.
    pub(super) fn of_parts(parts: Vec<(Arc<TensorFile>, &'static str)>, naming: Naming) -> Self {
        let mut names = BTreeMap::new();
        for (index, (file, prefix)) in parts.iter().enumerate() {
            names.extend(file.tensors().map(|tensor| (format!("{prefix}{}", tensor.name), index)));
        }
        let (files, prefixes) = parts.into_iter().unzip();
        Self { files, prefixes, names, naming, used: Mutex::default() }
    }

    fn new(files: Vec<Arc<TensorFile>>, naming: Naming) -> Result<Self> {
        let mut names = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            for tensor in file.tensors() {
                if let Some(other) = names.insert(tensor.name.to_owned(), index) {
                    let other: &Arc<TensorFile> = &files[other];
                    return Err(Error::in_file(
                        file.path(),
                        format_args!(
                            "tensor `{}` is also in `{}`; a tensor belongs to one shard",
                            tensor.name,
                            other.path().display()
                        ),
                    ));
                }
            }
        }
        Ok(Self { prefixes: vec![""; files.len()], files, names, naming, used: Mutex::default() })
    }

    /// The cursor at the top of the tree of names.
    pub fn weights(&self) -> Weights<'_> {
        Weights::of(self)
    }

    /// How the files spell the network's names.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Every tensor that the files hold under the network's prefix, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = StoredTensor<'_>> {
        let own = self.names.iter().filter(|(name, _)| name.starts_with(&self.naming.prefix));
        own.filter_map(|(name, _)| self.stored(name)).map(|(_, tensor)| tensor)
    }

    /// The files' names of all tensors that were asked for.
    pub fn used(&self) -> BTreeSet<String> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The files' names of all tensors, whether the network's or not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// The files.
    pub fn files(&self) -> &[Arc<TensorFile>] {
        &self.files
    }

    /// Their paths, for messages.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path())
    }

    fn stored(&self, name: &str) -> Option<(&TensorFile, StoredTensor<'_>)> {
        let index = *self.names.get(name)?;
        let file = &self.files[index];
        Some((file, file.tensor(name.strip_prefix(self.prefixes[index])?)?))
    }

    /// The scale of a tensor in fp8: beside `fc1.weight` it is called `fc1.weight_scale`, in
    /// ComfyUI's older files `fc1.scale_weight`.
    fn scale(&self, name: &str) -> Option<StoredTensor<'_>> {
        let module = name.strip_suffix(".weight")?;
        let names = [format!("{module}.weight_scale"), format!("{module}.scale_weight")];
        names.iter().find_map(|name| self.stored(name)).map(|(_, tensor)| tensor)
    }
}

impl TensorSource for Checkpoint {
    fn find(&self, name: &str) -> Option<FoundTensor<'_>> {
        let name = self.naming.stored(name)?;
        let transposed = name.transposed;
        let (file, stored) = self.stored(&name.name)?;
        let third = stored.shape.first().copied().unwrap_or(0) / 3;
        let rows = name.third.map(|i| i * third..(i + 1) * third);
        let scale = self.scale(stored.name);
        Some(FoundTensor { rows, transposed, scale, ..FoundTensor::whole(file, stored) })
    }

    fn mark_used(&self, name: &str) {
        let Some(found) = self.find(name) else { return };
        let Some(own) = self.naming.stored(name) else { return };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(own.name);
        used.extend(found.scale.map(|scale| scale.name.to_owned()));
    }

    fn describe(&self) -> String {
        let files: Vec<String> = self.paths().map(|path| format!("`{}`", path.display())).collect();
        files.join(", ")
    }
}
