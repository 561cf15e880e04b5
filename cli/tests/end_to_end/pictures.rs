//! Pictures from text: results on stdout, exit codes, files that are kept, errors that say what to
//! do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{aquatint, aquatint_with, refused, with_model};

/// Arguments of a small, quick picture, followed by `more`.
fn picture<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let quick = ["txt2img", "-m", "tiny", "-p", "a fox", "-s", "7", "--steps", "2", "-W", "64", "-H", "32"];
    quick.iter().chain(more).copied().collect()
}

#[test]
fn a_picture_is_made_and_its_path_and_seed_are_printed() {
    let folder = with_model();
    let run = aquatint(folder.path(), &picture(&["-o", "fox.png", "-v"]));
    assert_eq!((run.code, run.stdout.as_str()), (0, "fox.png\n"), "{}", run.stderr);
    for part in ["seed 7", "64×32", "step 0/2\n", "step 2/2 in ", "left", "decoding", "done in "] {
        assert!(run.stderr.contains(part), "expected \"{part}\" in: {}", run.stderr);
    }
    let picture = image::open(folder.path().join("fox.png")).expect("a valid PNG").into_rgb8();
    assert_eq!(picture.dimensions(), (64, 32));
}

#[test]
fn a_quick_picture_is_made_with_few_words_or_none() {
    let folder = with_model();
    let run = aquatint(folder.path(), &picture(&["-o", "fox.png", "--steps", "8"]));
    assert_eq!(run.code, 0, "{}", run.stderr);
    // A slow machine may take some seconds; it gets one line in each.
    let (lines, steps) = (run.stderr.lines().count(), run.stderr.matches("step ").count());
    assert!(lines < 12 && steps < 8, "{}", run.stderr);
    let run = aquatint(folder.path(), &picture(&["-q", "-o", "quiet.png"]));
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "quiet.png\n", ""));
}

