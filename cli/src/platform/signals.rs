//! Ctrl-C: nothing is left half.
//!
//! ```text
//! nothing to save of a run    ends at once, but never while a file is being written
//! random-model                 ends at once, and removes the folder that is not complete
//! --checkpoint, --save-partial the step is finished and saved; a second Ctrl-C ends at once
//! ```
//!
//! Finished pictures are kept in either case, and the exit code is 130. A request to terminate
//! (SIGTERM, SIGHUP) is treated alike.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use aquatint_model::Error;

/// What a shell reports for a program that SIGINT ended.
pub(crate) const EXIT_CODE: u8 = 130;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static WORTH_WAITING: AtomicBool = AtomicBool::new(false);
static WRITING: Mutex<()> = Mutex::new(());
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Begins to listen. With `worth_waiting` the first signal only asks; see [`requested`].
///
/// # Errors
/// If the operating system does not let us.
pub(crate) fn listen(worth_waiting: bool) -> Result<(), Error> {
    WORTH_WAITING.store(worth_waiting, Ordering::Relaxed);
    let handler = || {
        let again = REQUESTED.swap(true, Ordering::Relaxed);
        if WORTH_WAITING.load(Ordering::Relaxed) && !again {
            eprintln!("interrupted: ends after this step; once more ends at once");
            return;
        }
        let _whole = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("interrupted");
        if let Some(folder) = &*UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) {
            // More than once, because the other thread still writes into it.
            let _ = (0..10).any(|_| fs::remove_dir_all(folder).is_ok());
        }
        std::process::exit(EXIT_CODE.into());
    };
    ctrlc::set_handler(handler).map_err(Error::run)
}

/// Begins to listen, for work that fills a folder; it is removed at the end that the user wants.
///
/// # Errors
/// See [`listen`].
pub(crate) fn listen_and_remove(unfinished: PathBuf) -> Result<(), Error> {
    *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(unfinished);
    listen(false)
}

/// Whether the user wants an end.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Runs `write` to its end, whatever the user wants meanwhile.
pub(crate) fn whole<T>(write: impl FnOnce() -> T) -> T {
    let _whole = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    write()
}
