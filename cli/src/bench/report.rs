//! What was measured, as a table and as JSON.

use std::fs;
use std::path::Path;

use aquatint_kernels::Precision;
use aquatint_model::whole_file::write_whole;
use aquatint_model::{Error, Precisions};
use serde::{Deserialize, Serialize};

use super::cases::name;
use super::machine::Machine;
use super::roofline::{Bound, Work};
use super::timing::Timing;

/// One measurement of a kernel or a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// "conv2d", or "stage".
    pub(super) kernel: String,
    /// The step of the ladder, or the name of the stage.
    pub(super) rung: String,
    /// Of its products.
    #[serde(with = "precision", default)]
    pub(super) precision: Precisions,
    pub(super) isa: String,
    /// The layer, in words.
    pub(super) shape: String,
    /// Threads that it was given.
    pub(super) threads: usize,
    /// How often a UNet step or a decoded picture contains the layer.
    pub(super) count: usize,
    /// Multiplications and additions, of a product once, also where [`Precision::Bf16x3`] makes
    /// three of it; 0 where time goes into reading and writing, or the number is not known.
    pub(super) flops: f64,
    /// Of all inputs and outputs; 0 if not known.
    pub(super) bytes: f64,
    #[serde(flatten)]
    pub(super) timing: Timing,
}

impl Row {
    /// Under which filters and comparisons know it; see [`name`](name()).
    pub(super) fn name(&self) -> String {
        name(&self.kernel, &self.rung, self.precision, &self.isa, &self.shape)
    }

    pub(super) fn flops_per_second(&self) -> f64 {
        self.flops / self.timing.seconds
    }

    pub(super) fn work(&self) -> Work {
        Work { flops: self.flops, bytes: self.bytes }
    }

    /// The share of the machine's arithmetic that is used, if the kernel is about arithmetic.
    pub(super) fn share_of_peak(&self, machine: &Machine) -> Option<f64> {
        let peak = machine.peak(&self.isa, self.threads)?;
        (self.flops > 0.0).then(|| self.flops_per_second() / peak)
    }

    /// What the roofline allows, if the work is known.
    pub(super) fn bound(&self, machine: &Machine) -> Option<Bound> {
        if self.bytes == 0.0 {
            return None;
        }
        let products = if self.precision.products() == Precision::Bf16x3 { 3.0 } else { 1.0 };
        let work = Work { flops: products * self.flops, ..self.work() };
        work.bound(machine, &self.isa, self.threads)
    }

    /// What follows a line if other programs took too much of the cores.
    fn mark(&self) -> String {
        match self.timing.is_disturbed() {
            true => format!(" ! {:.0} % of the cores", 100.0 * self.timing.cpu_share),
            false => String::new(),
        }
    }

    /// A line of the table.
    pub(super) fn line(&self, machine: &Machine) -> String {
        let Timing { seconds, minimum, cpu_seconds, dropped, .. } = self.timing;
        let number = |x: f64, digits: usize| if x > 0.0 { format!("{x:.digits$}") } else { String::new() };
        let percent =
            |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
        let bound = self.bound(machine);
        format!(
            "{:14} {:14} {:6} {:11} {:26} {:>9.3} {:>9.3} ±{:<4.1}% {:>4} {:>5.2} {:>9} {:>8} {:>6} {:>6} {}",
            self.kernel,
            self.rung,
            self.precision.name(),
            self.isa,
            self.shape,
            1e3 * minimum,
            1e3 * seconds,
            100.0 * self.timing.spread(),
            dropped,
            cpu_seconds / seconds,
            number(self.flops_per_second() / 1e9, 1),
            number(self.bytes / seconds / 1e9, 1),
            percent(self.share_of_peak(machine)),
            percent(bound.as_ref().map(|bound| bound.seconds / seconds)),
            bound.map_or(String::new(), |bound| bound.limit),
        )
        .trim_end()
        .to_owned()
            + &self.mark()
    }
}

/// The heads of the table's columns. "ms" is the median, from which speeds and shares are computed,
/// "bad" the repeats in disturbed moments. "busy" is CPU time over wall time: threads that worked.
/// "roof" is the share of what the roofline allows, "limit" what the roof is there. Of bf16x3,
/// GFLOP/s and peak count the operations of the product once, the roof the three products that it
/// takes.
pub(super) fn head() -> String {
    format!(
        "{:14} {:14} {:6} {:11} {:26} {:>9} {:>9} {:6} {:>4} {:>5} {:>9} {:>8} {:>6} {:>6} {}",
        "kernel",
        "rung",
        "number",
        "isa",
        "shape",
        "least ms",
        "ms",
        "",
        "bad",
        "busy",
        "GFLOP/s",
        "GB/s",
        "peak",
        "roof",
        "limit"
    )
}

/// A precision in JSON: its name. Older reports have none and are of f32.
mod precision {
    use aquatint_model::Precisions;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(precision: &Precisions, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(precision.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Precisions, D::Error> {
        let name = String::deserialize(from)?;
        Precisions::named(&name).ok_or_else(|| D::Error::custom(format!("no precision is called `{name}`")))
    }
}

/// Everything of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// Of aquatint.
    pub(super) version: String,
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// Writes it as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<(), Error> {
        let text = self.to_json()?;
        write_whole(path, text.as_bytes())
    }

