//! `aquatint bench`: what this machine can do, and how near each kernel comes to it.
//!
//! ```text
//! machine    peak of each instruction set, bandwidth of each memory      machine.rs
//! kernels    each case: layer × rung × instruction set                  cases.rs, kernels.rs
//! stages     whole networks, of a model folder                          stages.rs
//! load       opening a model: folder, file, adapters; asked by name     load.rs
//! trace      a network layer by layer                                   trace.rs
//! against    a network in turn with OpenVINO                            against.rs
//! output     a table, JSON, a drawing, a comparison, tables of docs     report.rs, svg.rs, …
//! ```
//!
//! All layers take minutes on slow rungs. Without `--all`, every rung is measured on every
//! instruction set on one layer of its kernel, and the form that makes pictures, in each precision,
//! on the largest layers, which together are half of the kernel's work in their network; of what a
//! filter names, on all. That should take less than three minutes on two cores.
//!
//! Read next: `probe.rs` and `timing.rs` (which repeats count), `roofline.rs` (what is possible at
//! all).

mod against;
mod cases;
mod compare;
mod kernels;
mod ladder;
mod load;
mod machine;
mod markdown;
mod probe;
mod report;
mod roofline;
mod stages;
mod svg;
mod timing;
mod trace;

use std::path::PathBuf;

use aquatint_model::Error;
use aquatint_model::whole_file::{check_writable, write_whole};
use clap::Args;

use crate::flags::precision::Precision;
use crate::platform::clock::CpuShare;
use crate::platform::console::{self, warn};
use crate::run::files;
use cases::{Case, Isas, matches};
use machine::Machine;
use probe::Probe;
use report::{Report, Row};
use stages::{Configs, Stages};

/// The whole machine is measured in the time of this many kernels.
const MACHINE_SHARE: f64 = 40.0;
/// But no longer than this: what is measured for minutes must not wait for as many.
const MACHINE_SECONDS: f64 = 10.0;
/// A network takes this many times as long as a kernel.
const STAGE_SHARE: f64 = 4.0;
/// The first word of a filter that asks for layers.
const TRACE: &str = "trace";

#[derive(Args)]
pub(crate) struct Bench {
    /// Measure only what has all these words in its name, such as "conv2d indirect @64" or "stage".
    /// "trace", as the first word, shows the UNet step layer by layer, or the network named behind
    /// it, such as "trace vae decode". "load", as the first word, measures how a model is opened:
    /// as a folder, as a single file, with adapters.
    #[arg(value_name = "WORD")]
    filter: Vec<String>,

    /// Model folder: measure its networks as well.
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Number format of the large products in the model's networks [default: auto]. Kernels are
    /// measured in all.
    #[arg(long, value_enum, requires = "model")]
    precision: Option<Precision>,

    /// Steps of the picture that is made with the model.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: u16,

    /// In a trace, one line for each class of layers.
    #[arg(long, requires = "model")]
    layers: bool,

    /// Measure each network in turn with another program's, on the model's shapes with random
    /// weights.
    #[arg(long, value_enum, requires = "model", requires = "python", value_name = "PROGRAM")]
    against: Option<Peer>,

    /// A Python that has openvino, torch, diffusers and transformers, for --against.
    #[arg(long, value_name = "FILE")]
    python: Option<PathBuf>,

    /// Every layer on every rung and instruction set; else the slower ones on one layer only, the
    /// fastest on the largest layers.
    #[arg(long)]
    all: bool,

    /// Print the tables of the kernels' docs: rungs and instruction sets on one layer each.
    #[arg(long)]
    ladder: bool,

    /// Write everything that was measured; - is stdout, and the table then goes to stderr.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Put the tables into a document, such as BENCHMARKS.md: this machine's are replaced, others
    /// stay.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write a roofline.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Say what became faster or slower since an earlier run's --json.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// Seconds for each measurement; at least three runs are made all the same, or one of what
    /// takes much longer.
    #[arg(long, default_value_t = 0.25, value_parser = seconds)]
    seconds: f64,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// What to compare with.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Peer {
    /// OpenVINO, in the fastest precision that it offers on this CPU.
    Openvino,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1e-6..=1e4).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, from 0.000001 to 10000".into())
}

