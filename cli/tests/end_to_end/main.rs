//! The program as a user runs it.

mod batch;
mod bench;
mod control;
mod door;
mod few_step;
mod hostile;
mod larger;
mod models;
mod parameters;
mod pictures;
mod serve;
mod tasks;
mod xl;

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// What a run of the program left.
struct Run {
    code: i32,
    /// Bytes of a picture, if it went there, show as replacement characters.
    stdout: String,
    stderr: String,
}

fn aquatint(folder: &Path, arguments: &[&str]) -> Run {
    aquatint_with(folder, arguments, &[])
}

fn aquatint_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let command = command.current_dir(folder).args(arguments).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: status.code().expect("it was not killed"), stdout: text(stdout), stderr: text(stderr) }
}

/// A folder with the tiny random model in `tiny`.
fn with_model() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = aquatint(folder.path(), &["random-model", "--arch", "tiny", "tiny"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "tiny\n"), "{}", run.stderr);
    folder
}

/// Panics unless the run ended with this exit code, this message and nothing made.
#[track_caller]
fn refused(run: &Run, code: i32, message: &str) {
    assert_eq!(run.code, code, "{}", run.stderr);
    assert!(run.stderr.contains(message), "expected \"{message}\" in: {}", run.stderr);
    assert_eq!(run.stdout, "", "nothing was made");
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}
