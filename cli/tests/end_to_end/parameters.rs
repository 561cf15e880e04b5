//! Pictures that say how they were made: stored, taken over, made again.

use std::fs;
use std::process::Command;

use aquatint_model::image::metadata::png;
use tempfile::TempDir;

use crate::{aquatint, with_model};

/// A folder with the tiny random model in `tiny` and one picture, `fox.png`.
fn with_picture() -> TempDir {
    let folder = with_model();
    made(
        &folder,
        &["-p", "a fox: red, in 東京", "-n", "dark", "--sampler", "Euler a", "-s", "7", "-o", "fox.png"],
    );
    folder
}

/// Makes a small picture.
#[track_caller]
fn made(folder: &TempDir, more: &[&str]) {
    let quick = [
        "txt2img",
        "-m",
        "tiny",
        "--steps",
        "2",
        "-W",
        "64",
        "-H",
        "32",
        "--rng",
        "cuda",
        "--cfg-scale",
        "5",
    ];
    let run = aquatint(folder.path(), &[&quick[..], more].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

fn text(folder: &TempDir, name: &str) -> String {
    png::read(&folder.path().join(name)).expect("a valid PNG").expect("it has a text")
}

#[test]
fn a_picture_contains_its_settings() {
    let folder = with_picture();
    let text = text(&folder, "fox.png");
    let expected = "a fox: red, in 東京\nNegative prompt: dark\nSteps: 2, Sampler: Euler a, Schedule type: Automatic, \
                    CFG scale: 5, Seed: 7, Size: 64x32, Model hash: ";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains(", Model: tiny, RNG: NV, ") && text.contains(", Version: aquatint "), "{text}");
}

#[test]
fn a_picture_gives_its_settings_to_another_and_flags_count_more() {
    let folder = with_picture();
    let again = |more: &[&str]| {
        let arguments = [&["txt2img", "-m", "tiny", "--from-image", "fox.png"][..], more].concat();
        let run = aquatint(folder.path(), &arguments);
        assert_eq!(run.code, 0, "{}", run.stderr);
    };
    again(&["-o", "same.png"]);
    let bytes = |name: &str| fs::read(folder.path().join(name)).expect("it was written");
    assert_eq!(bytes("same.png"), bytes("fox.png"));

    again(&["-o", "other.png", "-s", "8", "--schedule", "normal", "-n", ""]);
    let expected = text(&folder, "fox.png")
        .replace("Seed: 7", "Seed: 8")
        .replace("Automatic", "Normal")
        .replace("\nNegative prompt: dark", "");
    let settings = |text: &str| text.split(", Steps digest: ").next().map(str::to_owned);
    assert_eq!(settings(&text(&folder, "other.png")), settings(&expected));
}

#[test]
fn verify_finds_an_equal_picture_and_a_changed_one() {
    let folder = with_picture();
    let run = aquatint(folder.path(), &["verify", "fox.png", "-m", "tiny", "-t", "1"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{}", run.stderr);
    assert!(!run.stderr.contains("warning"), "{}", run.stderr);

    // The same pixels with another seed in the text.
    let text =
        text(&folder, "fox.png").replace("Seed: 7", "Seed: 9").replace("Model hash: ", "Model hash: 0");
    let image = image::open(folder.path().join("fox.png")).expect("a valid PNG").into_rgb8();
    let bytes = png::encode([64, 32], image.as_raw(), Some(&text)).expect("a small picture");
    fs::write(folder.path().join("forged.png"), bytes).expect("writable");
    let run = aquatint(folder.path(), &["verify", "forged.png", "-m", "tiny"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.starts_with("different: PSNR "), "{}", run.stdout);
    assert!(run.stdout.ends_with("the first step that differs is 1 of 2\n"), "{}", run.stdout);
    assert!(run.stderr.contains("made by another model: `tiny`, the hash 0"), "{}", run.stderr);

    // Another decoder: the steps are equal, the pixels are not.
    let config = folder.path().join("tiny/vae/config.json");
    let settings = fs::read_to_string(&config).expect("it was written");
    let changed = settings.replacen("\"scaling_factor\": 0.18215", "\"scaling_factor\": 0.2", 1);
    assert_ne!(settings, changed, "the config says the factor");
    fs::write(&config, changed).expect("writable");
    let run = aquatint(folder.path(), &["verify", "fox.png", "-m", "tiny"]);
    assert!(run.code == 1 && run.stdout.contains("all 2 steps are equal"), "{}{}", run.stdout, run.stderr);
}

/// A JPEG loses something, but the same each time.
#[test]
fn jpeg_and_webp_hold_the_settings_and_are_verified() {
    let folder = with_picture();
    for name in ["fox.jpg", "fox.webp"] {
        made(&folder, &["--from-image", "fox.png", "--quality", "80", "-o", name]);
        let text = aquatint_model::image::metadata::read(&folder.path().join(name)).expect("a valid picture");
        assert!(
            text.is_some_and(|text| text.starts_with("a fox: red, in 東京\nNegative prompt: dark\nSteps: 2"))
        );
        let run = aquatint(folder.path(), &["verify", name, "-m", "tiny"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{name}: {}", run.stderr);
        made(&folder, &["--from-image", name, "-o", "back.png", "--force"]);
        let pixels = |name: &str| image::open(folder.path().join(name)).expect("a valid PNG").into_rgb8();
        assert_eq!(pixels("back.png"), pixels("fox.png"), "{name}");
    }
}

#[test]
fn weights_and_clip_skip_change_the_picture_and_are_stored() {
    let folder = with_picture();
    let again = ["--from-image", "fox.png"];
    made(
        &folder,
        &[&again[..], &["-p", "a (fox:1.4)", "--prompt-syntax", "a1111", "-o", "weighted.png"]].concat(),
    );
    made(&folder, &[&again[..], &["-p", "a (fox:1.4)", "-o", "plain.png"]].concat());
    made(&folder, &[&again[..], &["-p", "a (fox:1.4)", "--clip-skip", "2", "-o", "skipped.png"]].concat());
    let pixels = |name: &str| image::open(folder.path().join(name)).expect("a valid PNG").into_rgb8();
    assert_ne!(pixels("weighted.png"), pixels("plain.png"));
    assert_ne!(pixels("skipped.png"), pixels("plain.png"));
    assert!(text(&folder, "plain.png").contains(", Emphasis: None, "));
    assert!(!text(&folder, "weighted.png").contains("Emphasis"));
    assert!(text(&folder, "skipped.png").contains(", Clip skip: 2, "));
    for name in ["weighted.png", "skipped.png"] {
        let run = aquatint(folder.path(), &["verify", name, "-m", "tiny"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{}", run.stderr);
    }
}

#[test]
fn the_precision_is_said_stored_and_taken_from_the_picture() {
    let folder = with_picture();
    let again = ["txt2img", "-m", "tiny", "--from-image"];
    made(&folder, &["-p", "a fox", "-s", "7", "--precision", "f32", "-o", "plain.png"]);
    for precision in ["bf16", "mixed", "bf16x3"] {
        let run = aquatint(
            folder.path(),
            &[&again[..], &["plain.png", "--precision", precision, "-o", "a.png"]].concat(),
        );
        assert!(
            run.code == 0 && run.stderr.contains(&format!("computing with {precision}, ")),
            "{}",
            run.stderr
        );
        assert!(text(&folder, "a.png").contains(&format!("Precision: {precision}")));
        let run = aquatint(folder.path(), &["verify", "a.png", "-m", "tiny"]);
        assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{}", run.stderr);
        let run = aquatint(folder.path(), &[&again[..], &["a.png", "-o", "b.png"]].concat());
        assert!(run.stderr.contains(&format!("computing with {precision}, ")), "{}", run.stderr);
        let read = |name: &str| fs::read(folder.path().join(name)).expect("it was written");
        assert!(read("a.png") == read("b.png"), "{precision}: the same bytes");
        assert!(read("a.png") != read("plain.png"), "{precision}: not those of f32");
        for name in ["a.png", "b.png"] {
            fs::remove_file(folder.path().join(name)).expect("it was written");
        }
    }
    assert!(!text(&folder, "plain.png").contains("Precision"), "f32 needs no words");
}

#[test]
fn the_output_may_be_a_pattern_or_stdout() {
    let folder = with_picture();
    for expected in ["7-01.png", "7-02.png"] {
        let arguments = ["txt2img", "-m", "tiny", "--from-image", "fox.png", "-o", "{seed}-%02d.png"];
        let run = aquatint(folder.path(), &arguments);
        assert_eq!((run.code, run.stdout.trim_end()), (0, expected), "{}", run.stderr);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let command = command.current_dir(folder.path());
    let output = command.args(["txt2img", "-m", "tiny", "--from-image", "fox.png", "-o", "-"]).output();
    let output = output.expect("the program starts");
    let fox = fs::read(folder.path().join("fox.png")).expect("it was written");
    assert!(output.status.success() && output.stdout == fox, "stdout is the file and nothing else");
}

#[test]
fn pictures_without_settings_are_refused() {
    let folder = with_picture();
    let bytes = png::encode([1, 1], &[0; 3], None).expect("a small picture");
    fs::write(folder.path().join("bare.png"), bytes).expect("writable");
    for (picture, message) in [
        ("bare.png", "`bare.png` does not say how it was made"),
        ("none.png", "cannot read `none.png`"),
        ("tiny/model_index.json", "as a PNG, JPEG or WebP picture"),
    ] {
        for arguments in
            [vec!["verify", picture, "-m", "tiny"], vec!["txt2img", "-m", "tiny", "--from-image", picture]]
        {
            let run = aquatint(folder.path(), &arguments);
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{}", run.stderr);
            assert!(run.stderr.contains(message), "{}", run.stderr);
        }
    }
}
