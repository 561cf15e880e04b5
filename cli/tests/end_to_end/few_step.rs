//! Models of few steps and the tiny VAE, as a user meets them.

use std::fs;
use std::path::Path;

use aquatint_model::image::metadata;
use tempfile::TempDir;

use crate::{Run, aquatint, refused, with_model};

/// Rows of pixels of the caption under each picture of a strip.
const CAPTION: u32 = 12;

/// The tiny model with the scheduler of SD-Turbo.
fn with_turbo() -> TempDir {
    let folder = with_model();
    let scheduler = r#"{"_class_name": "EulerDiscreteScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012, "num_train_timesteps": 1000, "prediction_type": "epsilon", "timestep_spacing": "trailing"}"#;
    fs::write(folder.path().join("tiny/scheduler/scheduler_config.json"), scheduler).expect("writable");
    folder
}

/// The tiny VAE of the goldens.
fn taesd() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/tiny_vae/vae");
    path.to_str().expect("a path of text").to_owned()
}

fn fox(folder: &TempDir, more: &[&str]) -> Run {
    let small = ["-m", "tiny", "a fox", "-s", "7", "-W", "64", "-H", "64", "-o", "fox.png", "--force"];
    aquatint(folder.path(), &[&small[..], more].concat())
}

#[track_caller]
fn text(folder: &TempDir) -> String {
    let picture = folder.path().join("fox.png");
    metadata::read(&picture).expect("a picture").expect("it says how it was made")
}

#[test]
fn a_newcomer_needs_no_flags() {
    let folder = with_turbo();
    let run = aquatint(folder.path(), &["-m", "tiny", "a fox", "-s", "7", "-o", "fox.png"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = "preset sd-turbo, recognised by the scheduler's class and its trailing timesteps: 1 step, no guidance, \
                sampler Euler, schedule trailing; flags count more";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    assert!(text(&folder).contains("Steps: 1, Sampler: Euler, Schedule type: Trailing, CFG scale: 1,"));
    let run = aquatint(folder.path(), &["verify", "-m", "tiny", "fox.png"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{}", run.stderr);
}

#[test]
fn flags_count_more_than_presets() {
    let folder = with_turbo();
    let run = fox(&folder, &["--steps", "2", "--sampler", "heun"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(text(&folder).contains("Steps: 2, Sampler: Heun, Schedule type: Automatic, CFG scale: 1,"));
    let run = fox(&folder, &["--preset", "lcm-lora", "--cfg-scale", "1.5"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("preset lcm-lora: 4 steps, no guidance, sampler LCM"), "{}", run.stderr);
    assert!(text(&folder).contains("Steps: 4, Sampler: LCM, Schedule type: Automatic, CFG scale: 1.5,"));
    let run = fox(&folder, &["--preset", "none", "--steps", "3"]);
    assert!(run.code == 0 && !run.stderr.contains("preset"), "{}", run.stderr);
    assert!(text(&folder).contains("Steps: 3, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.5,"));
    refused(&fox(&folder, &["--preset", "fast"]), 2, "unknown preset `fast`; known are sdxs, ");
}

#[test]
fn presets_are_listed_with_their_sources() {
    let run = aquatint(Path::new("."), &["presets"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for part in
        ["\nsd-turbo\n", "arXiv:2311.17042", "\nhyper-sd\n", "4 steps, no guidance, sampler TCD, eta 0.3"]
    {
        assert!(run.stdout.contains(part), "expected \"{part}\" in: {}", run.stdout);
    }
}

#[test]
fn the_tiny_vae_takes_the_place_of_the_models() {
    let folder = with_model();
    let (taesd, quick) = (taesd(), ["--steps", "2"]);
    let with = |more: &[&str]| fox(&folder, &[&quick[..], &["--taesd", &taesd], more].concat());
    let run = with(&["--save-steps", "1", "--preview", "taesd"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(text(&folder).contains(", Model: tiny, VAE: vae, "), "{}", text(&folder));
    let ours = image::open(folder.path().join("fox.png")).expect("a picture").into_rgb8();
    let strip = image::open(folder.path().join("fox-steps.png")).expect("a strip").into_rgb8();
    assert_eq!(strip.dimensions(), (2 * ours.width(), 2 * (ours.height() + CAPTION)));

    let verify =
        |more: &[&str]| aquatint(folder.path(), &[&["verify", "-m", "tiny", "fox.png"], more].concat());
    let run = verify(&["--taesd", &taesd]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{}", run.stderr);
    let run = verify(&[]);
    assert!(run.code == 1 && run.stderr.contains("made with the VAE `vae`"), "{}", run.stderr);

    let run = with(&["--taesd-preview-only", "--save-steps", "1", "--preview", "taesd"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(!text(&folder).contains("VAE"), "{}", text(&folder));
    let theirs = image::open(folder.path().join("fox.png")).expect("a picture").into_rgb8();
    assert!(theirs != ours, "the picture is the other VAE's");

    refused(&with(&["--vae", "tiny"]), 2, "--taesd-preview-only");
    let run = fox(&folder, &["--save-steps", "1", "--preview", "taesd"]);
    refused(&run, 2, "--preview taesd needs a tiny VAE");
}

#[test]
fn every_command_takes_the_tiny_vae() {
    let folder = with_model();
    let (taesd, path) = (taesd(), folder.path());
    assert_eq!(fox(&folder, &["--steps", "1"]).code, 0);
    for command in [
        &["encode", "-m", "tiny", "-i", "fox.png", "-o", "fox.safetensors"][..],
        &["decode", "-m", "tiny", "fox.safetensors", "-o", "again.png"],
        &["noise", "-m", "tiny", "-i", "fox.png", "-o", "noise.png"],
        &["img2img", "-m", "tiny", "-i", "fox.png", "a dog", "--steps", "2", "-o", "dog.png"],
        &["inspect", "tiny"],
        &["convert", "tiny", "one"],
    ] {
        let run = aquatint(path, &[command, &["--taesd", &taesd]].concat());
        assert_eq!(run.code, 0, "{command:?}: {}", run.stderr);
    }
    let index = fs::read_to_string(path.join("one/model_index.json")).expect("it was written");
    assert!(index.contains("AutoencoderTiny"), "{index}");
    let run =
        aquatint(path, &["-m", "one", "a fox", "--steps", "1", "-W", "64", "-H", "64", "-o", "one.png"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
}
