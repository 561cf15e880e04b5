//! By which name and hash a model goes inside pictures.
//!
//! ```text
//! Model: the folder's name            Model hash: first 10 hex digits of SHA-256(the UNet's
//! weights)
//! ```
//!
//! A1111 hashes the one file that it loads. A folder has several; the UNet is the part in which
//! models differ. If its weights are split, the files are hashed one after the other, in the order
//! of their names. A picture of the folder therefore bears another hash than one of the single-file
//! form of the same model.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::source::files;

/// A model's name, and its hash, which a thread of its own computes while the model loads.
pub struct ModelId {
    name: String,
    hash: Mutex<Hash>,
}

enum Hash {
    /// Gigabytes take seconds, so the hash is computed only when it is asked for: when a
    /// picture is done, or put into a file half way.
    Running(JoinHandle<Result<String>>),
    Known(Option<String>),
}

impl ModelId {
    /// The identity of the model at `path`, whose weights are in `files`.
    pub fn new(path: &Path, files: Vec<PathBuf>) -> Self {
        let name = name_of(path);
        Self { name, hash: Mutex::new(Hash::Running(thread::spawn(move || sha256_10(&files)))) }
    }

    /// The folder's or file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ten hex digits; waits until they are known. `None` if the weights could not be read again.
    pub fn hash(&self) -> Option<String> {
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        *hash = match std::mem::replace(&mut *hash, Hash::Known(None)) {
            Hash::Running(thread) => Hash::Known(thread.join().ok().and_then(Result::ok)),
            known => known,
        };
        match &*hash {
            Hash::Known(hash) => hash.clone(),
            Hash::Running(_) => None,
        }
    }
}

/// A file's name without its ending, or a folder's; a folder in Hugging Face's cache is called by
/// its commit, so there it is the repository's.
pub(crate) fn name_of(path: &Path) -> String {
    // `.` has a name as well. Other links are not followed: a cache's lead to files that are called
    // by their hashes.
    let path = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
    let snapshots = path.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
    let repository =
        snapshots.and_then(Path::parent).and_then(Path::file_name).and_then(|name| name.to_str());
    if let Some((_, name)) = repository.and_then(|name| name.strip_prefix("models--")?.split_once("--")) {
        return name.to_owned();
    }
    // A folder's name may have a dot in it: stable-diffusion-v1.5.
    let name = if path.is_file() { path.file_stem() } else { path.file_name() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// The first ten hex digits of the files' SHA-256.
fn sha256_10(paths: &[PathBuf]) -> Result<String> {
    const BUFFER: usize = 1 << 20;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    for path in paths {
        let mut file = files::reader(path)?;
        loop {
            match file.read(&mut buffer).map_err(Error::reading(path))? {
                0 => break,
                n => sha.update(&buffer[..n]),
            }
        }
    }
    Ok(sha.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256_of_the_files_in_turn() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("the folder is writable");
            path
        };
        // FIPS 180-2's example: SHA-256("abc") = ba7816bf 8f01cfea 414140de 5dae2223 …
        let whole = ModelId::new(folder.path(), vec![file("abc", "abc")]);
        assert_eq!(whole.hash().as_deref(), Some("ba7816bf8f"));
        assert_eq!(whole.hash().as_deref(), Some("ba7816bf8f"), "it is kept");
        let split = ModelId::new(folder.path(), vec![file("a", "a"), file("bc", "bc")]);
        assert_eq!(split.hash().as_deref(), Some("ba7816bf8f"));
        assert_eq!(ModelId::new(folder.path(), vec![folder.path().join("none")]).hash(), None);
    }

    #[test]
    fn the_name_is_that_of_the_folder_or_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["v1.5", "v2.safetensors"] {
            std::fs::create_dir(folder.path().join("v1.5")).ok();
            std::fs::write(folder.path().join("v2.safetensors"), "").ok();
            let expected = name.trim_end_matches(".safetensors");
            assert_eq!(ModelId::new(&folder.path().join(name), Vec::new()).name(), expected);
        }
        let snapshot = folder.path().join("models--org--tiny-sd/snapshots/0123abcd");
        assert_eq!(ModelId::new(&snapshot, Vec::new()).name(), "tiny-sd");
    }
}
