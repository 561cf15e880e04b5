//! `aquatint bench`, with so little time that its figures mean nothing: none is looked at.

use std::fs;

use crate::{aquatint, refused, with_model};

/// Arguments after which every measurement is as short as it can be.
const QUICK: [&str; 3] = ["bench", "--seconds", "0.000001"];

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    QUICK.iter().chain(more).copied().collect()
}

#[test]
fn a_table_a_json_a_drawing_and_a_comparison() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = aquatint(
        folder.path(),
        &quick(&["gemm", "154×768→320", "--json", "a.json", "--svg", "a.svg", "-t", "2"]),
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("\ngemm           blocked "), "{}", run.stdout);
    assert!(
        run.stdout.contains(" threads ") && run.stdout.contains("GB/s") && !run.stdout.contains("conv2d")
    );
    let svg = fs::read_to_string(folder.path().join("a.svg")).expect("it was written");
    assert_eq!(svg.matches("<circle").count(), 1);

    let text = fs::read_to_string(folder.path().join("a.json")).expect("it was written");
    for key in ["\"version\"", "\"cpu\"", "\"lower_quartile\"", "\"cpu_seconds\"", "\"154×768→320\""] {
        assert!(text.contains(key), "{key}: {text}");
    }
    let again = aquatint(folder.path(), &quick(&["gemm 154×768→320", "--compare", "a.json", "-t", "2"]));
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(
        again.stdout.contains("gemm/blocked/") && again.stdout.contains(" the same\n"),
        "{}",
        again.stdout
    );
}

#[test]
fn the_ladder_is_markdown_with_every_instruction_set() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = aquatint(folder.path(), &quick(&["--ladder", "silu"]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let table = run.stdout.split("\n\n").last().expect("split gives at least one part");
    assert!(table.starts_with("| step | idea |") && table.contains(" portable |"), "{}", run.stdout);
    assert!(table.contains("| [`pointwise`] | a vector at a time"), "{}", run.stdout);
}

#[test]
fn stages_of_a_model_are_measured() {
    let folder = with_model();
    let run = aquatint(folder.path(), &quick(&["-m", "tiny", "stage", "--json", "a.json"]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    for stage in ["text encoder", "UNet step", "VAE decode", "VAE encode", "picture"] {
        assert!(run.stdout.contains(&format!("\nstage          {stage} ")), "{stage}: {}", run.stdout);
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("other.json"), "{}").expect("writable");
    let compared = aquatint(folder.path(), &quick(&["gemm", "--compare", "other.json"]));
    refused(&compared, 2, "expected a file that --json wrote");
    let run = aquatint(folder.path(), &quick(&["no-such-kernel"]));
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("nothing is called \"no-such-kernel\""), "{}", run.stderr);
}
