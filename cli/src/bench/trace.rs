//! A network layer by layer: what its time goes into.
//!
//! Each layer's time is the minimum of the quiet runs, so that a moment's disturbance does not
//! stand out as a layer. What is left of the whole network's fastest run is "between layers". With
//! `--layers` the layers of a class are one line.

use std::time::Instant;

use aquatint_model::Error;
use aquatint_model::networks::trace::{LayerTime, LayerWork, record};

use super::cases::Run;
use super::machine::Machine;
use super::probe::Probe;
use super::stages::{Configs, Stages};
use super::timing::repeat_in_quiet;

/// Prints the layers of the networks that the filter names, of each network the runs of `seconds`
/// seconds.
///
/// # Errors
/// If the model cannot be loaded, or no network is called so.
pub(super) fn print(
    stages: &Stages<'_>,
    (budget, by_class): (f64, bool),
    probe: &Probe,
    measure_machine: &dyn Fn() -> Machine,
) -> Result<(), Error> {
    let configs = Configs::open(stages.folder)?;
    let networks = stages.wanted_networks(&configs);
    if networks.is_empty() {
        return Err(Error::request(format_args!(
            "no network is called \"{}\"; their names are those of the stages that `aquatint bench` prints",
            stages.filter.join(" ")
        )));
    }
    let machine = &measure_machine();
    for network in networks {
        let run = stages.load(network, &configs)?;
        let trace = Trace::measure(budget, probe, run);
        let precision = stages.precision_of(network);
        let isa = stages.isa.name_for(precision.products());
        println!(
            "\n{}, {precision}, {isa}: {:.1} ms, {} runs, {} more in disturbed moments",
            network.name(),
            1e3 * trace.seconds,
            trace.runs,
            trace.dropped
        );
        let peak = machine.peak(isa, stages.threads);
        print_lines(&if by_class { trace.classes() } else { trace.lines() }, trace.seconds, peak);
    }
    Ok(())
}

/// The fastest of some runs, of the network and of each of its layers.
struct Trace {
    layers: Vec<LayerTime>,
    seconds: f64,
    runs: usize,
    dropped: usize,
}

/// Layers of one kind and shape, or of one kind.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    work: LayerWork,
    count: usize,
    seconds: f64,
}

impl Trace {
    fn measure(budget: f64, probe: &Probe, mut run: Run) -> Self {
        let repeat = || {
            let start = Instant::now();
            let ((), layers) = record(&mut run);
            (start.elapsed().as_secs_f64(), layers)
        };
        let (repeats, dropped) = repeat_in_quiet(budget, || probe.run(), repeat);
        Self::of(repeats, dropped)
    }

    /// # Panics
    /// If there is no run.
    fn of(repeats: Vec<(f64, Vec<LayerTime>)>, dropped: usize) -> Self {
        let runs = repeats.len();
        let fastest = |(a, layers): (f64, Vec<LayerTime>), (b, others): (f64, Vec<LayerTime>)| {
            let least = |(layer, other): (LayerTime, LayerTime)| LayerTime {
                seconds: layer.seconds.min(other.seconds),
                ..layer
            };
            (a.min(b), layers.into_iter().zip(others).map(least).collect())
        };
        let (seconds, layers) = repeats.into_iter().reduce(fastest).expect("at least one run");
        Self { layers, seconds, runs, dropped }
    }

    /// Layers of one kind and shape together, in the order in which the first of them runs.
    fn lines(&self) -> Vec<Line> {
        self.grouped(|work| work.clone())
    }

    /// Layers of one kind together, the slowest first.
    fn classes(&self) -> Vec<Line> {
        let mut lines = self.grouped(|work| LayerWork { shape: String::new(), ..work.clone() });
        lines.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        lines
    }

    fn grouped(&self, key: impl Fn(&LayerWork) -> LayerWork) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for LayerTime { work, seconds } in &self.layers {
            let work = key(work);
            let same = |line: &&mut Line| (line.work.kind, &line.work.shape) == (work.kind, &work.shape);
            match lines.iter_mut().find(same) {
                Some(line) => {
                    line.count += 1;
                    line.seconds += seconds;
                    line.work.flops += work.flops;
                    line.work.bytes += work.bytes;
                }
                None => lines.push(Line { work, count: 1, seconds: *seconds }),
            }
        }
        let layers: f64 = lines.iter().map(|line| line.seconds).sum();
        let work = LayerWork { kind: "between layers", shape: String::new(), flops: 0.0, bytes: 0.0 };
        lines.push(Line { work, count: 1, seconds: self.seconds - layers });
        lines
    }
}

/// The table. Operations are those of the definition, so the share of the `peak` may exceed 100 %
/// where fewer are needed.
fn print_lines(lines: &[Line], all: f64, peak: Option<f64>) {
    println!(
        "{:24} {:28} {:>4} {:>9} {:>6} {:>9} {:>9} {:>6} {:>8} {:>8}",
        "layer", "shape", "×", "ms", "share", "GFLOP", "GFLOP/s", "peak", "MB", "GB/s"
    );
    for Line { work, count, seconds } in lines {
        let rate = work.flops / seconds;
        let number = |x: f64, scale: f64| if x > 0.0 { format!("{:.1}", x / scale) } else { String::new() };
        let share = peak.filter(|_| work.flops > 0.0).map(|peak| format!("{:.0} %", 100.0 * rate / peak));
        let line = format!(
            "{:24} {:28} {count:>4} {:>9.3} {:>4.1} % {:>9} {:>9} {:>6} {:>8} {:>8}",
            work.kind,
            work.shape,
            1e3 * seconds,
            100.0 * seconds / all,
            number(work.flops, 1e9),
            number(rate, 1e9),
            share.unwrap_or_default(),
            number(work.bytes, 1e6),
            number(work.bytes / seconds, 1e9),
        );
        println!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(kind: &'static str, shape: &str, seconds: f64) -> LayerTime {
        LayerTime { work: LayerWork { kind, shape: shape.into(), flops: 1e9, bytes: 1e6 }, seconds }
    }

    #[test]
    fn each_layer_counts_with_its_fastest_run_and_the_rest_is_between_layers() {
        let run = |conv, norm, again| {
            vec![layer("conv", "1", conv), layer("norm", "1", norm), layer("conv", "2", again)]
        };
        let trace = Trace::of(vec![(1.0, run(0.3, 0.2, 0.1)), (0.8, run(0.2, 0.3, 0.1))], 1);
        assert_eq!((trace.seconds, trace.runs, trace.dropped), (0.8, 2, 1));
        let seconds =
            |lines: &[Line]| lines.iter().map(|line| (line.work.kind, line.seconds)).collect::<Vec<_>>();
        let lines = trace.lines();
        assert_eq!(seconds(&lines)[..3], [("conv", 0.2), ("norm", 0.2), ("conv", 0.1)]);
        assert!(lines[3].work.kind == "between layers" && (lines[3].seconds - 0.3).abs() < 1e-12);
        let classes = trace.classes();
        assert_eq!(classes.iter().find(|line| line.work.kind == "conv").map(|line| line.count), Some(2));
        assert!(classes.is_sorted_by(|a, b| a.seconds >= b.seconds), "{classes:?}");
    }
}
