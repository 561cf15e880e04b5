//! Manifests: results as JSON, lines that fail, batches that are run again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use image::RgbImage;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Run, aquatint, aquatint_with, refused, with_model};

/// A folder with the tiny model, a picture and a mask, and this manifest.
fn with_manifest(manifest: &[u8]) -> TempDir {
    let folder = with_model();
    fs::write(folder.path().join("jobs.jsonl"), manifest).expect("writable");
    let photo = RgbImage::from_fn(64, 64, |x, y| image::Rgb([3 * x as u8, 3 * y as u8, 100]));
    photo.save(folder.path().join("photo.png")).expect("writable");
    let mask = RgbImage::from_fn(64, 64, |x, _| image::Rgb([if x < 32 { 255 } else { 0 }; 3]));
    mask.save(folder.path().join("mask.png")).expect("writable");
    folder
}

fn batch(folder: &TempDir, more: &[&str]) -> Run {
    let quick = ["txt2img", "-m", "tiny", "--batch", "jobs.jsonl", "-W", "64", "-H", "64", "--steps", "2"];
    aquatint(folder.path(), &[&quick[..], more].concat())
}

/// Line, status and path of every result.
fn results(run: &Run) -> Vec<(u64, String, String)> {
    let read = |line: &str| {
        let result: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
        (result["job"].as_u64().expect("a line"), text("status"), text("path"))
    };
    run.stdout.lines().map(read).collect()
}

const MANIFEST: &str = r#"{"prompt": "a fox", "seed": 7, "n_iter": 2, "sampler_name": "Euler a", "scheduler": "karras"}
{"prompt": "a bear", "init_images": ["photo.png"], "denoising_strength": 0.6, "cfg_scale": 3}

{"prompt": "an owl", "init_images": ["photo.png"], "mask": "mask.png", "seed": 1, "steps": 3}
"#;

