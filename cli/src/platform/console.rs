//! What the program tells: results on stdout, everything else on stderr.
//!
//! The standard library's `println!` and `eprintln!` panic where a stream is full or its reader is
//! gone, in the middle of a picture. The macros of the same names here do not: what cannot be
//! printed on stderr is dropped, because the picture matters more; a result that cannot be printed
//! is remembered, and the program says so when its work is done.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use aquatint_model::Error;
use aquatint_model::error::printable;

/// A line for stdout.
macro_rules! println {
    () => { println!("") };
    ($($text:tt)*) => { $crate::platform::console::line_for_stdout(format_args!($($text)*)) };
}

/// A line for stderr.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::platform::console::line_for_stderr(format_args!($($text)*)) };
}

/// A line for stderr about how the work goes; `--quiet` leaves it out.
macro_rules! inform {
    ($($text:tt)*) => {
        if !$crate::platform::console::is_quiet() {
            $crate::platform::console::line_for_stderr(format_args!($($text)*));
        }
    };
}

/// How much is reported of how the work goes.
static VERBOSITY: AtomicU8 = AtomicU8::new(1);

/// `--quiet` or `--verbose`; with neither, what most people want to know.
pub(crate) fn set_verbosity(quiet: bool, verbose: bool) {
    VERBOSITY.store(if quiet { 0 } else { 1 + u8::from(verbose) }, Ordering::Relaxed);
}

/// Whether only results, warnings and errors are reported.
pub(crate) fn is_quiet() -> bool {
    VERBOSITY.load(Ordering::Relaxed) == 0
}

/// Whether every step is reported.
pub(crate) fn is_verbose() -> bool {
    VERBOSITY.load(Ordering::Relaxed) == 2
}

/// Columns of the terminal on stderr; 80 where it does not say.
pub(crate) fn columns() -> u16 {
    terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0)
}

/// The first failure to write to stdout; nothing is written after it.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Whether lines for stdout go to stderr, because stdout is for something else.
static TO_STDERR: AtomicBool = AtomicBool::new(false);

/// Sends lines for stdout to stderr from now on.
pub(crate) fn results_to_stderr() {
    TO_STDERR.store(true, Ordering::Relaxed);
}

/// Writes a result to stdout, whatever becomes of its lines.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_result(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::writing("-"))
}

/// A line for stdout.
pub(crate) fn line_for_stdout(text: Arguments<'_>) {
    if TO_STDERR.load(Ordering::Relaxed) {
        return line_for_stderr(text);
    }
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if failed.is_none() {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush());
        *failed = written.err();
    }
}

/// A line for stderr, in one write, so that the lines of several threads do not mix.
pub(crate) fn line_for_stderr(text: Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes()); // a failure has nowhere to be reported
}

/// A sentence for stderr about what is unexpected but no error.
pub(crate) fn warn(message: impl Display) {
    eprintln!("warning: {}", printable(&message.to_string()));
}

/// Whether all results were printed. A reader who has seen enough, as in `aquatint inspect sd15 |
/// head
/// -1`, gets nothing more, on stderr either.
pub(crate) fn all_was_told() -> bool {
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failed.as_ref().filter(|error| error.kind() != ErrorKind::BrokenPipe) {
        eprintln!("error: cannot write to stdout: {error}");
    }
    failed.is_none()
}
