//! What a full disk, a closed terminal, a kill and a stranger's file can do.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use aquatint_model::Image;
use aquatint_model::image::metadata::Parameters;
use tempfile::TempDir;

use crate::{Run, aquatint, aquatint_with, refused, with_model};

const QUICK: [&str; 11] = ["txt2img", "x", "-m", "tiny", "-W", "32", "-H", "32", "--steps", "2", "-t1"];

/// Runs a line of a shell, in which `$AQ` is the program.
fn shell(folder: &TempDir, line: &str) -> Run {
    let mut command = Command::new("bash");
    let command = command.current_dir(folder.path()).env("AQ", env!("CARGO_BIN_EXE_aquatint"));
    let Output { status, stdout, stderr } = command.args(["-c", line]).output().expect("bash exists");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Run { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

fn quick() -> String {
    format!("$AQ {}", QUICK.join(" "))
}

/// Names in a folder, hidden ones as well, without what every test has there.
fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).expect("readable").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "tiny" && !name.ends_with(".jsonl"));
    names.sort();
    names
}

fn is_picture(folder: &TempDir, name: &str) -> bool {
    image::open(folder.path().join(name)).is_ok()
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) {
    fs::write(folder.path().join(name), content).expect("writable");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_or_closed_stream_does_not_stop_the_work() {
    let folder = with_model();
    let run = shell(&folder, &format!("{} -s 1 -o a.png 2> /dev/full", quick()));
    assert_eq!((run.code, run.stdout.as_str()), (0, "a.png\n"));
    assert!(is_picture(&folder, "a.png"));
    let run = shell(&folder, &format!("{} -s 1 -o b.png > /dev/full", quick()));
    refused(&run, 1, "error: cannot write to stdout: ");
    assert!(is_picture(&folder, "b.png"));
    let run = shell(&folder, &format!("{} -s 1 -o c.png >&- 2>&-", quick()));
    assert_eq!(run.code, 0);
    assert!(is_picture(&folder, "c.png"));
    for line in
        ["$AQ samplers > /dev/full", "$AQ inspect tiny > /dev/full", "$AQ verify a.png -m tiny > /dev/full"]
    {
        refused(&shell(&folder, line), 1, "error: cannot write to stdout: ");
    }
    write(&folder, "two.jsonl", "{\"prompt\": \"a\", \"seed\": 1}\n{\"prompt\": \"b\", \"seed\": 2}\n");
    let line = "$AQ txt2img -m tiny -W 32 -H 32 --steps 1 --batch two.jsonl -o '{job}.png' > /dev/full";
    refused(&shell(&folder, line), 1, "error: cannot write to stdout: ");
    assert!(is_picture(&folder, "1.png") && is_picture(&folder, "2.png"));
}

#[test]
fn a_reader_who_has_seen_enough_is_told_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_aquatint"));
    let command = command.current_dir(folder.path()).arg("samplers");
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A limit for files plays a full disk: what is larger fails to be written.
#[cfg(target_os = "linux")]
fn with_room(kilobytes: usize, line: &str) -> String {
    format!("trap '' XFSZ; ulimit -f {kilobytes}; {line}")
}

#[cfg(target_os = "linux")]
#[test]
fn a_checkpoint_without_room_is_a_warning() {
    let folder = with_model();
    let line = "$AQ txt2img x -m tiny -W 32 -H 32 --steps 60 -s 1 --checkpoint c.ckpt -o a.png";
    let run = shell(&folder, &with_room(8, line));
    assert_eq!((run.code, run.stdout.as_str()), (0, "a.png\n"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("warning: no checkpoint: ").count(), 1, "{}", run.stderr);
    assert!(is_picture(&folder, "a.png"));
    // What could be saved is whole.
    let run = shell(&folder, "$AQ txt2img -m tiny --resume c.ckpt -o b.png");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(names(&folder), ["a.png", "b.png", "c.ckpt"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_batch_without_room_computes_nothing_and_a_finished_one_needs_none() {
    let folder = with_model();
    write(&folder, "two.jsonl", "{\"prompt\": \"a\", \"seed\": 1}\n{\"prompt\": \"b\", \"seed\": 2}\n");
    let batch = "$AQ txt2img -m tiny -W 64 -H 64 --steps 1 --batch two.jsonl -o '{job}.png'";
    let run = shell(&folder, &with_room(4, batch));
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(!run.stderr.contains("step "), "{}", run.stderr);
    assert_eq!(run.stdout.matches("\"failed\"").count(), 2, "{}", run.stdout);
    assert_eq!(names(&folder), [""; 0]);
    assert_eq!(shell(&folder, batch).code, 0);
    let run = shell(&folder, &with_room(0, batch));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.matches("\"skipped\"").count(), 2, "{}", run.stdout);
}

/// Killed at the nth call of everything that makes a file, for each n.
#[cfg(target_os = "linux")]
#[test]
fn a_kill_leaves_nothing_half() {
    let folder = with_model();
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("there is no strace: nothing is killed");
        return;
    }
    for call in ["write", "fsync", "renameat2", "rename"] {
        for nth in 1.. {
            for name in names(&folder) {
                fs::remove_file(folder.path().join(name)).expect("it is there");
            }
            let inject =
                format!("strace -f -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={nth}");
            let line = format!("{} -s 5 -o a.png --checkpoint c.ckpt", quick());
            let run = shell(&folder, &format!("{inject} {line}"));
            let case = format!("{call} {nth}: {:?}", names(&folder));
            if run.code == 0 {
                break; // there are no more
            }
            assert!(nth < 200, "{case}: {}", run.stderr);
            let has_name = folder.path().join("a.png").exists();
            assert!(!has_name || is_picture(&folder, "a.png"), "{case}");
            let again = shell(&folder, &line);
            assert_eq!(again.code, 0, "{case}: {}", again.stderr);
            let expected = if has_name { &["a-1.png", "a.png", "c.ckpt"][..] } else { &["a.png", "c.ckpt"] };
            assert_eq!(names(&folder), expected, "{case}");
        }
    }
}

#[test]
fn a_checkpoint_of_which_a_bit_was_changed_is_refused() {
    let folder = with_model();
    let run = aquatint(
        folder.path(),
        &[&QUICK[..], &["-s", "1", "--checkpoint", "c.ckpt", "-o", "a.png"]].concat(),
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let good = fs::read(folder.path().join("c.ckpt")).expect("it was written");
    for at in (8..good.len()).step_by(good.len() / 40).chain(good.len() - 300..good.len() - 290) {
        let mut bytes = good.clone();
        bytes[at] ^= 8;
        write(&folder, "flipped.ckpt", &bytes);
        let run =
            aquatint(folder.path(), &["txt2img", "-m", "tiny", "--resume", "flipped.ckpt", "-o", "b.png"]);
        assert!(run.code == 2 && run.stdout.is_empty(), "byte {at}: {}", run.stderr);
    }
}

#[test]
fn messages_do_not_steer_the_terminal_and_are_short() {
    let folder = with_model();
    let text = "p\nSteps: 1, Sampler: \u{1b}]0;title\u{7}\u{1b}[31mred, Seed: 1, Size: 32x32";
    let picture = Image::from_rgb(8, 8, vec![0; 192]).with_parameters(Parameters::parse(text));
    picture.save(folder.path().join("in.png")).expect("writable");
    let run = aquatint(folder.path(), &["txt2img", "-m", "tiny", "--from-image", "in.png", "-o", "o.png"]);
    refused(&run, 2, "unknown sampler");
    assert!(!run.stderr.contains(['\u{1b}', '\u{7}']), "{:?}", run.stderr);

    write(&folder, "long.jsonl", format!("{{\"foo\": \"{}\"}}", "a".repeat(3_000_000)));
    let run = aquatint(folder.path(), &["txt2img", "-m", "tiny", "--batch", "long.jsonl"]);
    assert_eq!(run.code, 4);
    assert!(run.stderr.len() + run.stdout.len() < 5000, "{} characters", run.stderr.len());
}

#[test]
fn a_line_whose_picture_breaks_a_decoder_does_not_stop_the_rest() {
    let folder = with_model();
    write(&folder, "in.webp", include_bytes!("../files/animation.webp"));
    let lines = r#"{"prompt": "a", "seed": 1}
{"prompt": "b", "seed": 2, "init_images": ["in.webp"]}
{"prompt": "c", "seed": 3}"#;
    write(&folder, "three.jsonl", lines);
    let line = ["txt2img", "-m", "tiny", "-W", "32", "-H", "32", "--steps", "1", "--batch", "three.jsonl"];
    let run = aquatint(folder.path(), &[&line[..], &["-o", "{job}.png"]].concat());
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(is_picture(&folder, "1.png") && is_picture(&folder, "3.png"), "{:?}", names(&folder));
}

/// The values with which A1111's API fills in what a request does not say, and a picture in base64.
#[test]
fn what_changes_nothing_is_accepted() {
    let folder = with_model();
    let photo = Image::from_rgb(64, 64, (0..3 * 64 * 64).map(|i| (i % 251) as u8).collect());
    photo.save(folder.path().join("photo.png")).expect("writable");
    let mask = Image::from_rgb(64, 64, [0, 255].map(|grey| [grey; 3 * 64 * 32]).concat());
    mask.save(folder.path().join("mask.png")).expect("writable");
    let base64 = shell(&folder, "base64 -w0 photo.png").stdout;
    let neutral = [
        r#""subseed": -1, "subseed_strength": 0"#,
        r#""seed_resize_from_h": -1, "seed_resize_from_w": -1"#,
        r#""s_noise": 1, "s_churn": 0, "s_tmin": 0, "s_tmax": null"#,
        r#""send_images": true, "save_images": false"#,
        r#""override_settings": {}, "override_settings_restore_afterwards": true"#,
        r#""eta": 0"#,
        r#""init_images": ["photo.png"], "mask": "mask.png", "inpainting_fill": 1, "initial_noise_multiplier": 1.0"#,
        r#""init_images": ["photo.png"], "mask": "mask.png", "mask_blur": 4, "mask_blur_x": 4, "mask_round": true"#,
        &format!(r#""init_images": ["{base64}"]"#),
        &format!(r#""init_images": ["data:image/png;base64,{base64}"]"#),
    ];
    let line = |fields: &&str| {
        format!("{{\"prompt\": \"a\", \"seed\": 1, \"steps\": 2, \"sampler_name\": \"Euler\", {fields}}}\n")
    };
    write(&folder, "lines.jsonl", neutral.iter().map(line).collect::<String>());
    let run = aquatint(
        folder.path(),
        &["txt2img", "-m", "tiny", "-W", "64", "-H", "64", "--batch", "lines.jsonl", "-o", "{job}.png"],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let bytes = |job: usize| fs::read(folder.path().join(format!("{job}.png"))).expect("it was made");
    assert!((2..=6).all(|job| bytes(job) == bytes(1)), "they change nothing");
    assert_eq!(bytes(9), bytes(10));
}

#[cfg(target_os = "linux")]
#[test]
fn devices_and_pipes_are_no_inputs() {
    let folder = with_model();
    assert_eq!(shell(&folder, "mkfifo pipe").code, 0);
    for input in ["/dev/zero", "pipe"] {
        for flags in [
            &["img2img", "x", "-i", input][..],
            &["inpaint", "x", "-i", "tiny/model_index.json", "--mask", input],
            &["txt2img", "--from-image", input],
            &["txt2img", "--resume", input],
            &["txt2img", "--batch", input],
            &["verify", input],
        ] {
            let run = aquatint(folder.path(), &[flags, &["-m", "tiny"]].concat());
            assert_eq!(run.code, 2, "{flags:?}: {}", run.stderr);
        }
    }
    let line =
        "$AQ txt2img -m tiny -W 32 -H 32 --steps 1 -o '{job}.png' --batch <(echo '{\"prompt\": \"a\"}')";
    let run = shell(&folder, line);
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn absurd_numbers_of_threads_are_refused() {
    let folder = with_model();
    for threads in ["1000000", "many", "18446744073709551616"] {
        let run = aquatint_with(folder.path(), &QUICK[..10], &[("RAYON_NUM_THREADS", threads)]);
        refused(&run, 2, "RAYON_NUM_THREADS is `");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_the_address_space_counts_as_memory() {
    let folder = with_model();
    let line = "ulimit -v 1000000; $AQ txt2img x -m tiny -W 4096 -H 4096 --steps 1 -o a.png -t1";
    refused(&shell(&folder, line), 2, "of memory would be needed");
    assert!(!Path::new(&folder.path().join("a.png")).exists());
}