#[test]
fn every_line_becomes_pictures_and_a_second_run_makes_none() {
    let folder = with_manifest(MANIFEST.as_bytes());
    let run = batch(&folder, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let made = results(&run);
    let lines: Vec<_> = made.iter().map(|(line, status, _)| (*line, status.as_str())).collect();
    assert_eq!(lines, [(1, "made"), (1, "made"), (2, "made"), (4, "made")]);
    assert_eq!((made[0].2.as_str(), made[1].2.as_str()), ("1-7.png", "1-8.png"));
    // A line of a manifest is the same as its flags.
    let flags = [
        "txt2img", "-m", "tiny", "-p", "a fox", "-s", "8", "-W", "64", "-H", "64", "--steps", "2", "-o",
        "own.png",
    ];
    let run =
        aquatint(folder.path(), &[&flags[..], &["--sampler", "euler_a", "--schedule", "karras"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let bytes =
        |name: &str| fs::read(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(bytes("own.png"), bytes("1-8.png"));

    let again = batch(&folder, &[]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let expected: Vec<_> =
        made.iter().map(|(line, _, path)| (*line, "skipped".to_owned(), path.clone())).collect();
    assert_eq!(results(&again), expected);
    // One is missing, one is not what the line says.
    fs::remove_file(folder.path().join("1-7.png")).expect("it is there");
    fs::copy(folder.path().join("1-8.png"), folder.path().join("4-1.png")).expect("writable");
    let third = batch(&folder, &[]);
    let status: Vec<_> = results(&third).into_iter().map(|(_, status, path)| (status, path)).collect();
    assert!(status.contains(&("made".into(), "1-7.png".into())), "{status:?}");
    assert!(status.contains(&("made".into(), "4-1-1.png".into())), "{status:?}");
    assert_eq!(status.iter().filter(|(status, _)| status == "skipped").count(), 2);
}

/// What was asked for by a flag, and by a line.
#[test]
fn pictures_are_made_together_as_the_flag_says_where_the_line_is_silent() {
    for (line, walks) in [
        (r#"{"prompt": "a fox", "n_iter": 4}"#, 2),
        (r#"{"prompt": "a fox", "n_iter": 4, "batch_size": 1}"#, 4),
        (r#"{"prompt": "a fox", "batch_size": 3}"#, 1),
    ] {
        let folder = with_manifest(line.as_bytes());
        let run = batch(&folder, &["--batch-size", "2", "-v"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert_eq!(run.stderr.matches("step 0/2").count(), walks, "{line}: {}", run.stderr);
    }
}

#[cfg(unix)]
#[test]
fn a_picture_that_was_interrupted_is_partial_and_has_its_own_name() {
    let folder = with_manifest(br#"{"prompt": "a fox", "seed": 7, "steps": 900, "sampler_name": "ddpm"}"#);
    fs::create_dir(folder.path().join("1")).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let line =
        ["txt2img", "-m", "tiny", "--batch", "jobs.jsonl", "-W", "64", "-H", "64", "--save-partial", "-v"];
    let command = command.current_dir(folder.path()).args(line).args(["-o", "{job}/{seed}.png"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(stderr.any(|line| line.starts_with("step 1/")), "no step was made");
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill exists");
    assert!(kill.success());
    let stderr = stderr.collect::<Vec<_>>().join("\n");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    assert_eq!((&result["status"], &result["path"]), (&"partial".into(), &"1/7-partial.png".into()));
    assert!(folder.path().join("1/7-partial.png").is_file());
}

#[test]
fn shards_share_the_lines() {
    let folder = with_manifest(MANIFEST.as_bytes());
    let lines = |shard: &str| {
        let run = batch(&folder, &["--shard", shard]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        results(&run).into_iter().map(|(line, ..)| line).collect::<Vec<_>>()
    };
    assert_eq!(lines("1/2"), [1, 1, 4]);
    assert_eq!(lines("2/2"), [2]);
    for shard in ["0/2", "3/2", "x", "1/0"] {
        refused(&batch(&folder, &["--shard", shard]), 2, "expected i/n");
    }
}

#[test]
fn a_task_of_a_cluster_finds_its_lines() {
    let folder = with_manifest(MANIFEST.as_bytes());
    let lines = |shard: &str, environment: &[(&str, &str)]| {
        let arguments =
            ["txt2img", "-m", "tiny", "--batch", "jobs.jsonl", "-W", "64", "-H", "64", "--steps", "2"];
        let run = aquatint_with(folder.path(), &[&arguments[..], &["--shard", shard]].concat(), environment);
        assert_eq!(run.code, 0, "{}", run.stderr);
        results(&run).into_iter().map(|(line, ..)| line).collect::<Vec<_>>()
    };
    let slurm =
        [("SLURM_ARRAY_TASK_ID", "5"), ("SLURM_ARRAY_TASK_MIN", "4"), ("SLURM_ARRAY_TASK_COUNT", "2")];
    assert_eq!(lines("auto", &slurm), [2]);
    assert_eq!(lines("auto/2", &[("JOB_COMPLETION_INDEX", "0")]), [1, 1, 4]);
    refused(&batch(&folder, &["--shard", "auto"]), 2, "this is no task");
}

#[test]
fn a_line_that_fails_does_not_stop_the_rest() {
    let manifest = b"{\"prompt\": \"a fox\"}\nnot json\n{\"prompt\": \"x\", \"steps\": 0}\n{\"prompt\": \"\xff\"}\n\
        {\"prompt\": \"x\", \"init_images\": [\"none.png\"]}\n{\"prompt\": \"x\", \"width\": 100}\n{\"prompt\": \"an owl\"}\n";
    let folder = with_manifest(manifest);
    let run = batch(&folder, &[]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    let status: Vec<_> = results(&run).into_iter().map(|(line, status, _)| (line, status)).collect();
    let expected = ["made", "failed", "failed", "failed", "failed", "failed", "made"];
    assert_eq!(status, (1..).zip(expected.map(str::to_owned)).collect::<Vec<_>>());
    for message in [
        "jobs.jsonl:2: expected a JSON object",
        "jobs.jsonl:3: ",
        "jobs.jsonl:4: ",
        "jobs.jsonl:5: `none.png`",
        "5 of 7 lines failed",
    ] {
        assert!(run.stderr.contains(message), "expected \"{message}\" in {}", run.stderr);
    }
    refused(&batch(&folder, &["-o", "fox.png"]), 2, "one name for all pictures");
    refused(&batch(&folder, &["-o", "-"]), 2, "stdout is taken");
    fs::remove_file(folder.path().join("jobs.jsonl")).expect("it is there");
    refused(&batch(&folder, &[]), 2, "cannot read `jobs.jsonl`");
}
