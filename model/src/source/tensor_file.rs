//! One file of tensors, mapped into memory: safetensors, or what torch writes.
//!
//! Which of them a file is, its first bytes say; its name says nothing. The readers only look at
//! headers; a tensor's numbers stay in the file until a layer asks for them.
//!
//! A mapped file can be shortened by another process; a read then ends this process with SIGBUS.
//! Model files are not edited in place by any known tool (they are replaced by renaming, which
//! leaves our mapping whole), so this is accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::files::{self, Bytes};
use super::header::{Entry, Header};
use super::tensor::StoredTensor;
use super::{safetensors, torch_file};
use crate::error::{Error, Result};
use crate::guard::guarded;

/// A file of tensors whose header has been validated.
pub struct TensorFile {
    path: PathBuf,
    bytes: Bytes,
    header: Header,
}

impl TensorFile {
    /// Maps the file and reads its header; no numbers are read yet.
    ///
    /// # Errors
    /// If the file cannot be read, or if its header does not describe it.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = files::open(path)?;
        let size = bytes.len();
        if size == 0 {
            return Err(corrupt(path, size, "it is empty"));
        }
        let is_torch = torch_file::is(&bytes);
        let refused = |reason: &dyn fmt::Display| match is_torch {
            true => {
                let message = "not a file of weights that `torch.save` wrote";
                Error::in_file(path, format_args!("{message}: {reason}"))
            }
            false => corrupt(path, size, reason),
        };
        let read = if is_torch { torch_file::read } else { safetensors::read };
        let header = guarded(refused, || read(&bytes).map_err(|error| refused(&error)))?;
        Ok(Self { path: path.to_owned(), bytes, header })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What the file says beside its tensors.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = StoredTensor<'_>> {
        self.header.tensors.iter().map(|(name, entry)| self.stored(name, entry))
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        self.header.tensors.get_key_value(name).map(|(name, entry)| self.stored(name, entry))
    }

    fn stored<'a>(&'a self, name: &'a str, entry: &'a Entry) -> StoredTensor<'a> {
        StoredTensor {
            name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: &self.bytes[entry.range.clone()],
            strides: entry.strides.as_deref(),
        }
    }

    /// Gives the memory behind `tensor` back to the operating system; reading it again would read
    /// the file again.
    ///
    /// Called after a tensor was packed: without this a model of 4 GB would for a moment occupy 8.
    pub fn release(&self, tensor: &StoredTensor<'_>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes
            && !tensor.bytes.is_empty()
        {
            let (offset, length) =
                (tensor.bytes.as_ptr() as usize - map.as_ptr() as usize, tensor.bytes.len());
            // SAFETY: the range lies in this map (`tensor` borrows from it), which is read-only and
            // backed by the file, so dropped pages come back from the file with the same contents.
            // It is advice: a refusal changes nothing.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
        }
    }
}

fn corrupt(path: &Path, size: usize, what: impl fmt::Display) -> Error {
    Error::in_file(
        path,
        format_args!("not a valid safetensors file ({size} bytes): {what}; is the download complete?"),
    )
}
