//! `aquatint`: Stable Diffusion on a CPU, from the command line.
//!
//! A thin driver: it turns flags into a request to `aquatint_model::Pipeline`, shows progress, and puts files where they
//! belong. Results go to stdout, everything else to stderr.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | failed while running |
//! | 2 | the request cannot be met: a flag, a size, a name |
//! | 3 | the model cannot be loaded |
//! | 4 | part of a batch failed; the rest is there |
//! | 130 | interrupted; what was finished is kept |

mod bench;
mod commands;
mod flags;
mod platform;
mod run;

use std::fmt::Display;
use std::process::ExitCode;

use aquatint_kernels::Isa;
use aquatint_model::{Error, ErrorKind, Precisions};

use commands::{
    completions, decode, demo, encode, img2img, inpaint, inspect, noise, random_model, samplers, txt2img,
    verify,
};
use flags::args::{Args, Command};
use platform::{allocator, signals, system, topology};

#[global_allocator]
static ALLOCATOR: allocator::Aligned = allocator::Aligned;

fn main() -> ExitCode {
    system::end_when_output_is_closed();
    match Args::read().and_then(run) {
        Ok(code) => code,
        Err(error) => {
            match error.kind() {
                ErrorKind::Interrupted => eprintln!("{error}"),
                _ => eprintln!("error: {error}"),
            }
            ExitCode::from(match error.kind() {
                ErrorKind::Run => 1,
                ErrorKind::Request => 2,
                ErrorKind::Model => 3,
                ErrorKind::Interrupted => signals::EXIT_CODE,
            })
        }
    }
}

fn run(args: Args) -> Result<ExitCode, Error> {
    match args.command {
        Command::Txt2img(args) => return txt2img::run(&args),
        Command::Img2img(args) => return img2img::run(&args),
        Command::Inpaint(args) => return inpaint::run(&args),
        Command::Encode(args) => encode::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Noise(args) => noise::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::RandomModel(args) => random_model::run(&args),
        Command::Completions { shell } => completions::completions(shell),
        Command::Man => completions::man(),
        Command::Samplers => {
            samplers::run();
            Ok(())
        }
    }
    .map(|()| ExitCode::SUCCESS)
}

/// The instruction set to compute with, and the threads to do it on.
fn machine(threads: Option<usize>) -> Result<Isa, Error> {
    let isa = Isa::from_env().map_err(Error::request)?;
    // See `topology.rs` for why cores and not what the operating system schedules on. 0 is rayon's own rule.
    let chosen_by_rayon = std::env::var_os("RAYON_NUM_THREADS").map(|_| 0);
    let threads = threads.or(chosen_by_rayon).unwrap_or_else(topology::physical_cores);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().map_err(Error::run)?;
    Ok(isa)
}

/// What is said of how pictures are computed.
fn computing(isa: Isa, precision: Precisions) -> String {
    let (unit, threads) = (isa.name_for(precision.products), rayon::current_num_threads());
    format!("computing with {precision}, {unit}, {threads} threads")
}

/// A sentence for stderr that is no error.
fn warn(message: impl Display) {
    eprintln!("warning: {message}");
}
