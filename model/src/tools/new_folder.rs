//! A folder that appears under its name only when it is complete.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

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
    let name = folder.file_name().ok_or_else(|| {
        Error::request(format_args!("`{}` is not the name of a folder that can be written", folder.display()))
    })?;
    let mut hidden = name.to_owned();
    hidden.push(format!(".{}.part", std::process::id()));
    let partial = folder.with_file_name(hidden);
    let written = fill(&partial).and_then(|()| fs::rename(&partial, folder).map_err(Error::writing(folder)));
    if written.is_err() {
        let _ = fs::remove_dir_all(&partial); // it may not exist; the first error is the one to report
    }
    written
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
