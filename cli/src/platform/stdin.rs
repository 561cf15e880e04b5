//! What is read: `-` is stdin, for one input of a run.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use aquatint_model::Error;
use aquatint_model::generate::ImageInput;

/// A larger picture or manifest has an error.
const LARGEST: u64 = 1 << 30;

/// Whether `-` is meant.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// All of stdin.
///
/// # Errors
/// `Request` if it was read before, if it cannot be read, or if there is too much of it.
pub(crate) fn stdin() -> Result<Vec<u8>, Error> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Error::request("`-` is given twice; expected file names for all inputs but one"));
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::request(format_args!("cannot read stdin: {error}")))?;
    match bytes.len() as u64 > LARGEST {
        true => Err(Error::request(format_args!("stdin has more than {LARGEST} bytes; expected fewer"))),
        false => Ok(bytes),
    }
}

/// A picture of a file or of stdin.
///
/// # Errors
/// See [`stdin`].
pub(crate) fn image(path: &Path) -> Result<ImageInput, Error> {
    match is_stdin(path) {
        true => stdin().map(ImageInput::from),
        false => Ok(path.to_owned().into()),
    }
}

/// Refuses stdin where a file is needed.
///
/// # Errors
/// `Request` if `path` is `-`.
pub(crate) fn refuse_stdin(path: &Path, what: &str) -> Result<(), Error> {
    match is_stdin(path) {
        true => Err(Error::request(format_args!(
            "{what} is not read from stdin; expected a file name (`-` works for -p, -i, --mask and --batch)"
        ))),
        false => Ok(()),
    }
}
