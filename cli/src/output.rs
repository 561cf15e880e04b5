//! Where a picture goes: checked before the work starts, and never over another file.

use std::fs;
use std::path::{Path, PathBuf};

use aquatint_model::Error;

/// A name under which a picture can be saved.
///
/// `extension` is what it must end in. If `wanted` exists and may not be replaced, this is the first free name among `fox-1.png`, `fox-2.png`, …
///
/// # Errors
/// If no file can be written there, or the name does not end so.
pub(crate) fn reserve(wanted: &Path, extension: &str, replace: bool) -> Result<PathBuf, Error> {
    let fits = wanted.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
    let name = wanted.file_stem().filter(|_| fits && !wanted.is_dir()).ok_or_else(|| {
        Error::request(format_args!(
            "the output is `{}`; expected a file name ending in .{extension}",
            wanted.display()
        ))
    })?;
    check_writable(wanted)?;
    if replace || !wanted.exists() {
        return Ok(wanted.to_owned());
    }
    let numbered = |i| wanted.with_file_name(format!("{}-{i}.{extension}", name.to_string_lossy()));
    let free = (1..).map(numbered).find(|path| !path.exists());
    free.ok_or_else(|| Error::run("no free file name is left"))
}

/// Writes and removes a small file beside `path`.
fn check_writable(path: &Path) -> Result<(), Error> {
    let probe = path.with_file_name(format!(".aquatint.{}.probe", std::process::id()));
    fs::write(&probe, b"aquatint").and_then(|()| fs::remove_file(&probe)).map_err(Error::writing(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_file_is_kept_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wanted = folder.path().join("fox.png");
        let free = |replace| reserve(&wanted, "png", replace).expect("the folder is writable");
        assert_eq!(free(false), wanted);
        for name in ["fox.png", "fox-1.png"] {
            fs::write(folder.path().join(name), b"mine").expect("the folder is writable");
        }
        assert_eq!(free(false), folder.path().join("fox-2.png"));
        assert_eq!(free(true), wanted);
        assert_eq!(fs::read(&wanted).expect("it is still there"), b"mine");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, message) in
            [("none/fox.png", "cannot write"), ("fox.gif", "ending in .png"), ("", "ending in .png")]
        {
            let error = reserve(&folder.path().join(name), "png", false)
                .expect_err("it cannot be written")
                .to_string();
            assert!(error.contains(message) && error.contains(name), "{error}");
        }
    }
}