#[test]
fn the_picture_depends_on_the_seed_and_not_on_the_threads() {
    let folder = with_model();
    let bytes = |seed: &str, threads: &str| {
        let run =
            aquatint(folder.path(), &picture(&["-s", seed, "-t", threads, "-o", "p.png", "--force"])[..]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        fs::read(folder.path().join("p.png")).expect("it was written")
    };
    let one = bytes("3", "1");
    assert!(["2", "5"].iter().all(|threads| bytes("3", threads) == one));
    assert!(bytes("4", "2") != one);
}

#[test]
fn without_flags_the_size_is_the_models_own_and_the_name_has_the_seed() {
    let folder = with_model();
    let run = aquatint(folder.path(), &["txt2img", "-m", "tiny", "a fox", "--seed", "-1", "--steps", "1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let name = run.stdout.trim_end();
    let seed = name.strip_prefix("aquatint-").and_then(|name| name.strip_suffix(".png"));
    let seed: u32 = seed.expect("the seed is in the name").parse().expect("it is a number");
    assert!(run.stderr.contains(&format!("seed {seed}, 128×128")), "{}", run.stderr);
    assert!(folder.path().join(name).is_file());
}

#[test]
fn an_existing_picture_is_kept() {
    let folder = with_model();
    fs::write(folder.path().join("fox.png"), b"mine").expect("writable");
    let run = aquatint(folder.path(), &picture(&["-o", "fox.png"]));
    assert_eq!((run.code, run.stdout.as_str()), (0, "fox-1.png\n"), "{}", run.stderr);
    assert_eq!(fs::read(folder.path().join("fox.png")).expect("it is still there"), b"mine");
}

#[test]
fn names_of_samplers_are_those_of_every_family() {
    let folder = with_model();
    for name in ["euler_a", "Euler a", "DPM++ 2M Karras", "PLMS", "DDIMScheduler"] {
        let run = aquatint(folder.path(), &picture(&["--sampler", name, "-o", "p.png", "--force"]));
        assert_eq!(run.code, 0, "{name}: {}", run.stderr);
    }
    let run = aquatint(folder.path(), &picture(&["--sampling-method", "euler", "--scheduler", "karras"]));
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn requests_that_cannot_be_met_exit_with_2() {
    let folder = with_model();
    let run = |more: &[&str]| aquatint(folder.path(), &picture(more));
    refused(&run(&["--width", "100"]), 2, "multiple of 8: the nearest are 96 and 104");
    refused(&run(&["--height", "0"]), 2, "height is 0");
    refused(&run(&["--steps", "0"]), 2, "steps");
    refused(&run(&["--cfg-scale", "nan"]), 2, "guidance scale is NaN");
    refused(&run(&["--sampler", "dpm4"]), 2, "unknown sampler `dpm4`; known are");
    refused(&run(&["--schedule", "cosine"]), 2, "unknown schedule `cosine`");
    refused(&run(&["--sampler", "ddim", "--schedule", "karras"]), 2, "no schedule `karras`");
    refused(&run(&["--seed", "x"]), 2, "expected a whole number");
    refused(&run(&["--threads", "0"]), 2, "--threads");
    refused(&run(&["-o", "fox.gif"]), 2, "ending in .png");
    refused(&run(&["--no-such-flag"]), 2, "--no-such-flag");
    let run = |isa| aquatint_with(folder.path(), &picture(&[]), &[("AQUATINT_ISA", isa)]);
    refused(&run("avx1024"), 2, "no instruction set is called `avx1024`");
}

#[test]
fn models_that_cannot_be_loaded_exit_with_3() {
    let folder = with_model();
    let with = |model| aquatint(folder.path(), &["txt2img", "-m", model, "-p", "a fox"]);
    refused(&with("nowhere"), 3, "there is no file or folder `nowhere`, and no model of this name");

    let weights = folder.path().join("tiny/unet/diffusion_pytorch_model.safetensors");
    let whole = fs::read(&weights).expect("the model was written");
    fs::write(&weights, &whole[..whole.len() / 2]).expect("writable");
    refused(&with("tiny"), 3, "not a valid safetensors file");
    fs::remove_file(&weights).expect("it exists");
    refused(&with("tiny"), 3, "no weights: expected `diffusion_pytorch_model.safetensors`");
    fs::remove_dir_all(folder.path().join("tiny/unet")).expect("it exists");
    refused(&with("tiny"), 3, "the component `unet` is missing");
}

#[test]
fn an_output_that_cannot_be_written_is_found_before_the_work() {
    let folder = with_model();
    let run = aquatint(folder.path(), &picture(&["-o", "none/fox.png"]));
    refused(&run, 1, "cannot write `none/fox.png`");
    assert!(!run.stderr.contains("step"), "work had begun: {}", run.stderr);
}

#[test]
fn inspect_says_what_is_there_and_what_is_missing() {
    let folder = with_model();
    let run = aquatint(folder.path(), &["inspect", "tiny"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    for part in ["StableDiffusionPipeline", "UNet2DConditionModel", "F16", "sampler DDIM", "49408 tokens"] {
        assert!(run.stdout.contains(part), "expected \"{part}\" in: {}", run.stdout);
    }
    let file = "tiny/vae/diffusion_pytorch_model.safetensors";
    let run = aquatint(folder.path(), &["inspect", file]);
    assert!(run.code == 0 && run.stdout.contains("weights of a VAE"), "{}", run.stderr);

    // A config that asks for a level more than the weights have.
    let config: PathBuf = folder.path().join("tiny/unet/config.json");
    let text = fs::read_to_string(&config)
        .expect("it was written")
        .replace("\"layers_per_block\": 1", "\"layers_per_block\": 2");
    fs::write(&config, text).expect("writable");
    let run = aquatint(folder.path(), &["inspect", "tiny"]);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("tensor `down_blocks.0.resnets.1.conv1.weight`"), "{}", run.stderr);
    assert!(run.stderr.contains("is missing"), "{}", run.stderr);
    refused(&aquatint(folder.path(), &["inspect", "nowhere"]), 3, "nowhere");
}

#[test]
fn random_model_never_writes_into_a_folder_that_is_used() {
    let folder = with_model();
    refused(&aquatint(folder.path(), &["random-model", "tiny"]), 2, "expected a new or empty folder");
    refused(
        &aquatint(folder.path(), &["random-model", "--arch", "sd9", "x"]),
        2,
        "known are sd15, sd21, tiny, sd-turbo, sdxs, ",
    );
}

#[cfg(unix)]
#[test]
fn a_random_model_that_is_interrupted_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let command = command.current_dir(folder.path()).args(["random-model", "--arch", "sd15", "big"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    assert!(stderr.next().is_some_and(|line| line.is_ok_and(|line| line.starts_with("text_encoder"))));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "the folder that is filled");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(kill.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
}
