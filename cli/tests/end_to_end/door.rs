//! Names of files, streams, masks and settings as people type them.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use crate::{Run, aquatint, refused, with_model};

const QUICK: [&str; 11] = ["-q", "-m", "tiny", "-s", "7", "--steps", "1", "-W", "64", "-H", "64"];

fn quick(folder: &TempDir, command: &str, more: &[&str]) -> Run {
    aquatint(folder.path(), &[&[command], &QUICK[..], more].concat())
}

/// The same with an input.
fn piped(folder: &TempDir, command: &str, more: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aquatint"))
        .current_dir(folder.path())
        .arg(command)
        .args(QUICK)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("it is piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("it was not killed"), output.stdout, stderr)
}

fn photo() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let photo = RgbImage::from_fn(64, 64, |x, y| Rgb([4 * x as u8, 4 * y as u8, 99]));
    photo.write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

#[test]
fn pictures_are_numbered_and_laid_on_a_sheet() {
    let folder = with_model();
    let more = ["-p", "A fox: red?", "-b", "3", "-o", "%02d-{prompt}-{seed}.png", "--grid", "all.png"];
    let run = quick(&folder, "txt2img", &more);
    let expected = "01-A_fox_red-7.png\n02-A_fox_red-8.png\n03-A_fox_red-9.png\nall.png\n";
    assert_eq!((run.code, run.stdout.as_str()), (0, expected), "{}", run.stderr);
    let sheet = image::open(folder.path().join("all.png")).expect("a valid PNG").into_rgb8();
    assert_eq!(sheet.dimensions(), (128, 128));
    let first = image::open(folder.path().join("01-A_fox_red-7.png")).expect("a valid PNG").into_rgb8();
    assert!((0..64).all(|i| sheet.get_pixel(i, i) == first.get_pixel(i, i)));
    refused(
        &aquatint(folder.path(), &["verify", "all.png", "-m", "tiny"]),
        2,
        "is made of other pictures (2x2)",
    );
    refused(&quick(&folder, "txt2img", &["-p", "x", "-o", "{size}.png"]), 2, "`{size}`; expected {seed}");
}

#[test]
fn a_text_of_prompts_is_a_manifest_from_a_file_or_a_pipe() {
    let folder = with_model();
    fs::write(folder.path().join("prompts.txt"), "a fox\n\na {red|blue} cat\n").expect("writable");
    let run = quick(&folder, "txt2img", &["--batch", "prompts.txt"]);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 2), "{}", run.stderr);
    assert!(folder.path().join("3-7.png").is_file());
    let (code, stdout, stderr) =
        piped(&folder, "txt2img", &["--batch", "-", "-o", "p-{job}.png"], b"a fox\n");
    assert_eq!(code, 0, "{stderr}");
    assert!(String::from_utf8_lossy(&stdout).contains("p-1.png"));
    let (code, _, stderr) = piped(&folder, "txt2img", &["--batch", "-"], b"\n");
    assert_eq!(code, 2);
    assert!(stderr.contains("has no lines"), "{stderr}");
}

#[test]
fn pictures_and_prompts_come_and_go_by_pipes() {
    let folder = with_model();
    let (code, picture, stderr) =
        piped(&folder, "img2img", &["-i", "-", "-p", "a fox", "-o", "-", "--strength", "1"], &photo());
    assert_eq!((code, image::load_from_memory(&picture).is_ok()), (0, true), "{stderr}");
    let (code, stdout, stderr) =
        piped(&folder, "txt2img", &["-p", "-", "-o", "{prompt}.png"], b"a red fox\n");
    assert_eq!((code, String::from_utf8_lossy(&stdout).as_ref()), (0, "a_red_fox.png\n"), "{stderr}");
    let twice = ["-i", "-", "--mask", "-", "-p", "x", "-o", "x.png"];
    let (code, _, stderr) = piped(&folder, "inpaint", &twice, &photo());
    assert!(code == 2 && stderr.contains("`-` is given twice"), "{stderr}");
    refused(&quick(&folder, "txt2img", &["--from-image", "-"]), 2, "is not read from stdin");
    // Latents, and back again.
    fs::write(folder.path().join("photo.png"), photo()).expect("writable");
    let encoded = Command::new(env!("CARGO_BIN_EXE_aquatint"))
        .current_dir(folder.path())
        .args(["encode", "-m", "tiny", "-i", "photo.png", "-o", "-"])
        .output()
        .expect("the program starts");
    fs::write(folder.path().join("l.safetensors"), &encoded.stdout).expect("writable");
    let run = aquatint(folder.path(), &["decode", "-m", "tiny", "l.safetensors"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "decoded.png\n"), "{}", run.stderr);
    refused(&aquatint(folder.path(), &["verify", "decoded.png", "-m", "tiny"]), 2, "l.safetensors");
}

