//! The program `aquatint`: its arguments, handed to the library, and its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    aquatint_cli::main_from(std::env::args_os().collect()).into()
}
