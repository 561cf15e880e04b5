//! One safetensors file, mapped into memory and checked against its own header.
//!
//! ```text
//! 8 bytes   length n of the header, little endian
//! n bytes   JSON: {"conv_in.weight": {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [0, 23040]}, …}
//! the rest  the numbers, without holes
//! ```
//!
//! The crate `safetensors` refuses headers that lie: sizes that do not match, ranges that overlap, leave holes or end
//! elsewhere than the file does. What it cannot prevent is another process that shortens the file while it is mapped;
//! a read then ends this process with SIGBUS. Model files are not edited in place by any known tool (they are
//! replaced by renaming, which leaves our mapping whole), so this is accepted.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorInfo};

use crate::error::{Error, Result};
use crate::source::files::{self, Bytes};

/// The element type of a stored tensor, as the file spells it: "F16".
pub type StoredType = Dtype;

/// A safetensors file whose header has been validated.
pub struct TensorFile {
    path: PathBuf,
    bytes: Bytes,
    tensors: BTreeMap<String, TensorInfo>,
    /// Where the numbers begin.
    data_start: usize,
}

/// A tensor as the file holds it.
#[derive(Clone, Copy)]
pub struct StoredTensor<'a> {
    /// Its full name.
    pub name: &'a str,
    /// Its element type; not every one can be loaded.
    pub dtype: StoredType,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its numbers, little endian, row-major.
    pub bytes: &'a [u8],
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
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| corrupt(path, size, error))?;
        let data_start = 8 + header;
        if data_start.checked_add(metadata.data_len()) != Some(size) {
            return Err(corrupt(path, size, "the header describes more than the file holds"));
        }
        check_header(&bytes[8..data_start]).map_err(|error| corrupt(path, size, error))?;
        let tensors = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { path: path.to_owned(), bytes, tensors, data_start })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = StoredTensor<'_>> {
        self.tensors.iter().map(|(name, info)| self.stored(name, info))
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        self.tensors.get_key_value(name).map(|(name, info)| self.stored(name, info))
    }

    fn stored<'a>(&'a self, name: &'a str, info: &'a TensorInfo) -> StoredTensor<'a> {
        let (start, end) = info.data_offsets;
        let bytes = &self.bytes[self.data_start + start..self.data_start + end];
        StoredTensor { name, dtype: info.dtype, shape: &info.shape, bytes }
    }

    /// Gives the memory behind `tensor` back to the operating system; reading it again would read the file again.
    ///
    /// Called after a tensor was packed: without this a model of 4 GB would for a moment occupy 8.
    pub fn release(&self, tensor: &StoredTensor<'_>) {
        #[cfg(unix)]
        if let Bytes::Mapped(map) = &self.bytes
            && !tensor.bytes.is_empty()
        {
            let (offset, length) =
                (tensor.bytes.as_ptr() as usize - map.as_ptr() as usize, tensor.bytes.len());
            // SAFETY: the range lies in this map (`tensor` borrows from it), which is read-only and backed by the file, so dropped
            // pages come back from the file with the same contents. It is advice: a refusal changes nothing.
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

/// What the `safetensors` crate lets pass and the format forbids: a header that does not begin with `{`, a name twice.
fn check_header(header: &[u8]) -> std::result::Result<(), String> {
    if header.first() != Some(&b'{') {
        return Err("the header does not begin with `{`".into());
    }
    serde_json::from_slice::<UniqueKeys>(header).map(|_| ()).map_err(|error| error.to_string())
}

/// A JSON object whose keys all differ; its values are skipped.
struct UniqueKeys;

impl<'de> serde::Deserialize<'de> for UniqueKeys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Keys;
        impl<'de> serde::de::Visitor<'de> for Keys {
            type Value = UniqueKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<UniqueKeys, A::Error> {
                let mut seen = HashSet::new();
                while let Some((key, serde::de::IgnoredAny)) = map.next_entry::<String, _>()? {
                    if seen.contains(&key) {
                        return Err(serde::de::Error::custom(format_args!(
                            "tensor `{key}` is in the header twice"
                        )));
                    }
                    seen.insert(key);
                }
                Ok(UniqueKeys)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}
