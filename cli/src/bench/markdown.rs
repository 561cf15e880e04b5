//! `--markdown FILE`: the measurements as a document's tables, such as those of `BENCHMARKS.md`.
//!
//! The document has a section for each machine and in it a table of networks and one of kernels. A
//! run replaces the tables that it measured and keeps all else.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use aquatint_model::Error;
use aquatint_model::whole_file::write_whole;

use super::against::Comparison;
use super::machine::Machine;
use super::report::{Report, Row};
use crate::platform::topology;

/// Writes what was measured beside another program.
///
/// # Errors
/// If the document cannot be read or written.
pub(super) fn write_comparisons(
    path: &Path,
    threads: usize,
    comparisons: &[Comparison],
) -> Result<(), Error> {
    let lines = comparisons.iter().map(|c| {
        format!(
            "| {} | {}, {} | {:.1} | {} | {:.1} | **{:.2}×** |\n",
            c.network,
            c.precision,
            c.isa,
            1e3 * c.here,
            c.peer,
            1e3 * c.there,
            c.there / c.here
        )
    });
    let head = "| network | here | ms | there | ms | here is faster |\n|---|---|---:|---|---:|---:|\n";
    let table = format!("{head}{}", lines.collect::<String>());
    write(path, &title(&topology::cpu_name(), threads), "Networks beside another program", &table)
}

/// Writes the kernels and networks of a report.
///
/// # Errors
/// As [`write_comparisons`].
pub(super) fn write_report(path: &Path, report: &Report, threads: usize) -> Result<(), Error> {
    let title = title(&report.machine.cpu, threads);
    let head = "| kernel | step | numbers | instructions | shape | ms | median | GFLOP/s | of the peak |\n\
                |---|---|---|---|---|---:|---:|---:|---:|\n";
    let (stages, kernels): (Vec<&Row>, Vec<&Row>) = report.rows.iter().partition(|row| row.kernel == "stage");
    for (name, rows) in [("Networks", stages), ("Kernels", kernels)] {
        if !rows.is_empty() {
            let lines: String = rows.iter().map(|row| line(row, &report.machine)).collect();
            write(path, &title, name, &format!("{head}{lines}"))?;
        }
    }
    Ok(())
}

fn line(row: &Row, machine: &Machine) -> String {
    let share = row.share_of_peak(machine).map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
    let speed =
        if row.flops > 0.0 { format!("{:.0}", row.flops / row.timing.minimum / 1e9) } else { String::new() };
    format!(
        "| {} | {} | {} | {} | {} | {:.3} | {:.3} | {speed} | {share} |\n",
        row.kernel,
        row.rung,
        row.precision.name(),
        row.isa,
        row.shape,
        1e3 * row.timing.minimum,
        1e3 * row.timing.seconds,
    )
}

fn title(cpu: &str, threads: usize) -> String {
    format!("{cpu}, {threads} threads")
}

/// Puts a table into the document, with the date, the commit and the command that made it.
fn write(path: &Path, machine: &str, name: &str, table: &str) -> Result<(), Error> {
    let document = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => "# Benchmarks\n".into(),
        Err(error) => return Err(Error::request(format_args!("cannot read `{}`: {error}", path.display()))),
    };
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let command: Vec<String> = std::env::args().skip(1).collect();
    let made = format!(
        "{}, version {}{}: `aquatint {}`",
        &date[..10],
        env!("CARGO_PKG_VERSION"),
        commit().map_or(String::new(), |commit| format!(", commit {commit}")),
        command.join(" ")
    );
    let document = with_section(&document, machine, name, &format!("{made}\n\n{table}"));
    write_whole(path, document.as_bytes())
}

/// The commit of the folder in which one works, if it is one of git's.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.is_empty()).then(|| text.trim().to_owned())
}

/// The document with `body` below the heading `### name` of `## machine`, in place of what was
/// there.
fn with_section(document: &str, machine: &str, name: &str, body: &str) -> String {
    let (chapter, section) = (format!("## {machine}\n"), format!("### {name}\n"));
    let body = format!("{section}\n{}\n", body.trim_end());
    let Some(start) = document.find(&chapter) else {
        return format!("{}\n\n{chapter}\n{body}", document.trim_end());
    };
    let inside = start + chapter.len();
    let end = document[inside..].find("\n## ").map_or(document.len(), |at| inside + at + 1);
    let (before, after) = (&document[..inside], &document[end..]);
    let chapter = &document[inside..end];
    let others = |text: &str| text.trim_matches('\n').to_owned();
    let mut parts = match chapter.find(&section) {
        Some(at) => {
            let rest = chapter[at + section.len()..]
                .find("### ")
                .map_or("", |next| &chapter[at + section.len() + next..]);
            vec![others(&chapter[..at]), others(&body), others(rest)]
        }
        None => vec![others(chapter), others(&body)],
    };
    parts.retain(|part| !part.is_empty());
    let after = if after.is_empty() { String::new() } else { format!("\n{after}") };
    format!("{before}\n{}\n{after}", parts.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_replaced_and_others_kept() {
        let mut document = "# Benchmarks\n\nWhat the columns mean.\n".to_owned();
        for (machine, name, body) in [
            ("A, 2 threads", "Networks", "old"),
            ("A, 2 threads", "Kernels", "k"),
            ("B, 4 threads", "Networks", "b"),
        ] {
            document = with_section(&document, machine, name, body);
        }
        let expected = "# Benchmarks\n\nWhat the columns mean.\n\n## A, 2 threads\n\n### Networks\n\nold\n\n\
                        ### Kernels\n\nk\n\n## B, 4 threads\n\n### Networks\n\nb\n";
        assert_eq!(document, expected);
        let document = with_section(&document, "A, 2 threads", "Networks", "new\n\n");
        assert_eq!(document, expected.replace("old", "new"));
    }

    #[test]
    fn a_document_is_made_and_made_again() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("BENCHMARKS.md");
        let machine = super::super::roofline::tests::machine();
        let rows = vec![super::super::report::tests::row("3×3", 0.2, 0.0)];
        let report = Report { version: "1.2.3".into(), machine, rows };
        write_report(&path, &report, 2).expect("writable");
        let first = fs::read_to_string(&path).expect("just written");
        assert!(first.contains("| conv2d | indirect | f32 | fast | 3×3 | 200.000 |"), "{first}");
        write_report(&path, &report, 2).expect("writable");
        assert_eq!(fs::read_to_string(&path).expect("just written").matches("| conv2d |").count(), 1);
    }
}
