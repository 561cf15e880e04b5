//! Stable Diffusion XL as a user has it: its own flags, the refiner, metadata, resuming,
//! converting.

use std::fs;
use std::path::{Path, PathBuf};

use aquatint_model::image::metadata::png;
use tempfile::TempDir;

use crate::{aquatint, refused};

/// A folder with the small models `base` and `refiner`, which differ in their UNet and their index.
fn with_models() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/xl");
    for name in ["base", "refiner"] {
        let to = folder.path().join(name);
        copy(&goldens.join("base"), &to);
        fs::remove_dir_all(to.join("unet")).expect("just written");
        copy(&goldens.join(name), &to);
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a golden").flatten() {
        let target: PathBuf = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("writable")),
        }
    }
}

const QUICK: [&str; 8] = ["-m", "base", "a fox", "-s", "3", "--steps", "4", "--force"];

#[track_caller]
fn made(folder: &TempDir, more: &[&str]) -> String {
    let run = aquatint(folder.path(), &[&QUICK[..], more].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let name = more.iter().skip_while(|word| **word != "-o").nth(1).expect("an output");
    png::read(&folder.path().join(name)).expect("a valid PNG").expect("it has a text")
}

#[test]
fn sizes_are_written_down_taken_over_and_verified() {
    let folder = with_models();
    let sizes = ["--original-size", "96x64", "--crop-coords", "8,4", "--negative-target-size", "32x32"];
    let text = made(&folder, &[&sizes[..], &["-o", "a.png"]].concat());
    let expected = "Original size: 96x64, Crop coords: 8x4, Negative target size: 32x32, Version";
    assert!(text.contains(expected) && text.contains("CFG scale: 5,"), "{text}");
    let run = aquatint(folder.path(), &["verify", "a.png", "-m", "base"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = aquatint(folder.path(), &["-m", "base", "--from-image", "a.png", "-o", "b.png"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let bytes = |name: &str| fs::read(folder.path().join(name)).expect("it was made");
    assert!(bytes("a.png") == bytes("b.png"));
    made(&folder, &["-o", "c.png"]);
    assert!(bytes("a.png") != bytes("c.png"), "the sizes count");
}

#[test]
fn a_refiner_takes_over_and_is_needed_again() {
    let folder = with_models();
    let text = made(&folder, &["--refiner", "refiner", "--refiner-at", "0.5", "-o", "a.png"]);
    assert!(text.contains(", Refiner: refiner [") && text.contains("], "), "{text}");
    assert!(text.contains("Refiner switch at: 0.5"), "{text}");
    let verify = ["verify", "a.png", "-m", "base"];
    let run = aquatint(folder.path(), &[&verify[..], &["--refiner", "refiner"]].concat());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    refused(&aquatint(folder.path(), &verify), 2, "there is none; give a refiner as well");

    // The outputs of both models are stored: the finished run needs no step of either.
    let refined = ["--refiner", "refiner", "--refiner-at", "0.5"];
    made(&folder, &[&refined[..], &["--checkpoint", "run.safetensors", "-o", "b.png"]].concat());
    let again = ["-m", "base", "--refiner", "refiner", "--resume", "run.safetensors", "-o", "c.png"];
    let run = aquatint(folder.path(), &again);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let bytes = |name: &str| fs::read(folder.path().join(name)).expect("it was made");
    assert!(bytes("a.png") == bytes("b.png") && bytes("a.png") == bytes("c.png"));
}

#[test]
fn proportions_become_a_size() {
    let folder = with_models();
    let text = made(&folder, &["--aspect", "16:9", "-o", "a.png"]);
    assert!(text.contains("Size: 88x48"), "{text}");
    let both = aquatint(folder.path(), &[&QUICK[..], &["--aspect", "1:1", "-W", "64"]].concat());
    assert!(both.code == 2 && both.stderr.contains("--aspect"), "{}", both.stderr);
}

#[test]
fn a_model_is_looked_into_and_converted() {
    let folder = with_models();
    let run = aquatint(folder.path(), &["inspect", "base"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for name in ["text_encoder_2", "tokenizer_2", "StableDiffusionXLPipeline"] {
        assert!(run.stdout.contains(name), "{name}: {}", run.stdout);
    }
    let run = aquatint(folder.path(), &["convert", "base", "base.safetensors"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    made(&folder, &["-o", "a.png"]);
    let one_file =
        ["-m", "base.safetensors", "--config", "base", "a fox", "-s", "3", "--steps", "4", "-o", "b.png"];
    let run = aquatint(folder.path(), &one_file);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let pixels = |name: &str| {
        let image = aquatint_model::ImageFile::open(folder.path().join(name)).expect("a picture").image;
        image.pixels().to_vec()
    };
    assert!(pixels("a.png") == pixels("b.png"));
}
