//! Checkpoints, interruptions, strips, several pictures: what happens around a walk.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aquatint_kernels::Precision;
use aquatint_model::{Footprint, LoadOptions, TextToImage};
use tempfile::TempDir;

use crate::{Run, aquatint, aquatint_with, refused, with_model};

/// A small picture of 6 steps.
fn picture(folder: &TempDir, more: &[&str]) -> Run {
    let quick = ["txt2img", "-m", "tiny", "-p", "a fox", "-s", "7", "-W", "64", "-H", "32", "--steps", "6"];
    aquatint(folder.path(), &[&quick[..], more].concat())
}

#[track_caller]
fn made(run: Run) -> String {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stdout
}

fn bytes(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Starts a long walk, and sends it SIGINT when its checkpoint says that it has begun.
#[cfg(unix)]
fn interrupted(folder: &TempDir, more: &[&str]) -> (i32, String, String) {
    let checkpoint = folder.path().join("walk.safetensors");
    let long = ["txt2img", "-m", "tiny", "-p", "a fox", "-s", "7", "--steps", "900", "--sampler", "ddpm"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let command = command.current_dir(folder.path()).args(long).args(more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let patience = Instant::now() + Duration::from_secs(60);
    while !checkpoint.exists() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(checkpoint.exists(), "no checkpoint came");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(kill.success());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().expect("it ended by itself"), text(output.stdout), text(output.stderr))
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_a_checkpoint_and_the_partial_picture() {
    let folder = with_model();
    let more =
        ["-W", "64", "-H", "64", "--checkpoint", "walk.safetensors", "--save-partial", "-o", "fox.png"];
    let (code, stdout, stderr) = interrupted(&folder, &more);
    assert_eq!((code, stdout.as_str()), (130, "fox-partial.png\n"), "{stderr}");
    assert!(!folder.path().join("fox.png").exists(), "only a whole picture has the name");
    let text =
        aquatint_model::image::metadata::read(&folder.path().join("fox-partial.png")).expect("a picture");
    assert!(text.expect("it has a text").contains("Stopped after: "));
    let verified = aquatint(folder.path(), &["verify", "fox-partial.png", "-m", "tiny"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, "equal\n"), "{}", verified.stderr);
    let names: Vec<_> =
        fs::read_dir(folder.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().ends_with(".part")), "{names:?}");
    let resumed =
        aquatint_model::RunCheckpoint::open(folder.path().join("walk.safetensors")).expect("a whole file");
    assert!((1..900).contains(&resumed.steps().0));
}

/// Without anything to save of a walk the end comes at once; what was finished is kept, and nothing
/// is left half.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_finished_pictures() {
    let folder = with_model();
    let line = [
        "txt2img", "-m", "tiny", "-p", "a fox", "-s", "7", "-W", "64", "-H", "64", "--steps", "2", "-b",
        "5000",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let command = command.current_dir(folder.path()).args(line).args(["-o", "{seed}.png"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.path().join("8.png").exists() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(5));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(kill.success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.lines().count() >= 2 && stdout.lines().count() < 5000, "{stdout}");
    for name in stdout.lines() {
        image::open(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let files = fs::read_dir(folder.path()).expect("readable").count();
    assert_eq!(files, stdout.lines().count() + 1, "the model, and the pictures that were printed");
}

/// Of three pictures the second is broken off: the first is there already, the third follows.
#[test]
fn a_batch_goes_on_with_the_picture_that_was_broken_off() {
    let folder = with_model();
    let several = ["-b", "3", "--sampler", "ddim"];
    made(picture(&folder, &[&several[..], &["-o", "{seed}.png"]].concat()));
    made(picture(
        &folder,
        &["-s", "8", "--sampler", "ddim", "--checkpoint", "walk.safetensors", "-o", "x.png"],
    ));
    let more = [&several[..], &["--resume", "walk.safetensors", "-o", "again-{seed}.png"]].concat();
    assert_eq!(made(picture(&folder, &more)), "again-8.png\nagain-9.png\n");
    for seed in [8, 9] {
        assert_eq!(bytes(&folder, &format!("again-{seed}.png")), bytes(&folder, &format!("{seed}.png")));
    }
}

#[test]
fn a_walk_goes_on_to_the_same_file() {
    let folder = with_model();
    made(picture(&folder, &["-o", "whole.png", "--sampler", "plms", "--checkpoint", "walk.safetensors"]));
    // The settings come with the checkpoint; the finished walk needs no step of the UNet.
    let line = ["txt2img", "-m", "tiny", "--resume", "walk.safetensors", "-o", "again.png"];
    let run = aquatint(folder.path(), &line);
    assert!(run.stderr.contains("resuming after step 7/7"), "{}", run.stderr);
    assert_eq!(made(run), "again.png\n");
    assert_eq!(bytes(&folder, "again.png"), bytes(&folder, "whole.png"));

    let other = [&line[..], &["-s", "8"]].concat();
    refused(&aquatint(folder.path(), &other), 2, "Seed: 7 instead of 8");
    fs::write(folder.path().join("walk.safetensors"), b"nonsense").expect("writable");
    refused(&aquatint(folder.path(), &line), 2, "`walk.safetensors` is no checkpoint that can be used");
    let run = picture(&folder, &["--checkpoint", "none/walk.safetensors"]);
    refused(&run, 1, "cannot write `none/walk.safetensors`");
    assert!(!run.stderr.contains("computing with"), "{}", run.stderr);
}

#[test]
fn a_checkpoint_replaces_a_checkpoint_and_nothing_else() {
    let folder = with_model();
    fs::write(folder.path().join("precious.png"), b"mine").expect("writable");
    let run = picture(&folder, &["--checkpoint", "precious.png", "-o", "fox.png"]);
    refused(&run, 2, "`precious.png` exists and is no checkpoint");
    assert_eq!(bytes(&folder, "precious.png"), b"mine");
    for seed in ["7", "8"] {
        made(picture(&folder, &["-s", seed, "--checkpoint", "walk.safetensors", "-o", "fox.png"]));
    }
}

#[test]
fn pictures_of_a_batch_have_seeds_in_a_row_and_are_the_same_together() {
    let folder = with_model();
    let paths = made(picture(&folder, &["-b", "3", "-o", "alone-{seed}.png"]));
    assert_eq!(paths, "alone-7.png\nalone-8.png\nalone-9.png\n");
    made(picture(&folder, &["-b", "3", "--batch-size", "2", "-o", "together-{seed}.png"]));
    made(picture(&folder, &["-s", "9", "-o", "third.png"]));
    for seed in [7, 8, 9] {
        assert_eq!(
            bytes(&folder, &format!("together-{seed}.png")),
            bytes(&folder, &format!("alone-{seed}.png"))
        );
    }
    assert_eq!(bytes(&folder, "third.png"), bytes(&folder, "alone-9.png"));
    let paths = made(picture(&folder, &["-b", "2", "-o", "fox.png", "--force"]));
    assert_eq!(paths, "fox.png\nfox-1.png\n", "they do not replace each other");
    refused(&picture(&folder, &["-b", "2", "-o", "-"]), 2, "stdout takes one picture");
    refused(&picture(&folder, &["-b", "0"]), 2, "--batch-count");
}

#[test]
fn steps_are_shown_in_a_strip() {
    let folder = with_model();
    for preview in ["linear", "vae"] {
        let size = (64, 32 + 12); // a caption above
        let paths =
            made(picture(&folder, &["--save-steps", "2", "--preview", preview, "-o", "fox.png", "--force"]));
        assert_eq!(paths, "fox.png\nfox-steps.png\n");
        let strip = image::open(folder.path().join("fox-steps.png")).expect("a picture").into_rgb8();
        assert_eq!(strip.dimensions(), (3 * size.0, 2 * size.1), "three steps, guess and input: {preview}");
    }
    refused(&picture(&folder, &["--preview", "vae"]), 2, "--save-steps");
}

#[test]
fn eta_and_sigmas_change_the_picture_and_are_stored() {
    let folder = with_model();
    made(picture(&folder, &["--sampler", "ddim", "-o", "ddim.png"]));
    made(picture(&folder, &["--sampler", "ddim", "--eta", "0.5", "-o", "eta.png"]));
    assert_ne!(bytes(&folder, "ddim.png"), bytes(&folder, "eta.png"));
    let levels =
        ["txt2img", "-m", "tiny", "-p", "a fox", "-s", "7", "-W", "64", "-H", "32", "--sampler", "euler"];
    made(aquatint(folder.path(), &[&levels[..], &["--sigmas", "14.6,3.5,0.5,0", "-o", "own.png"]].concat()));
    for (name, part) in
        [("eta.png", "Eta: 0.5"), ("own.png", "Steps: 3, "), ("own.png", "Sigmas: \"14.6, 3.5, 0.5, 0\"")]
    {
        let text = aquatint_model::image::metadata::read(&folder.path().join(name)).expect("a picture");
        assert!(text.as_ref().is_some_and(|text| text.contains(part)), "{part} in {text:?}");
        let run = aquatint(folder.path(), &["verify", name, "-m", "tiny"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{}", run.stderr);
    }
    refused(&picture(&folder, &["--sampler", "euler", "--eta", "0.5"]), 2, "the sampler `Euler` has no eta");
    refused(&picture(&folder, &["--sampler", "ddim", "--eta", "2"]), 2, "expected 0 to 1");
    let sigmas = |sampler, list| {
        aquatint(folder.path(), &["txt2img", "-m", "tiny", "-p", "x", "--sampler", sampler, "--sigmas", list])
    };
    refused(&sigmas("euler", "1,2,3"), 2, "expected falling numbers");
    refused(&sigmas("ddim", "3,2,1"), 2, "has no schedule `given`");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let folder = with_model();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let full = fs::File::create("/dev/full").expect("Linux has it");
    let arguments =
        ["txt2img", "-m", "tiny", "-p", "a fox", "-W", "64", "-H", "32", "--steps", "1", "-o", "-"];
    let output = command.current_dir(folder.path()).args(arguments).stdout(full).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot write `-`") && !stderr.contains("panicked"), "{stderr}");
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "the model and nothing else");
}

#[test]
fn what_does_not_fit_into_memory_is_refused_before_the_model_is_loaded() {
    let folder = with_model();
    let with = |memory: &str, more: &[&str]| {
        let arguments =
            [&["txt2img", "-m", "tiny", "-p", "a fox", "--steps", "1", "--precision", "f32"][..], more]
                .concat();
        aquatint_with(folder.path(), &arguments, &[("AQUATINT_MEMORY", memory)])
    };
    let run = with("2000000000", &["-W", "4096", "-H", "4096"]);
    refused(&run, 2, "a picture of 4096×4096: about");
    assert!(run.stderr.contains("2.0 GB are free; choose a smaller size, "), "{}", run.stderr);
    assert!(!run.stderr.contains("computing with"), "{}", run.stderr);
    // The size that was advised is taken.
    let advised = run.stderr.split("smaller size, ").nth(1).and_then(|rest| rest.split(' ').next());
    let (width, height) = advised.and_then(|size| size.split_once('×')).expect("a size");
    let memory = footprint(folder.path(), Precision::F32);
    let request = TextToImage {
        width: width.parse().expect("a number"),
        height: height.parse().expect("a number"),
        ..memory.defaults.clone()
    };
    assert!(memory.bytes(&request, 1) <= 2_000_000_000);
    refused(&with("1000", &[]), 2, "the weights alone are");
    refused(
        &with("50000000", &["-W", "64", "-H", "64", "--batch-size", "64", "-b", "64"]),
        2,
        "smaller --batch-size",
    );
    // Of a single picture there are no 64 together.
    assert_eq!(with("50000000", &["-W", "64", "-H", "64", "--batch-size", "64"]).code, 0);
    refused(&with("much", &[]), 2, "expected a number of bytes");
    assert_eq!(with("2000000000", &["-W", "64", "-H", "64"]).code, 0);
}

#[test]
fn every_command_with_a_model_asks_for_memory() {
    let folder = with_model();
    made(picture(&folder, &["-o", "fox.png", "-W", "256", "-H", "256", "--steps", "1"]));
    made(aquatint(folder.path(), &["encode", "-m", "tiny", "-i", "fox.png", "-o", "l.safetensors"]));
    for line in [
        &["encode", "-i", "fox.png"][..],
        &["decode", "l.safetensors"],
        &["noise", "-i", "fox.png"],
        &["demo"],
        &["verify", "fox.png"],
    ] {
        let line = [line, &["-m", "tiny"]].concat();
        let run = aquatint_with(folder.path(), &line, &[("AQUATINT_MEMORY", "1000")]);
        refused(&run, 2, "of memory would be needed, and 0 MB are free");
        assert!(!run.stderr.contains("computing with"), "{}", run.stderr);
    }
}

/// That of the model `tiny` for a single picture.
fn footprint(folder: &Path, precision: Precision) -> Footprint {
    let options = LoadOptions { precision: precision.into(), keep: false, ..LoadOptions::default() };
    Footprint::of(folder.join("tiny"), &options).expect("a model")
}

#[test]
fn weights_in_two_parts_need_more_memory() {
    let folder = with_model();
    // Not bf16, in which a tile unit takes the text encoder's weights in two parts as well.
    let memory = footprint(folder.path(), Precision::F32);
    let request = TextToImage { width: 64, height: 64, ..memory.defaults.clone() };
    let enough = memory.bytes(&request, 1).to_string();
    let with = |precision: &str| {
        let small = ["txt2img", "-m", "tiny", "-p", "a fox", "--steps", "1", "-W", "64", "-H", "64"];
        let arguments = [&small[..], &["--precision", precision]].concat();
        aquatint_with(folder.path(), &arguments, &[("AQUATINT_MEMORY", &enough)])
    };
    let run = with("f32");
    assert_eq!(run.code, 0, "{}", run.stderr);
    refused(&with("bf16x3"), 2, "a picture of 64×64: about");
}
