//! Where a model's files come from: the disk, or, below a name in angle brackets, the program
//! itself.
//!
//! There are the [`EMBEDDED`] model, and the settings of [`Published`] ones.
//!
//! Everything that reads a model does it through these functions, so that both kinds of model take
//! the same way. Files on disk are mapped, not read: a page of weights comes into memory when it is
//! packed, and is given back then.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use super::embedded::{EMBEDDED, FILES};
use super::published::Published;
use crate::error::{Error, Result};

/// The bytes of a file.
pub(crate) enum Bytes {
    /// Of a file on disk.
    Mapped(Mmap),
    /// Compiled in.
    Static(&'static [u8]),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// The bytes of the file at `path`; an empty file has none.
pub(crate) fn open(path: &Path) -> Result<Bytes> {
    if let Some(inside) = embedded(path) {
        let absent = || io::Error::new(io::ErrorKind::NotFound, "the program holds no such file");
        return inside.contents().map(Bytes::Static).ok_or_else(absent).map_err(Error::reading(path));
    }
    let file = File::open(path).map_err(Error::reading(path))?;
    if file.metadata().map_err(Error::reading(path))?.len() == 0 {
        return Ok(Bytes::Static(&[])); // nothing can be mapped
    }
    // SAFETY: the map is read-only, private to the value that is returned, and lent only with its
    // lifetime. That no process changes the file's bytes meanwhile cannot be established here; the
    // doc of `tensor_file.rs` says why it is accepted.
    unsafe { Mmap::map(&file) }.map(Bytes::Mapped).map_err(Error::reading(path))
}

/// The bytes of the file at `path`, one buffer after the other.
pub(crate) fn reader(path: &Path) -> Result<Box<dyn Read>> {
    Ok(match embedded(path) {
        Some(_) => Box::new(io::Cursor::new(open(path)?)),
        None => Box::new(File::open(path).map_err(Error::reading(path))?),
    })
}

/// The text of the file at `path`.
pub(crate) fn read_to_string(path: &Path) -> Result<String> {
    match embedded(path) {
        Some(_) => String::from_utf8(open(path)?.to_vec()).map_err(|error| Error::in_file(path, error)),
        None => std::fs::read_to_string(path).map_err(Error::reading(path)),
    }
}

/// Whether there is a file.
pub(crate) fn is_file(path: &Path) -> bool {
    embedded(path).map_or_else(|| path.is_file(), |inside| inside.contents().is_some())
}

/// Whether there is a folder.
pub(crate) fn is_dir(path: &Path) -> bool {
    embedded(path).map_or_else(|| path.is_dir(), |inside| !is_file(path) && inside.has_folder())
}

/// Whether a name ends as those of files of weights do.
pub(crate) fn has_weights_ending(path: &Path) -> bool {
    const ENDINGS: [&str; 5] = ["safetensors", "ckpt", "pt", "pth", "bin"];
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// Whether the settings of a published model lie there.
pub(crate) fn is_published(path: &Path) -> bool {
    Published::of(path).is_some()
}

/// A place inside of the program.
struct Inside<'a> {
    /// The published model; otherwise the embedded one.
    published: Option<&'static Published>,
    name: &'a Path,
}

/// Where in the program `path` points to, if it does.
fn embedded(path: &Path) -> Option<Inside<'_>> {
    if let Ok(name) = path.strip_prefix(EMBEDDED) {
        return Some(Inside { published: None, name });
    }
    Published::of(path).map(|(published, name)| Inside { published: Some(published), name })
}

impl Inside<'_> {
    fn contents(&self) -> Option<&'static [u8]> {
        match self.published {
            Some(published) => published.text(self.name).map(str::as_bytes),
            None => FILES.iter().find(|(file, _)| Path::new(file) == self.name).map(|&(_, bytes)| bytes),
        }
    }

    fn has_folder(&self) -> bool {
        let within = |file: &str| Path::new(file).starts_with(self.name);
        match self.published {
            Some(published) => published.files.iter().any(|(file, _)| within(file)),
            None => FILES.iter().any(|(file, _)| within(file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_files_are_found_by_their_paths() {
        let root = Path::new(EMBEDDED);
        for (name, bytes) in FILES {
            let path = root.join(name);
            assert!(is_file(&path) && !is_dir(&path), "{name}");
            assert!(is_dir(path.parent().expect("a file has a folder")), "{name}");
            assert_eq!(&*open(&path).expect("it is there"), *bytes, "{name}");
        }
        assert!(read_to_string(&root.join("unet/config.json")).expect("it is text").starts_with('{'));
        let error = open(&root.join("unet/none.json")).map(drop).expect_err("it is not there").to_string();
        assert!(error.contains("<embedded>/unet/none.json"), "{error}");
        assert!(!is_dir(&root.join("une")) && !is_dir(&root.join("safety_checker")));
    }

    #[test]
    fn files_on_disk_are_found_as_ever() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [full, empty] = ["full", "empty"].map(|name| folder.path().join(name));
        std::fs::write(&full, "text").expect("the folder is writable");
        std::fs::write(&empty, "").expect("the folder is writable");
        assert_eq!(&*open(&full).expect("it is there"), b"text");
        assert_eq!(open(&empty).expect("it is there").len(), 0);
        assert!(is_dir(folder.path()) && is_file(&empty) && !is_file(folder.path()));
        assert!(open(&folder.path().join("none")).is_err());
    }
}
