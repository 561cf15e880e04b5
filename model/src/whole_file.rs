//! Files that appear under their name whole or not at all, and never over a file that is not to be
//! replaced.
//!
//! ```text
//! 1. create   .aquatint.<16 random hex digits>.part in the same folder; only a new file, so no
//!             link is followed
//! 2. lock     it as long as this process lives
//! 3. write    and fsync: before the file has its name its content is on the disk
//! 4. name     rename (replaces), or renameat2 with RENAME_NOREPLACE (or a hard link): never over
//!             another file
//! 5. fsync    the folder
//! ```
//!
//! A process that is killed in between leaves at most the hidden file. Nobody holds its lock any
//! more, by which the next process that writes into the folder knows it, and removes it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

const PREFIX: &str = ".aquatint.";
const SUFFIX: &str = ".part";
const HEX_DIGITS: usize = 16;

/// A file on its way to a name; dropped before, it is removed.
#[derive(Debug)]
pub struct WholeFile {
    hidden: PathBuf,
    /// Open, and thereby locked, until the file has its name.
    file: File,
    named: bool,
}

impl WholeFile {
    /// A file with this content that has no name yet, in the folder of `path`.
    ///
    /// # Errors
    /// If it cannot be written; the error names `path`.
    pub fn write(path: &Path, bytes: &[u8]) -> Result<Self> {
        let written = || {
            path.try_exists()?; // not of a name that is too long
            remove_left_overs(folder_of(path));
            let mut file = Self::create(folder_of(path))?;
            file.file.write_all(bytes)?;
            synced(&file.file)?;
            Ok(file)
        };
        written().map_err(Error::writing(path))
    }

    fn create(folder: &Path) -> io::Result<Self> {
        loop {
            let random = getrandom::u64().map_err(io::Error::other)?;
            let hidden = folder.join(format!("{PREFIX}{random:016x}{SUFFIX}"));
            let file = match OpenOptions::new().write(true).create_new(true).open(&hidden) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                file => file?,
            };
            let _ = file.lock(); // some file systems have no locks; there, nothing is ever taken for a left-over either
            // Between creation and lock another process may have taken it for one.
            if is_linked(&file)? {
                return Ok(Self { hidden, file, named: false });
            }
        }
    }

    /// Gives the file its name, and replaces what has it.
    ///
    /// # Errors
    /// If it cannot have the name.
    pub fn replace(mut self, path: &Path) -> Result<()> {
        fs::rename(&self.hidden, path).map_err(Error::writing(path))?;
        self.named = true;
        sync_folder(path);
        Ok(())
    }

    /// Gives the file its name, unless another file has it. Returns whether it has the name now.
    ///
    /// # Errors
    /// If it cannot have the name, whoever has it.
    pub fn name(&mut self, path: &Path) -> Result<bool> {
        match rename_to_new(&self.hidden, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            renamed => renamed.map_err(Error::writing(path))?,
        }
        self.named = true;
        sync_folder(path);
        Ok(true)
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !self.named {
            let _ = fs::remove_file(&self.hidden); // the next process will try again
        }
    }
}

/// Writes a file, and replaces what has its name.
///
/// # Errors
/// If it cannot be written; the file of that name is then what it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    WholeFile::write(path, bytes)?.replace(path)
}

/// Makes sure that a file of `bytes` bytes could be written: writes that many zeros beside `path`,
/// and removes them.
///
/// # Errors
/// If it cannot.
pub fn check_writable(path: &Path, bytes: usize) -> Result<()> {
    WholeFile::write(path, &vec![0; bytes.max(1)]).map(drop)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// `rename`, but an error if `to` exists.
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {} // not on this file system
            Err(error) => return Err(error.into()),
        }
    }
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        // No hard links either, as on FAT: what remains is to look before.
        Err(_) if to.try_exists()? => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Some file systems cannot, and lose nothing by it that they would have kept.
pub(crate) fn synced(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// The file has its name; that the name is on the disk as well can only be asked for.
fn sync_folder(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

#[cfg(unix)]
fn is_linked(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() > 0)
}

#[cfg(not(unix))]
fn is_linked(_file: &File) -> io::Result<bool> {
    Ok(true)
}

/// Removes hidden files whose process is gone; once for each folder, because a folder may hold many
/// files.
fn remove_left_overs(folder: &Path) {
    static SEEN: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.get_or_insert_default().insert(folder.to_owned()) {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file()); // no link, no device
        if is_file && is_hidden_name(&entry.file_name().to_string_lossy()) {
            let Ok(file) = OpenOptions::new().write(true).open(entry.path()) else { continue };
            if file.try_lock().is_ok() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn is_hidden_name(name: &str) -> bool {
    let hex = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    hex.is_some_and(|hex| hex.len() == HEX_DIGITS && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("readable").flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_name_is_taken_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("fox.png");
        let mut file = WholeFile::write(&path, b"new").expect("writable");
        assert!(!path.exists(), "it has no name yet");
        fs::write(&path, b"mine").expect("writable");
        assert!(!file.name(&path).expect("the folder is writable"));
        assert_eq!(fs::read(&path).expect("it is still there"), b"mine");
        let other = folder.path().join("fox-1.png");
        assert!(file.name(&other).expect("the folder is writable"));
        assert_eq!(fs::read(&other).expect("it is there"), b"new");
        write_whole(&path, b"newer").expect("writable");
        assert_eq!(fs::read(&path).expect("it is there"), b"newer");
        check_writable(&path, 10_000).expect("writable");
        drop((file, WholeFile::write(&path, b"never named").expect("writable")));
        assert_eq!(names(folder.path()), ["fox-1.png", "fox.png"], "nothing hidden is left");
    }

    #[test]
    fn left_overs_of_the_dead_are_removed_and_those_of_the_living_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let [dead, living] = [0, 1].map(|i| format!("{PREFIX}{i:016x}{SUFFIX}"));
        let others = [".aquatint.12.part", ".aquatint.000000000000000g.part", "fox.png"];
        for name in [&dead, &living] {
            fs::write(at(name), b"half").expect("writable");
        }
        for name in others {
            fs::write(at(name), b"mine").expect("writable");
        }
        let lock = File::open(at(&living)).expect("it is there");
        lock.lock().expect("the file system has locks");
        write_whole(&at("new.png"), b"new").expect("writable");
        let left = names(folder.path());
        assert!(left.contains(&living) && !left.contains(&dead), "{left:?}");
        assert!(others.iter().all(|name| at(name).exists()), "{left:?}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), b"mine").expect("writable");
        let link = format!("{PREFIX}{:016x}{SUFFIX}", 2);
        for name in [link.as_str(), "out.ckpt"] {
            std::os::unix::fs::symlink(at("victim"), at(name)).expect("writable");
        }
        write_whole(&at("out.ckpt"), b"new").expect("writable");
        assert_eq!(fs::read(at("victim")).expect("it is there"), b"mine");
        assert_eq!(fs::read(at("out.ckpt")).expect("it is there"), b"new");
    }
}
