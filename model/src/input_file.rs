//! Files from outside, read whole: only what is a file, and only up to a size.
//!
//! A device may be endless, and a pipe without a writer is waited for without an end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The content of a file.
///
/// # Errors
/// If it is no file, is larger than `largest` bytes, or cannot be read.
pub fn read(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    check_is_file(path)?;
    read_up_to(File::open(path)?, largest)
}

/// What a file or a pipe gives, until its end.
///
/// # Errors
/// If it is more than `largest` bytes, or cannot be read.
pub fn read_up_to(source: impl Read, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("it is larger than {} MiB", largest >> 20)));
    }
    Ok(bytes)
}

/// Makes sure that a path leads to a file, before it is opened.
///
/// # Errors
/// If it does not.
pub fn check_is_file(path: &Path) -> io::Result<()> {
    match fs::metadata(path)? {
        found if found.is_file() => Ok(()),
        found if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("it is no file, but a device or a pipe")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_a_size_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a");
        fs::write(&path, b"12345").expect("writable");
        assert_eq!(read(&path, 5).expect("it fits"), b"12345");
        assert!(read(&path, 4).is_err() && read(folder.path(), 9).is_err());
        assert!(read(&folder.path().join("none"), 9).is_err());
        #[cfg(unix)]
        assert!(read(Path::new("/dev/zero"), 9).expect_err("endless").to_string().contains("device"));
    }
}
