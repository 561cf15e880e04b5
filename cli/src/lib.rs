//! `aquatint`: Stable Diffusion on a CPU, from the command line.
//!
//! A thin driver: it turns flags into a request to `aquatint_model::Pipeline`, shows progress, and
//! puts files where they belong. Results go to stdout, everything else to stderr. This file parses,
//! dispatches and exits; nothing imports it. It is a library, so that Python's package holds the
//! same program: `main.rs` and `model/python` are its two callers.
//!
//! | folder | what it holds, from the highest layer to the lowest |
//! |---|---|
//! | `commands`, `bench`, `serve` | a command a file or folder: its own flags, what it does |
//! | `run` | from settings to files: sessions, manifests, output, progress |
//! | `flags` | flags that several commands share |
//! | `platform` | what concerns the whole process: streams, signals, threads, the allocator |
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed while running |
//! | 2 | the request cannot be met: a flag, a size, a name |
//! | 3 | the model cannot be loaded |
//! | 4 | part of a batch failed; the rest is there |
//! | 130 | interrupted; what was finished is kept |

#[macro_use] // its `println!` and `eprintln!` take the place of the standard library's
mod platform;

mod args;
mod bench;
mod commands;
mod flags;
mod run;
mod serve;

use std::ffi::OsString;
use std::time::Instant;

use aquatint_model::source::{TEXT_ENCODER, TEXT_ENCODER_2, VAE};
use aquatint_model::{Error, ErrorKind};
use clap::CommandFactory;

use args::{Args, Command};
use commands::{
    completions, convert, decode, demo, doctor, encode, explain, img2img, inpaint, inspect, models, noise,
    presets, random_model, samplers, txt2img, upscale, verify,
};
pub use platform::threads::start as start_threads;
use platform::{allocator, console, signals};
use run::progress;

#[global_allocator]
static ALLOCATOR: allocator::Aligned = allocator::Aligned;

/// Runs the program with `args`, of which the first is its own name. Returns the exit code.
///
/// It takes the process over, as a program does: its thread pool and its handling of signals are
/// set up, so it can be called once. `--help`, and an interruption, end the process.
pub fn main_from(args: Vec<OsString>) -> u8 {
    let start = Instant::now();
    let code = Args::read(args).and_then(|args| dispatch(args, start)).unwrap_or_else(|error| {
        match error.kind() {
            ErrorKind::Interrupted => eprintln!("{error}"),
            _ => eprintln!("error: {error}{}", hint(&error)),
        }
        match error.kind() {
            ErrorKind::Run => 1,
            ErrorKind::Request => 2,
            ErrorKind::Model => 3,
            ErrorKind::Interrupted => signals::EXIT_CODE,
        }
    });
    match code {
        0 if !console::all_was_told() => 1,
        code => code,
    }
}

/// The flag that may help; the library knows none.
fn hint(error: &Error) -> &'static str {
    match error {
        Error::NotFinite { .. } => "; try `--precision f32`",
        Error::MissingComponent { component, .. } if *component == VAE.name => ": `--vae PATH`",
        Error::MissingComponent { component, .. } if *component == TEXT_ENCODER.name => {
            ": `--text-encoder PATH`"
        }
        Error::MissingComponent { component, .. } if *component == TEXT_ENCODER_2.name => {
            ": `--text-encoder-2 PATH`"
        }
        _ => "",
    }
}

/// Runs the command, which began at `start`. Returns the exit code.
fn dispatch(args: Args, start: Instant) -> Result<u8, Error> {
    console::set_verbosity(args.quiet, args.verbose);
    let computes = args.command.computes();
    let code = run(args.command)?;
    if computes {
        inform!("done in {}", progress::elapsed(start.elapsed()));
    }
    Ok(code)
}

fn run(command: Command) -> Result<u8, Error> {
    match command {
        Command::Txt2img(args) => return txt2img::run(&args),
        Command::Img2img(args) => return img2img::run(&args),
        Command::Inpaint(args) => return inpaint::run(&args),
        Command::Encode(args) => encode::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Noise(args) => noise::run(&args),
        Command::Upscale(args) => upscale::run(&args),
        Command::Explain(args) => explain::run(*args),
        Command::Demo(args) => demo::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::RandomModel(args) => random_model::run(&args),
        Command::Completions { shell } => completions::completions(shell, &mut Args::command()),
        Command::Man => completions::man(Args::command()),
        Command::Samplers => {
            samplers::run();
            Ok(())
        }
        Command::Presets => {
            presets::run();
            Ok(())
        }
    }
    .map(|()| 0)
}