pub(crate) fn run(args: &Bench) -> Result<(), Error> {
    // What can be refused is refused before minutes are spent.
    let old = args.compare.as_deref().map(Report::open).transpose()?;
    args.model.as_deref().map(Configs::open).transpose()?;
    if args.json.as_deref().is_some_and(files::is_stdout) {
        console::results_to_stderr(); // the table; stdout is for the JSON
    }
    for path in args
        .json
        .iter()
        .chain(&args.svg)
        .chain(&args.markdown)
        .filter(|path| !path.exists() && !files::is_stdout(path))
    {
        check_writable(path, 1)?;
    }
    let isa = crate::run::model::machine(args.threads.map(usize::from))?;
    let threads = rayon::current_num_threads();
    let isas = Isas::of(isa);

    let probe = Probe::new(isa);
    let precision = args.precision.unwrap_or(Precision::Auto).on(isa);
    let (trace, filter) = match args.filter.split_first() {
        Some((first, rest)) if first == TRACE => (true, rest),
        _ => (args.layers, &args.filter[..]),
    };
    let stages = args.model.as_deref().map(|folder| Stages { folder, isa, precision, threads, filter });
    let budget = STAGE_SHARE * args.seconds;
    if let (Some(Peer::Openvino), Some(stages), Some(python)) = (args.against, &stages, &args.python) {
        let comparisons = against::run(stages, budget, &probe, python)?;
        let Some(path) = &args.markdown else { return Ok(()) };
        return markdown::write_comparisons(path, threads, &comparisons);
    }
    let measure_machine = || {
        let seconds = MACHINE_SECONDS.min(MACHINE_SHARE * args.seconds);
        let cores = CpuShare::start();
        let machine = Machine::measure(seconds, threads, &isas.peaks());
        let share = cores.share();
        if timing::is_disturbed(share) {
            let others = 100.0 * (1.0 - share);
            warn(format_args!(
                "other programs take {others:.0} % of these cores; figures are worth little until they end"
            ));
        }
        machine.print();
        machine
    };
    match &stages {
        Some(stages) if trace => {
            let unet = ["UNet".to_owned()];
            let filter = if filter.is_empty() { &unet[..] } else { filter };
            let stages = Stages { filter, ..*stages };
            return trace::print(&stages, (budget, args.layers), &probe, &measure_machine);
        }
        None if trace => {
            return Err(Error::request("a trace is of a model's network: name a folder with --model"));
        }
        _ => {}
    }
    let cases = kernels::cases(&isas);
    let named = |case: &&Case| matches(&case.name(), &args.filter);
    if stages.is_none() && !cases.iter().any(|case| named(&case)) {
        return Err(nothing_is_called(&args.filter));
    }
    let machine = measure_machine();
    let mut report = Report { version: env!("CARGO_PKG_VERSION").into(), machine, rows: Vec::new() };

    println!("\n{}", report::head());
    let wanted = |case: &&Case| match (args.all, args.ladder) {
        (_, true) => case.example,
        (true, false) => true,
        (false, false) => case.example || case.used && (case.large || !args.filter.is_empty()),
    };
    for case in cases.iter().filter(wanted).filter(named) {
        let row = measure(case, (args.seconds, &probe), threads);
        println!("{}", row.line(&report.machine));
        report.rows.push(row);
    }
    let mut staged = Ok(());
    if let Some(stages) = &stages {
        let Report { machine, rows, .. } = &mut report;
        let mut found = |row: Row| {
            println!("{}", row.line(machine));
            rows.push(row);
        };
        staged = stages.run((budget, args.steps.into()), &probe, &mut found);
        if staged.is_ok() && args.filter.first().is_some_and(|word| word == load::LOAD) {
            staged = load::run(stages, budget, &probe, &mut found);
        }
    }
    // What was measured is kept, whatever fails later.
    if let Some(path) = args.json.as_ref().filter(|_| !report.rows.is_empty()) {
        match files::is_stdout(path) {
            true => console::write_result(&report.to_json()?)?,
            false => report.save(path)?,
        }
    }
    report.warning().iter().for_each(warn);
    staged?;
    if report.rows.is_empty() {
        return Err(nothing_is_called(&args.filter));
    }

    if let Some(path) = &args.markdown {
        markdown::write_report(path, &report, threads)?;
    }
    if args.ladder {
        ladder::print(&cases, &report.rows, &report.machine);
    }
    if let Some(old) = &old {
        if let Some(obstacle) = compare::obstacle(old, &report) {
            warn(obstacle);
        }
        println!();
        compare::print(&compare::compare(old, &report));
    }
    if let Some(path) = &args.svg {
        match svg::roofline(&report) {
            Some(svg) => write_whole(path, svg.as_bytes())?,
            None => warn("no kernel was measured whose operations are known; there is no roofline"),
        }
    }
    Ok(())
}

fn nothing_is_called(filter: &[String]) -> Error {
    Error::request(format_args!(
        "nothing is called \"{}\"; the names are those of the table that `aquatint bench` prints",
        filter.join(" ")
    ))
}

fn measure(case: &Case, (budget, probe): (f64, &Probe), threads: usize) -> Row {
    let timing = timing::measure(budget, probe, (case.prepare)());
    Row {
        kernel: case.kernel.into(),
        rung: case.rung.into(),
        precision: case.precision.into(),
        isa: case.isa.name().into(),
        shape: case.shape.clone(),
        threads: if case.single_thread { 1 } else { threads },
        count: case.count,
        flops: case.work.flops,
        bytes: case.work.bytes,
        timing,
    }
}
