//! `aquatint bench`, with so little time that its figures mean nothing: none is looked at.

use std::fs;

use aquatint_kernels::Isa;
use aquatint_model::Precisions;

use crate::{aquatint, refused, with_model};

/// Arguments after which every measurement is as short as it can be.
const QUICK: [&str; 3] = ["bench", "--seconds", "0.000001"];

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    QUICK.iter().chain(more).copied().collect()
}

/// What the program that is tested computes with.
fn chosen() -> Isa {
    Isa::from_env().expect("a name, or none")
}

/// Whether bf16 is more than a stand-in there.
fn has_unit() -> bool {
    chosen() != chosen().for_f32()
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
    // One in f32 and, if the CPU has a unit for them, the two in bf16.
    let dots = if has_unit() { 3 } else { 1 };
    assert_eq!(svg.matches("<circle").count(), dots);

    let text = fs::read_to_string(folder.path().join("a.json")).expect("it was written");
    for key in [
        "\"version\"",
        "\"cpu\"",
        "\"lower_quartile\"",
        "\"cpu_seconds\"",
        "\"precision\": \"f32\"",
        "\"154×768→320\"",
    ] {
        assert!(text.contains(key), "{key}: {text}");
    }
    let again = aquatint(folder.path(), &quick(&["gemm 154×768→320", "--compare", "a.json", "-t", "2"]));
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(
        again.stdout.contains("gemm/blocked/")
            && (again.stdout.contains(" the same\n") || again.stdout.contains(" without a verdict\n")),
        "{}",
        again.stdout
    );
}

#[test]
fn each_precision_is_a_row_that_filters_and_comparisons_tell_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let measured = |precision: &str| {
        let words = ["gemm", precision, "2×320→1280", "--all", "--json", "a.json", "-t", "1"];
        let run = aquatint(folder.path(), &quick(&words));
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout.lines().filter(|line| line.starts_with("gemm ")).map(str::to_owned).collect::<Vec<_>>()
    };
    // On the vectors alone and on each unit.
    let on = Isa::all().iter().filter(|isa| isa.for_f32() == chosen().for_f32()).count();
    for precision in ["/bf16/", "/bf16x3/"] {
        let rows = measured(precision);
        let name = precision.trim_matches('/');
        assert!(rows.len() == on && rows.iter().all(|row| row.contains(&format!(" {name} "))), "{rows:?}");
        let again =
            aquatint(folder.path(), &quick(&["gemm 2×320→1280", "--all", "--compare", "a.json", "-t", "1"]));
        let compared =
            again.stdout.lines().filter(|line| line.contains('→') && line.contains(precision)).count();
        assert_eq!(compared, on, "{}", again.stdout);
        assert!(!again.stdout.contains("gemm/blocked/portable "), "{}", again.stdout);
    }
    assert!(measured("blocked/portable").iter().all(|row| row.contains(" f32 ")));
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
    let auto = Precisions::auto(chosen());
    assert!(run.stdout.contains(&format!("UNet step      {auto} ")), "{}", run.stdout);
    for precision in Precisions::ALL {
        let words = ["-m", "tiny", "stage", "--precision", precision.name()];
        let run = aquatint(folder.path(), &quick(&words));
        assert_eq!(run.code, 0, "{}", run.stderr);
        let text = precision.for_text(chosen()).into();
        for (stage, expected) in [("text encoder", text), ("UNet step", precision), ("VAE decode", precision)]
        {
            let isa = chosen().name_for(expected.products());
            let row = format!("\nstage          {stage:14} {:6} {isa} ", expected.name());
            assert!(run.stdout.contains(&row), "{row}: {}", run.stdout);
        }
    }
}

#[test]
fn what_was_measured_is_kept_if_a_network_cannot_be_loaded() {
    let folder = with_model();
    fs::remove_file(folder.path().join("tiny/vae/diffusion_pytorch_model.safetensors")).expect("it is there");
    let run = aquatint(folder.path(), &quick(&["-m", "tiny", "stage", "--json", "a.json"]));
    assert_eq!(run.code, 3, "{}", run.stderr);
    let text = fs::read_to_string(folder.path().join("a.json")).expect("it was written");
    assert!(text.contains("UNet step") && !text.contains("VAE"), "{text}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("other.json"), "{}").expect("writable");
    let compared = aquatint(folder.path(), &quick(&["gemm", "--compare", "other.json"]));
    refused(&compared, 2, "expected a file that --json wrote");
    for (more, code, message) in [
        (["-m", "nowhere"], 3, "nowhere"),
        (["--steps", "0"], 2, "--steps"),
        (["--json", "none/b.json"], 1, "cannot write `none/b.json`"),
        (["--svg", "none/b.svg"], 1, "cannot write `none/b.svg`"),
    ] {
        refused(&aquatint(folder.path(), &quick(&[&["gemm"], &more[..]].concat())), code, message);
    }
    let run = aquatint(folder.path(), &quick(&["no-such-kernel"]));
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("nothing is called \"no-such-kernel\""), "{}", run.stderr);
}

#[test]
fn a_trace_shows_the_layers_of_a_network_one_by_one_or_by_class() {
    let folder = with_model();
    let run = aquatint(folder.path(), &quick(&["-m", "tiny", "trace"]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    for layer in ["\nUNet step, ", "\nconv 3×3 with residual ", "\nself-attention ", "\nbetween layers "] {
        assert!(run.stdout.contains(layer), "{layer}: {}", run.stdout);
    }
    assert!(!run.stdout.contains("VAE"), "{}", run.stdout);
    let by_class = aquatint(folder.path(), &quick(&["-m", "tiny", "trace", "vae", "decode", "--layers"]));
    assert_eq!(by_class.code, 0, "{}", by_class.stderr);
    assert!(by_class.stdout.contains("\nVAE decode, "), "{}", by_class.stdout);
    assert_eq!(by_class.stdout.matches("\ngroup norm ").count(), 1, "{}", by_class.stdout);
    refused(&aquatint(folder.path(), &quick(&["trace"])), 2, "--model");
    refused(&aquatint(folder.path(), &quick(&["-m", "tiny", "trace", "gemm"])), 2, "no network is called");
}

#[test]
fn another_program_needs_a_python_that_has_it() {
    let folder = with_model();
    let words = ["-m", "tiny", "vae", "decode", "--against", "openvino"];
    refused(&aquatint(folder.path(), &quick(&words)), 2, "--python");
    let nowhere = [&words[..], &["--python", "no/such/python"]].concat();
    refused(&aquatint(folder.path(), &quick(&nowhere)), 2, "expected a Python that has openvino");
    // `false` is there, and ends at once, as a Python without the module does.
    let ends = [&words[..], &["--python", "false"]].concat();
    refused(&aquatint(folder.path(), &quick(&ends)), 2, "ended before the network was ready");
}
