//! The cache that Hugging Face's libraries share.
//!
//! ```text
//! models--org--name/refs/main                        the commit that a branch means
//!                   snapshots/COMMIT/unet/file  →    ../../../blobs/HASH, a link
//!                   blobs/HASH                       the content, named by its hash
//!                   blobs/HASH.incomplete            the part of it that has come so far
//! .locks/models--org--name/HASH.lock                 locked by the process that downloads it
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::HubId;

/// A repository's folder in the cache.
pub(super) struct Repository {
    pub(super) folder: PathBuf,
}

impl Repository {
    pub(super) fn of(id: &HubId, cache: &Path) -> Self {
        Self { folder: cache.join(folder_name(&id.repository)) }
    }

    /// The folder of the commit that a branch, a tag or a commit's own hash means.
    pub(super) fn snapshot(&self, revision: &str) -> Option<PathBuf> {
        let commit = fs::read_to_string(self.folder.join("refs").join(revision));
        let commit = commit.map_or(revision.to_owned(), |commit| commit.trim().to_owned());
        let snapshot = self.snapshot_of(&commit);
        snapshot.is_dir().then_some(snapshot)
    }

    pub(super) fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }
}

fn folder_name(repository: &str) -> String {
    format!("models--{}", repository.replace('/', "--"))
}

#[cfg(feature = "download")]
pub(super) use writing::Blob;

/// How a file gets into the cache.
#[cfg(feature = "download")]
mod writing {
    use std::fs::{self, File};
    use std::io::{self, ErrorKind};
    use std::path::{Path, PathBuf};

    use super::{Repository, folder_name};
    use crate::error::{Error, Result};
    use crate::source::hub::HubId;
    use crate::whole_file::write_whole;

    /// A content, by its hash.
    pub(in crate::source::hub) struct Blob {
        /// Where it will be when it is complete.
        pub(in crate::source::hub) path: PathBuf,
        /// What has come so far.
        pub(in crate::source::hub) incomplete: PathBuf,
        /// The file that is locked meanwhile.
        lock: PathBuf,
    }

    impl Repository {
        /// The content of this hash, which must be a plain word.
        pub(in crate::source::hub) fn blob(&self, id: &HubId, cache: &Path, hash: &str) -> Blob {
            let path = self.folder.join("blobs").join(hash);
            let lock = cache.join(".locks").join(folder_name(&id.repository)).join(format!("{hash}.lock"));
            Blob { incomplete: path.with_extension("incomplete"), path, lock }
        }

        /// Gives a content its name in a snapshot. Returns the path of that name.
        pub(in crate::source::hub) fn link(&self, commit: &str, name: &str, blob: &Blob) -> Result<PathBuf> {
            let path = self.snapshot_of(commit).join(name);
            if path.exists() {
                return Ok(path);
            }
            let linked = || {
                fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {} // a link that led nowhere
                }
                match link(&blob.path, name, &path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()), // by another process
                    linked => linked,
                }
            };
            linked().map_err(Error::writing(&path))?;
            Ok(path)
        }

        /// Writes down which commit a branch means.
        pub(in crate::source::hub) fn set_ref(&self, revision: &str, commit: &str) -> Result<()> {
            let path = self.folder.join("refs").join(revision);
            if revision == commit {
                return Ok(());
            }
            fs::create_dir_all(path.parent().unwrap_or(&self.folder)).map_err(Error::writing(&path))?;
            write_whole(&path, commit.as_bytes())
        }
    }

    impl Blob {
        /// Waits until no other process downloads it; the lock is held as long as the file is open.
        pub(in crate::source::hub) fn lock(&self) -> Result<File> {
            let locked = || {
                fs::create_dir_all(self.lock.parent().unwrap_or(Path::new(".")))?;
                fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
                let file = File::options().create(true).append(true).open(&self.lock)?;
                match file.lock() {
                    Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
                    _ => Ok(file),
                }
            };
            locked().map_err(Error::writing(&self.lock))
        }

        /// How many bytes of it have come.
        pub(in crate::source::hub) fn known(&self) -> u64 {
            let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
            length(&self.path).max(length(&self.incomplete))
        }
    }

    /// A link by a relative path, so that the cache can be moved.
    #[cfg(unix)]
    fn link(blob: &Path, name: &str, path: &Path) -> io::Result<()> {
        let hash = blob.file_name().unwrap_or_default();
        let depth = Path::new(name).components().count() + 1; // snapshots/COMMIT/name
        let up: PathBuf = std::iter::repeat_n("..", depth).collect();
        std::os::unix::fs::symlink(up.join("blobs").join(hash), path)
    }

    /// Links are not for every user there: a second name of the same file.
    #[cfg(not(unix))]
    fn link(blob: &Path, _name: &str, path: &Path) -> io::Result<()> {
        fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(drop))
    }
}