#[test]
fn rectangles_are_masks() {
    let folder = with_model();
    fs::write(folder.path().join("photo.png"), photo()).expect("writable");
    let run =
        quick(&folder, "inpaint", &["-i", "photo.png", "--mask", "16,16,48,40", "-p", "x", "-o", "x.png"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "x.png\n"), "{}", run.stderr);
    let [before, after] = ["photo.png", "x.png"]
        .map(|name| image::open(folder.path().join(name)).expect("a valid PNG").into_rgb8());
    let inside = |x: u32, y: u32| (16..48).contains(&x) && (16..40).contains(&y);
    assert!(before.enumerate_pixels().all(|(x, y, pixel)| inside(x, y) || after.get_pixel(x, y) == pixel));
    assert_ne!(before.get_pixel(32, 28), after.get_pixel(32, 28));
    let outside = ["-i", "photo.png", "--mask", "16,16,99,40", "-p", "x", "-o", "y.png"];
    refused(&quick(&folder, "inpaint", &outside), 2, "lies outside of the picture, which is 64×64");
}

#[test]
fn another_model_than_the_pictures_is_warned_about() {
    let folder = with_model();
    let run = quick(&folder, "txt2img", &["-p", "a fox", "-o", "fox.png"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let again = |model: &str| {
        aquatint(folder.path(), &["txt2img", "-m", model, "--from-image", "fox.png", "-o", "again.png", "-q"])
    };
    assert_eq!(again("tiny").stderr, "");
    let other = ["random-model", "-q", "--arch", "tiny", "--seed", "5", "other"];
    assert_eq!(aquatint(folder.path(), &other).code, 0);
    let run = again("other");
    assert!(run.code == 0 && run.stderr.contains("was made by another model: `tiny`"), "{}", run.stderr);
}

#[test]
fn the_doctor_tests_every_instruction_set() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = aquatint(folder.path(), &["doctor"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    for part in ["CPU: ", "--precision auto: ", "memory: ", "models: ", "self-test of portable: right"] {
        assert!(run.stdout.contains(part), "expected \"{part}\" in: {}", run.stdout);
    }
    assert!(!run.stdout.contains("WRONG"), "{}", run.stdout);
}

#[test]
fn files_that_are_no_weights_are_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("photo.png"), photo()).expect("writable");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n";
    fs::write(folder.path().join("lfs.safetensors"), pointer).expect("writable");
    for (name, message) in [("photo.png", "this is a picture"), ("lfs.safetensors", "`git lfs pull`")] {
        refused(&aquatint(folder.path(), &["inspect", name]), 3, message);
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_replaced_if_it_may_be() {
    let folder = with_model();
    std::os::unix::fs::symlink("nowhere.png", folder.path().join("link.png")).expect("writable");
    let run = quick(&folder, "txt2img", &["-p", "x", "--force", "-o", "link.png"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "link.png\n"), "{}", run.stderr);
}

#[test]
fn words_of_a_bench_are_checked_before_the_machine_is_measured() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    refused(&aquatint(folder.path(), &["bench", "no-such-kernel"]), 2, "nothing is called");
    let run = aquatint(folder.path(), &["bench", "silu", "--seconds", "0.001", "--json", "-"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON alone");
    let share = report["rows"][0]["cpu_share"].as_f64().expect("a share");
    assert!((0.0..=1.0).contains(&share) && run.stderr.contains("silu"), "{}", run.stderr);
}