    /// It as JSON.
    ///
    /// # Errors
    /// `Run` if a figure is no number.
    pub(super) fn to_json(&self) -> Result<String, Error> {
        let mut text = serde_json::to_string_pretty(self).map_err(Error::run)?;
        text.push('\n');
        Ok(text)
    }

    /// A sentence about rows that say little, if there are some.
    pub(super) fn warning(&self) -> Option<String> {
        let disturbed = self.rows.iter().filter(|row| row.timing.is_disturbed()).count();
        (disturbed > 0).then(|| {
            format!(
                "other programs took more than a tenth of the cores during {disturbed} of {} rows, which are marked with `!` and say little",
                self.rows.len()
            )
        })
    }

    /// Reads what [`Report::save`] wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or is something else.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|error| {
            Error::request(format_args!(
                "cannot read `{}`: {error}; expected a file that --json wrote",
                path.display()
            ))
        })?;
        serde_json::from_str(&text).map_err(|error| {
            Error::request(format_args!("`{}`: {error}; expected a file that --json wrote", path.display()))
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::roofline::tests::machine;
    use super::*;

    /// A row of 2·10¹⁰ operations on 10⁷ bytes.
    pub(in super::super) fn row(shape: &str, seconds: f64, spread: f64) -> Row {
        let timing = Timing {
            seconds,
            minimum: seconds * (1.0 - spread),
            lower_quartile: seconds * (1.0 - spread),
            upper_quartile: seconds * (1.0 + spread),
            cpu_seconds: 2.0 * seconds,
            runs: 5,
            dropped: 0,
            cpu_share: 1.0,
        };
        Row {
            kernel: "conv2d".into(),
            rung: "indirect".into(),
            precision: Precisions::default(),
            isa: "fast".into(),
            shape: shape.into(),
            threads: 2,
            count: 1,
            flops: 2e10,
            bytes: 1e7,
            timing,
        }
    }

    #[test]
    fn json_keeps_everything() {
        let split = Row { precision: Precision::Bf16x3.into(), ..row("3×3", 0.5, 0.25) };
        let report =
            Report { version: "1.2.3".into(), machine: machine(), rows: vec![row("3×3", 0.5, 0.25), split] };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("report.json");
        report.save(&path).expect("writable");
        assert_eq!(Report::open(&path).expect("just written"), report);
    }

    #[test]
    fn rows_of_a_busy_machine_are_marked() {
        let mut busy = row("3×3", 0.5, 0.25);
        busy.timing.cpu_share = 0.45;
        assert!(busy.line(&machine()).ends_with(" compute ! 45 % of the cores"), "{}", busy.line(&machine()));
        let mut report =
            Report { version: "1".into(), machine: machine(), rows: vec![row("3×3", 0.5, 0.25)] };
        assert_eq!(report.warning(), None);
        report.rows.push(busy);
        assert!(report.warning().is_some_and(|warning| warning.contains("during 1 of 2 rows")));
    }

    #[test]
    fn another_file_is_refused_with_a_sentence() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("other.json");
        for text in [None, Some("{}"), Some("no JSON")] {
            if let Some(text) = text {
                fs::write(&path, text).expect("writable");
            }
            let error = Report::open(&path).expect_err("no report");
            assert_eq!(error.kind(), aquatint_model::ErrorKind::Request);
            assert!(error.to_string().contains("expected a file that --json wrote"), "{error}");
        }
    }

    #[test]
    fn a_line_shows_speed_and_shares() {
        // 2·10¹⁰ operations in 0.2 s are 100 GFLOP/s, half of the peak of 200, which is the roof
        // here.
        let line = row("3×3", 0.2, 0.015).line(&machine());
        let words: Vec<&str> = line.split_whitespace().collect();
        let expected = [
            "conv2d", "indirect", "f32", "fast", "3×3", "197.000", "200.000", "±1.5", "%", "0", "2.00",
            "100.0", "0.1", "50", "%", "50", "%", "compute",
        ];
        assert_eq!(words, expected);
        let copy = Row { flops: 0.0, ..row("copy", 0.002, 0.0) };
        let line = copy.line(&machine());
        let words: Vec<&str> = line.split_whitespace().skip(5).collect();
        assert_eq!(words, ["2.000", "2.000", "±0.0", "%", "0", "2.00", "5.0", "50", "%", "memory"]);
        // The roof knows that three products are needed.
        let split = Row { precision: Precision::Bf16x3.into(), ..row("3×3", 0.4, 0.0) };
        assert_eq!(
            (split.name().as_str(), split.share_of_peak(&machine())),
            ("conv2d/indirect/bf16x3/fast 3×3", Some(0.25))
        );
        assert_eq!(split.bound(&machine()).expect("it was measured").seconds, 0.3);
    }

    #[test]
    fn reports_from_before_there_were_precisions_are_of_f32() {
        let report =
            Report { version: "1.2.3".into(), machine: machine(), rows: vec![row("3×3", 0.5, 0.25)] };
        let text = serde_json::to_string(&report).expect("numbers and names");
        let old = text.replace("\"precision\":\"f32\",", "");
        assert!(old.len() < text.len());
        assert_eq!(serde_json::from_str::<Report>(&old).expect("an old report"), report);
        let odd = text.replace("\"precision\":\"f32\"", "\"precision\":\"fp8\"");
        assert!(serde_json::from_str::<Report>(&odd).is_err());
    }
}
