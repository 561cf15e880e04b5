//! `aquatint bench`: what this machine can do, and how near each kernel comes to it.
//!
//! ```text
//! machine    peak of each instruction set, bandwidth of each memory, on 1, 2, … threads        machine.rs
//! kernels    each case: layer × rung × instruction set                                         cases.rs, kernels.rs
//! stages     whole networks, of a model folder                                                 stages.rs
//! output     a table (report.rs), JSON, a drawing (svg.rs), a comparison (compare.rs), the tables of the docs (ladder.rs)
//! ```
//!
//! All layers take minutes on slow rungs. Without `--all`, every rung is measured on every instruction set on one layer of its kernel, and the
//! form that makes pictures, in each precision, on the largest layers, which together are half of the kernel's work in their network; of what
//! a filter names, on all. That should take less than three minutes on two cores.
//!
//! Read next: `timing.rs` (why a median), `roofline.rs` (what is possible at all).

mod cases;
mod compare;
mod kernels;
mod ladder;
mod machine;
mod report;
mod roofline;
mod stages;
mod svg;
mod timing;

use std::fs;
use std::path::PathBuf;

use aquatint_model::Error;
use clap::Args;

use crate::flags::precision::Precision;
use crate::platform::console::warn;
use crate::run::output::check_writable;
use cases::{Case, Isas, matches};
use machine::Machine;
use report::{Report, Row};
use stages::Stages;

/// The whole machine is measured in the time of so many kernels.
const MACHINE_SHARE: f64 = 40.0;

#[derive(Args)]
pub(crate) struct Bench {
    /// Measure only what has all these words in its name, such as "conv2d indirect @64" or "stage".
    #[arg(value_name = "WORD")]
    filter: Vec<String>,

    /// Model folder: measure its networks as well.
    #[arg(short, long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Number format of the large products in the model's networks [default: auto]. Kernels are measured in all.
    #[arg(long, value_enum, requires = "model")]
    precision: Option<Precision>,

    /// Steps of the picture that is made with the model.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    steps: u16,

    /// Every layer on every rung and instruction set; else the slower ones on one layer only, the fastest on the largest layers.
    #[arg(long)]
    all: bool,

    /// Print the tables of the kernels' docs: rungs and instruction sets on one layer each.
    #[arg(long)]
    ladder: bool,

    /// Write everything that was measured.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a roofline.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Say what became faster or slower since an earlier run's --json.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,

    /// Seconds for each measurement; at least three runs are made all the same, or one of what takes much longer.
    #[arg(long, default_value_t = 0.25, value_parser = seconds)]
    seconds: f64,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1e-6..=1e4).contains(seconds));
    seconds.ok_or_else(|| "expected seconds, from 0.000001 to 10000".into())
}

pub(crate) fn run(args: &Bench) -> Result<(), Error> {
    // What can be refused is refused before minutes are spent.
    let old = args.compare.as_deref().map(Report::open).transpose()?;
    args.model.as_deref().map(stages::check).transpose()?;
    for path in args.json.iter().chain(&args.svg).filter(|path| !path.exists()) {
        check_writable(path)?;
    }
    let isa = crate::run::model::machine(args.threads.map(usize::from))?;
    let threads = rayon::current_num_threads();
    let isas = Isas::of(isa);

    let machine = Machine::measure(MACHINE_SHARE * args.seconds, threads, &isas.peaks());
    machine.print();
    let cases = kernels::cases(&isas);
    let mut report = Report { version: env!("CARGO_PKG_VERSION").into(), machine, rows: Vec::new() };

    println!("\n{}", report::head());
    let wanted = |case: &&Case| match (args.all, args.ladder) {
        (_, true) => case.example,
        (true, false) => true,
        (false, false) => case.example || case.used && (case.large || !args.filter.is_empty()),
    };
    for case in cases.iter().filter(wanted).filter(|case| matches(&case.name(), &args.filter)) {
        let row = measure(case, args.seconds, threads);
        println!("{}", row.line(&report.machine));
        report.rows.push(row);
    }
    let mut staged = Ok(());
    if let Some(folder) = &args.model {
        let (budget, filter, steps) = (4.0 * args.seconds, &args.filter[..], args.steps.into());
        let precision = args.precision.unwrap_or(Precision::Auto).on(isa);
        let Report { machine, rows, .. } = &mut report;
        staged = Stages { folder, isa, precision, threads, budget, filter, steps }.run(&mut |row| {
            println!("{}", row.line(machine));
            rows.push(row);
        });
    }
    // What was measured is kept, whatever fails later.
    if let Some(path) = args.json.as_ref().filter(|_| !report.rows.is_empty()) {
        report.save(path)?;
    }
    staged?;
    if report.rows.is_empty() {
        return Err(Error::request(format_args!(
            "nothing is called \"{}\"; the names are those of the table that `aquatint bench` prints",
            args.filter.join(" ")
        )));
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
            Some(svg) => fs::write(path, svg).map_err(Error::writing(path))?,
            None => warn("no kernel was measured whose operations are known; there is no roofline"),
        }
    }
    Ok(())
}

fn measure(case: &Case, budget: f64, threads: usize) -> Row {
    let timing = timing::measure(budget, (case.prepare)());
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
