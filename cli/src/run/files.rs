//! How files are written: never over another one, whole or not at all, or to stdout.

use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use aquatint_model::whole_file::{WholeFile, check_writable};
use aquatint_model::{Error, Format, Image};

/// Endings of pictures.
pub(crate) const PICTURES: &[&str] = &["png", "jpg", "jpeg", "webp"];

/// Whether `-` is meant.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// Refuses to pour bytes over a terminal.
///
/// # Errors
/// `Request` if stdout is one.
pub(crate) fn check_stdout() -> Result<(), Error> {
    match std::io::stdout().is_terminal() {
        true => {
            Err(Error::request("stdout is a terminal; expected a pipe or a file behind `-o -`, or a name"))
        }
        false => Ok(()),
    }
}

/// Writes bytes to stdout.
fn to_stdout(bytes: &[u8]) -> Result<PathBuf, Error> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(Error::writing("-"))?;
    inform!("written to stdout");
    Ok("-".into())
}

/// Tells the path of a file that was written, unless it went to stdout.
pub(crate) fn tell(path: &Path) {
    if !is_stdout(path) {
        println!("{}", path.display());
    }
}

/// `folder/fox.png` → `folder/fox-suffix.png`; what is no text in the name stays as it is.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{suffix}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Writes a picture to `wanted` or, if that exists and may not be replaced, to the next free name.
/// Returns the name.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn save(picture: &Image, wanted: &Path, quality: u8, replace: bool) -> Result<PathBuf, Error> {
    if is_stdout(wanted) {
        return to_stdout(&picture.to_png()?);
    }
    let format = Format::of(wanted, quality).unwrap_or(Format::Png);
    let bytes = match (format, picture.parameters()) {
        (Format::Jpeg(quality), Some(parameters)) => {
            let mut parameters = parameters.clone();
            parameters.insert_after("Version", "JPEG quality", quality);
            picture.clone().with_parameters(parameters).to_bytes(format)?
        }
        _ => picture.to_bytes(format)?,
    };
    place(wanted, replace, &bytes)
}

/// A picture may be hours of work: where the disk is full, the folder gone or the name too long, it
/// is put into the system's folder for temporary files, and the error says so.
pub(crate) fn rescued(picture: &Image, wanted: &Path, error: Error) -> Error {
    let name = wanted.with_extension("png");
    let names = [name.file_name().unwrap_or_default(), "aquatint.png".as_ref()];
    let rescue = |name| save(picture, &std::env::temp_dir().join(name), Format::QUALITY, false).ok();
    match names.into_iter().find_map(rescue) {
        Some(rescue) => Error::run(format_args!("{error}; the picture is at `{}`", rescue.display())),
        None => error,
    }
}

/// `fox.png`, `fox-1.png`, `fox-2.png`, …
pub(crate) fn names(wanted: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let wanted = wanted.to_owned();
    let first = std::iter::once(wanted.clone());
    first.chain((1..=u32::MAX).map(move |i| with_suffix(&wanted, &i.to_string())))
}

/// A name under which a file can be saved.
///
/// `extensions` are what it may end in. If `wanted` exists and may not be replaced, this is the
/// first free name among `fox-1.png`, `fox-2.png`, …
///
/// # Errors
/// If no file can be written there, or the name does not end so.
pub(crate) fn reserve(wanted: &Path, extensions: &[&str], replace: bool) -> Result<PathBuf, Error> {
    if is_stdout(wanted) {
        return check_stdout().map(|()| wanted.to_owned());
    }
    check_name(wanted, extensions)?;
    check_writable(wanted, 1)?;
    let free = names(wanted).find(|path| replace || !path.exists());
    free.ok_or_else(|| Error::run("no free file name is left"))
}

/// Makes sure that a path names a file with one of these endings.
pub(crate) fn check_name(wanted: &Path, extensions: &[&str]) -> Result<(), Error> {
    let known = |found: &OsStr| extensions.iter().any(|extension| found.eq_ignore_ascii_case(extension));
    let fits = wanted.extension().is_some_and(known);
    if wanted.file_stem().is_none() || !fits || wanted.is_dir() {
        return Err(Error::request(format_args!(
            "the output is `{}`; expected a file name ending in .{}",
            wanted.display(),
            extensions.join(", .")
        )));
    }
    Ok(())
}

/// Writes a file that appears whole as `wanted` or, if that exists and may not be replaced, under
/// the next free name. Returns the name.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn place(wanted: &Path, replace: bool, bytes: &[u8]) -> Result<PathBuf, Error> {
    if is_stdout(wanted) {
        return to_stdout(bytes);
    }
    let mut file = WholeFile::write(wanted, bytes)?;
    if replace {
        file.replace(wanted)?;
        return Ok(wanted.to_owned());
    }
    for path in names(wanted) {
        if file.name(&path)? {
            return Ok(path);
        }
    }
    Err(Error::run("no free file name is left"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_existing_file_is_kept_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wanted = folder.path().join("fox.png");
        let free = |replace| reserve(&wanted, PICTURES, replace).expect("the folder is writable");
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
            let error = reserve(&folder.path().join(name), PICTURES, false)
                .expect_err("it cannot be written")
                .to_string();
            assert!(error.contains(message) && error.contains(name), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text_are_kept() {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(OsStr::from_bytes(b"caf\xe9.png"));
        let second = names(name).nth(1).expect("there is always another");
        assert_eq!(second.as_os_str().as_bytes(), b"caf\xe9-1.png");
    }
}
