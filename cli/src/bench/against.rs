//! A network in turn with OpenVINO, within seconds of each other: what disturbs one disturbs the
//! other.
//!
//! OpenVINO runs in a Python of the user's (`benches/openvino_stages.py`, which is a part of this
//! program), waits while this program computes, and the other way round. Minima of quiet moments
//! are compared.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use aquatint_model::Error;

use super::probe::Probe;
use super::stages::{Configs, Network, Stages};
use super::timing::repeat_in_quiet;

const SCRIPT: &str = include_str!("../../../benches/openvino_stages.py");
/// How long the threads of one program are given to fall asleep before the other is measured.
const PAUSE: Duration = Duration::from_millis(50);

/// A network here and in another program.
pub(super) struct Comparison {
    pub(super) network: &'static str,
    pub(super) precision: String,
    pub(super) isa: &'static str,
    /// The fastest run here, in seconds.
    pub(super) here: f64,
    /// What the other program calls itself.
    pub(super) peer: String,
    /// Its fastest run.
    pub(super) there: f64,
}

/// Measures each network that the filter names for `seconds`, and prints a line for each.
///
/// # Errors
/// If the model cannot be loaded, or Python or a module is missing.
pub(super) fn run(
    stages: &Stages<'_>,
    budget: f64,
    probe: &Probe,
    python: &Path,
) -> Result<Vec<Comparison>, Error> {
    let mut comparisons = Vec::new();
    let configs = Configs::open(stages.folder)?;
    for network in stages.wanted_networks(&configs) {
        let mut peer = Peer::start(python, stages, network)?;
        let mut run = stages.load(network, &configs)?;
        let mut failed = None;
        let pair = || {
            sleep(PAUSE);
            let start = Instant::now();
            run();
            let here = start.elapsed().as_secs_f64();
            sleep(PAUSE);
            let there = peer.run().unwrap_or_else(|error| {
                failed = Some(error);
                f64::INFINITY
            });
            [here, there]
        };
        let (pairs, dropped) = repeat_in_quiet(budget, || probe.run(), pair);
        if let Some(error) = failed {
            return Err(error);
        }
        let least = |i: usize| pairs.iter().map(|pair| pair[i]).fold(f64::INFINITY, f64::min);
        let [here, there] = [least(0), least(1)];
        if comparisons.is_empty() {
            println!(
                "\n{:14} {:>12} {:>12} {:>7}   minima of the quiet pairs",
                "network", "here, ms", "there, ms", "faster"
            );
        }
        println!(
            "{:14} {:>12.2} {:>12.2} {:>6.2}×   {} of {}; here {}, {}; there {}",
            network.name(),
            1e3 * here,
            1e3 * there,
            there / here,
            pairs.len(),
            pairs.len() + dropped,
            stages.precision_of(network),
            stages.isa.name_for(stages.precision_of(network).products()),
            peer.name
        );
        comparisons.push(Comparison {
            network: network.name(),
            precision: stages.precision_of(network).to_string(),
            isa: stages.isa.name_for(stages.precision_of(network).products()),
            here,
            peer: peer.name.clone(),
            there,
        });
    }
    Ok(comparisons)
}

/// The other program with one network.
struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it calls itself.
    name: String,
}

impl Peer {
    /// Returns when the network is ready.
    fn start(python: &Path, stages: &Stages<'_>, network: Network) -> Result<Self, Error> {
        let cannot = |reason: String| {
            Error::request(format_args!(
                "cannot measure with `{}`: {reason}; expected a Python that has openvino, torch, diffusers and transformers",
                python.display()
            ))
        };
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT]).arg(stages.folder).arg(network.name()).arg(stages.threads.to_string());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().map_err(|error| cannot(error.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(cannot("it has no pipes".into()));
        };
        let mut peer = Self { child, input, output: BufReader::new(output), name: String::new() };
        peer.name = peer.line().map_err(|_| cannot("it ended before the network was ready".into()))?;
        Ok(peer)
    }

    /// The seconds of one run.
    fn run(&mut self) -> Result<f64, Error> {
        self.input.write_all(b"\n").and_then(|()| self.input.flush()).map_err(Error::run)?;
        let line = self.line()?;
        line.parse().map_err(|_| Error::run(format!("expected seconds from OpenVINO, found `{line}`")))
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Err(Error::run("OpenVINO ended")),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(Error::run(error)),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It holds gigabytes; that it has ended already is no fault.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
