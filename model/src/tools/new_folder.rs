//! Folders of models, and files as large, that appear under their names only when they are
//! complete.
//!
//! ```text
//! 1. create   NAME.PROCESS.part beside it, and lock it as long as this process lives
//! 2. fill     and fsync every file
//! 3. name     rename: never over something else
//! ```
//!
//! What a killed process leaves is locked by no process; the next one that writes under this name
//! removes it. Small files go by way of [`whole_file`].

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::whole_file;

/// Has `fill` write into a folder beside `folder`, which then takes its name.
///
/// # Errors
/// If the folder exists and is not empty, or cannot be written; those of `fill`.
pub(super) fn write(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Error::request(format_args!(
            "`{}` exists; expected a new or empty folder",
            folder.display()
        )));
    }
    let partial = Partial::beside(folder)?;
    fill(&partial.path)?;
    sync(&partial.path).and_then(|()| fs::rename(&partial.path, folder)).map_err(Error::writing(folder))
}

/// Has `fill` write a file beside `path`, which then takes its name.
///
/// # Errors
/// If there is something of this name, or if it cannot be written; those of `fill`.
pub(super) fn write_file(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let taken = || Error::request(format_args!("`{}` exists; expected a new file", path.display()));
    if path.exists() {
        return Err(taken());
    }
    let partial = Partial::beside(path)?;
    let file = partial.path.join("file");
    fill(&file)?;
    match sync(&partial.path).and_then(|()| whole_file::rename_to_new(&file, path)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
        named => named.map_err(Error::writing(path)),
    }
}

/// A folder that is not complete; it is removed, unless it is renamed before.
struct Partial {
    path: PathBuf,
    /// Open, and thereby locked.
    _lock: Option<File>,
}

impl Partial {
    fn beside(wanted: &Path) -> Result<Self> {
        let name = wanted.file_name().ok_or_else(|| {
            Error::request(format_args!(
                "`{}` is not the name of something that can be written",
                wanted.display()
            ))
        })?;
        let name = name.to_string_lossy();
        remove_left_overs(wanted, &name);
        let path = wanted.with_file_name(format!("{name}.{}.part", std::process::id()));
        fs::create_dir_all(&path).map_err(Error::writing(wanted))?;
        // Some systems cannot lock folders; there, nothing is ever taken for a left-over either.
        let lock = File::open(&path).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path); // after the rename there is none
    }
}

/// Removes what processes left that are gone.
fn remove_left_overs(wanted: &Path, name: &str) {
    let parent = wanted.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let other = other.to_string_lossy();
        let process = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".part"));
        let is_ours =
            process.is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()));
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let abandoned = File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok());
            if abandoned {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Has everything in a folder written to the disk.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            false => whole_file::synced(&File::open(&path)?)?,
        }
    }
    Ok(())
}

/// Gives a file of weights the permissions that new files have here: the crate `safetensors` makes
/// files that only their owner can read.
pub(super) fn make_readable(path: &Path) -> Result<()> {
    let usual = path.with_extension("permissions");
    fs::write(&usual, "")
        .and_then(|()| fs::metadata(&usual))
        .and_then(|usual| fs::set_permissions(path, usual.permissions()))
        .and_then(|()| fs::remove_file(&usual))
        .map_err(Error::writing(path))
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
    fn a_folder_and_a_file_appear_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let text = |path: &Path| fs::write(path, "whole").map_err(Error::writing(path));
        for fails in [true, false] {
            let filled = write(&at("model"), |partial| {
                assert_eq!(names(folder.path()).len(), 1, "one that is not complete");
                text(&partial.join("weights"))?;
                if fails { Err(Error::run("no more")) } else { Ok(()) }
            });
            assert_eq!(filled.is_err(), fails);
            assert_eq!(at("model").exists(), !fails);
        }
        assert!(write(&at("model"), |_| Ok(())).is_err(), "it is not empty");
        assert!(write_file(&at("file"), |_| Err(Error::run("no more"))).is_err());
        write_file(&at("file"), text).expect("writable");
        assert!(
            write_file(&at("file"), text).expect_err("it exists").to_string().contains("expected a new file")
        );
        let late = write_file(&at("late"), |path| text(path).and_then(|()| text(&at("late"))));
        assert!(late.is_err(), "another one took the name meanwhile");
        assert_eq!(names(folder.path()), ["file", "late", "model"]);
    }

    #[cfg(unix)]
    #[test]
    fn left_overs_of_the_dead_are_removed_and_those_of_the_living_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["model.1.part", "model.2.part", "model.x.part", "models.1.part"] {
            fs::create_dir(at(name)).expect("writable");
        }
        let living = File::open(at("model.2.part")).expect("a folder");
        living.lock().expect("the file system has locks");
        write(&at("model"), |_| Ok(())).expect("writable");
        assert_eq!(names(folder.path()), ["model", "model.2.part", "model.x.part", "models.1.part"]);
    }
}
