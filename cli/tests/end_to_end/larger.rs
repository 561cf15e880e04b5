//! Larger pictures from the command line: a second pass, upscalers, the VAE in strips; and
//! approximations.

use std::fs;
use std::path::Path;

use crate::{aquatint, refused, with_model};

/// Arguments of a small picture.
const SMALL: [&str; 11] = ["-m", "tiny", "a fox", "-W", "64", "-H", "64", "--steps", "2", "-s", "7"];

fn golden(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens").join(name).display().to_string()
}

fn size(folder: &Path, name: &str) -> (u32, u32) {
    image::open(folder.join(name)).expect("a picture").into_rgb8().dimensions()
}

#[test]
fn a_second_pass_is_made_read_back_and_verified() {
    let folder = with_model();
    let folder = folder.path();
    let mut arguments = SMALL.to_vec();
    arguments.extend([
        "--hires-scale",
        "1.5",
        "--hires-upscaler",
        "latent-bicubic",
        "--vae-tiling",
        "-o",
        "a.png",
    ]);
    let run = aquatint(folder, &arguments);
    assert_eq!((run.code, run.stdout.as_str()), (0, "a.png\n"), "{}", run.stderr);
    assert!(run.stderr.contains("64×64, 2 steps, then 96×96"), "{}", run.stderr);
    assert_eq!(size(folder, "a.png"), (96, 96));
    let again = aquatint(folder, &["-m", "tiny", "--from-image", "a.png", "-o", "b.png"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(fs::read(folder.join("a.png")).ok(), fs::read(folder.join("b.png")).ok());
    let verified = aquatint(folder, &["verify", "-m", "tiny", "a.png"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, "equal\n"), "{}", verified.stderr);
    let small =
        aquatint(folder, &["-m", "tiny", "--from-image", "a.png", "--hires-scale", "0", "-o", "c.png"]);
    assert_eq!(small.code, 0, "{}", small.stderr);
    assert_eq!(size(folder, "c.png"), (64, 64));
}

#[test]
fn a_picture_by_a_network_is_verified_with_its_file() {
    let folder = with_model();
    let folder = folder.path();
    let file = golden("upscalers/compact_x2.safetensors");
    let mut arguments = SMALL.to_vec();
    arguments.extend(["--hires-upscaler", &file, "--hires-scale", "1.25", "-o", "a.png"]);
    let run = aquatint(folder, &arguments);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let without = aquatint(folder, &["verify", "-m", "tiny", "a.png"]);
    refused(&without, 2, "there is no upscaler `compact_x2`");
    let with = aquatint(folder, &["verify", "-m", "tiny", "a.png", "--hires-upscaler", &file]);
    assert_eq!((with.code, with.stdout.as_str()), (0, "equal\n"), "{}", with.stderr);
}

#[test]
fn second_passes_that_cannot_be_made_are_refused() {
    let folder = with_model();
    let folder = folder.path();
    for (more, message) in [
        (&["--hires-scale", "0.5"][..], "enlarges 0.5 times; expected 1 to 16"),
        (&["--hires-upscaler", "R-ESRGAN 4x+"], "there is no upscaler `R-ESRGAN 4x+`"),
        (&["--hires-strength", "2"], "strength of the second pass is 2"),
        (&["--hires-scale", "2", "--checkpoint", "run.safetensors"], "cannot be saved"),
    ] {
        let arguments: Vec<_> = SMALL.iter().chain(more).copied().collect();
        refused(&aquatint(folder, &arguments), 2, message);
    }
}

#[test]
fn pictures_are_enlarged_by_a_file_or_a_filter() {
    let folder = with_model();
    let folder = folder.path();
    let run = aquatint(folder, &[&SMALL[..], &["-o", "a.png"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    for (upscaler, more, expected) in [
        (golden("upscalers/body_x4.pth"), &[][..], 256),
        (golden("upscalers/compact_x2.safetensors"), &["--scale", "1.5"], 96),
        ("lanczos".into(), &["--scale", "3"], 192),
        ("nearest".into(), &[], 128),
    ] {
        let name = format!("{expected}.png");
        let arguments = [&["upscale", "a.png", "-o", &name, "--upscaler", &upscaler], more].concat();
        let run = aquatint(folder, &arguments);
        assert_eq!((run.code, run.stdout), (0, format!("{name}\n")), "{}", run.stderr);
        assert_eq!(size(folder, &name), (expected, expected), "{upscaler}");
    }
    refused(
        &aquatint(folder, &["upscale", "a.png", "--upscaler", "latent"]),
        2,
        "enlarges latents, not pictures",
    );
    refused(&aquatint(folder, &["upscale", "a.png", "--upscaler", "lanczos", "--scale", "-1"]), 2, "");
}

/// What is decoded in strips is what is decoded at once, within a level.
#[test]
fn latents_are_decoded_in_strips() {
    let folder = with_model();
    let folder = folder.path();
    let run = aquatint(folder, &[&SMALL[..], &["-o", "a.png"]].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    for strips in [&[][..], &["--vae-tiling"]] {
        let name = format!("{}", strips.len());
        let latents = format!("{name}.safetensors");
        let encoded = aquatint(
            folder,
            &[&["encode", "-m", "tiny", "--precision", "f32", "-i", "a.png", "-o", &latents], strips]
                .concat(),
        );
        assert_eq!(encoded.code, 0, "{}", encoded.stderr);
        let picture = format!("{name}.png");
        let decoded = aquatint(
            folder,
            &[&["decode", "-m", "tiny", "--precision", "f32", &latents, "-o", &picture], strips].concat(),
        );
        assert_eq!(decoded.code, 0, "{}", decoded.stderr);
    }
    let [whole, strips] =
        ["0.png", "1.png"].map(|name| image::open(folder.join(name)).expect("a picture").into_rgb8());
    let apart = whole.as_raw().iter().zip(strips.as_raw()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(apart <= Some(1), "{apart:?}");
}

#[test]
fn approximations_are_in_the_text_and_verified() {
    let folder = with_model();
    let folder = folder.path();
    let more = ["--tome", "0.5", "--deep-cache", "2", "--guidance-interval", "0.2:0.9", "-o", "a.png"];
    let run = aquatint(folder, &[&SMALL[..8], &["4", "-s", "7"], &more].concat());
    assert_eq!(run.code, 0, "{}", run.stderr);
    let verified = aquatint(folder, &["verify", "-m", "tiny", "a.png"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (0, "equal\n"), "{}", verified.stderr);
    let text = fs::read(folder.join("a.png")).expect("it is there");
    let text = String::from_utf8_lossy(&text);
    let expected = "Token merging ratio: 0.5, DeepCache interval: 2, Guidance interval: \"0.2:0.9\", Version";
    assert!(text.contains(expected), "{text}");
    refused(&aquatint(folder, &[&SMALL[..], &["--tome", "0.8"]].concat()), 2, "0.8 of the tokens");
    refused(&aquatint(folder, &[&SMALL[..], &["--guidance-interval", "1"]].concat()), 2, "as in 0.2:0.8");
}
