//! Pictures from pictures, as a user makes them: image to image, inpainting, latents, noise; and
//! pictures that are refused.

use std::fs;

use aquatint_model::networks::vae::open_latents;
use image::{Rgb, RgbImage, Rgba, RgbaImage};
use tempfile::TempDir;

use crate::{Run, aquatint, refused, with_model};

/// A folder with the tiny model, a picture of 72×64 in three formats, masks, and a picture with a
/// hole.
fn prepared() -> TempDir {
    let folder = with_model();
    let photo = RgbImage::from_fn(72, 64, |x, y| Rgb([3 * x as u8, 3 * y as u8, (x * y % 251) as u8]));
    for name in ["photo.png", "photo.jpg", "photo.webp"] {
        photo.save(folder.path().join(name)).expect("writable");
    }
    let white = |inside: bool| Rgb([if inside { 255 } else { 0 }; 3]);
    let square = |x: u32, y: u32| (24..48).contains(&x) && (16..48).contains(&y);
    RgbImage::from_fn(72, 64, |x, y| white(square(x, y)))
        .save(folder.path().join("mask.png"))
        .expect("writable");
    RgbImage::from_fn(8, 8, |_, _| white(true)).save(folder.path().join("small.png")).expect("writable");
    RgbImage::new(72, 64).save(folder.path().join("black.png")).expect("writable");
    let hole = |x, y| {
        let Rgb([r, g, b]) = *photo.get_pixel(x, y);
        Rgba([r, g, b, if square(x, y) { 0 } else { 255 }])
    };
    RgbaImage::from_fn(72, 64, hole).save(folder.path().join("hole.png")).expect("writable");
    folder
}

/// Runs a task with quick settings; the picture goes to `out.png`.
fn task(folder: &TempDir, name: &str, more: &[&str]) -> Run {
    let quick = [name, "-m", "tiny", "-p", "a fox", "-s", "7", "--steps", "4", "-o", "out.png", "--force"];
    aquatint(folder.path(), &quick.iter().chain(more).copied().collect::<Vec<_>>())
}

#[track_caller]
fn made(folder: &TempDir, name: &str, more: &[&str]) -> RgbImage {
    let run = task(folder, name, more);
    assert_eq!((run.code, run.stdout.as_str()), (0, "out.png\n"), "{more:?}: {}", run.stderr);
    opened(folder, "out.png")
}

#[track_caller]
fn opened(folder: &TempDir, name: &str) -> RgbImage {
    image::open(folder.path().join(name)).expect("a valid picture").into_rgb8()
}

#[test]
fn a_picture_is_made_from_a_picture_of_any_format() {
    let folder = prepared();
    let from_png = made(&folder, "img2img", &["-i", "photo.png", "--strength", "0.5"]);
    assert_eq!(from_png.dimensions(), (72, 64), "the picture's own size");
    let run = task(&folder, "img2img", &["-i", "photo.png", "--strength", "0.5", "-v"]);
    assert!(run.stderr.contains("step 1/2 in "), "half of 4 steps: {}", run.stderr);
    assert_eq!(made(&folder, "img2img", &["--init-img", "photo.webp", "--strength", "0.5"]), from_png);
    made(&folder, "img2img", &["-i", "photo.jpg"]);
    assert_ne!(made(&folder, "img2img", &["-i", "photo.png", "--strength", "1"]), from_png);
}

#[test]
fn sizes_and_resize_modes() {
    let folder = prepared();
    let size = |more: &[&str]| made(&folder, "img2img", &[&["-i", "photo.png"], more].concat()).dimensions();
    assert_eq!(size(&["-W", "40"]), (40, 32));
    assert_eq!(size(&["-H", "32"]), (40, 32));
    let modes = ["crop", "fit", "stretch"]
        .map(|mode| made(&folder, "img2img", &["-i", "photo.png", "-W", "64", "-H", "96", "--resize", mode]));
    assert!(modes.iter().all(|picture| picture.dimensions() == (64, 96)));
    assert!(modes[0] != modes[1] && modes[1] != modes[2]);
}

/// The pixels that differ from those of `photo.png`, moved by `offset`.
fn changed(folder: &TempDir, picture: &RgbImage, offset: (u32, u32)) -> Vec<(u32, u32)> {
    let photo = opened(folder, "photo.png");
    let differs = |&(x, y, old): &(u32, u32, &Rgb<u8>)| picture.get_pixel(x + offset.0, y + offset.1) != old;
    photo.enumerate_pixels().filter(differs).map(|(x, y, _)| (x, y)).collect()
}

#[test]
fn inpainting_changes_the_mask_and_nothing_else() {
    let folder = prepared();
    let inside = |&(x, y): &(u32, u32)| (24..48).contains(&x) && (16..48).contains(&y);
    for more in [
        &["-i", "photo.png", "--mask", "mask.png"][..],
        &["-i", "photo.png", "--mask", "mask.png", "--mask-blur", "0", "--strength", "0.75"],
        &["-i", "photo.png", "--mask", "mask.png", "--only-masked", "-W", "64", "-H", "64"],
        &["-i", "photo.png", "--mask", "mask.png", "--only-masked=4"],
        &["-i", "hole.png"],
    ] {
        let picture = made(&folder, "inpaint", more);
        assert_eq!(picture.dimensions(), (72, 64));
        let changed = changed(&folder, &picture, (0, 0));
        assert!(changed.len() > 300, "{more:?}: only {} pixels changed", changed.len());
        assert!(changed.iter().all(inside), "{more:?}: a pixel outside the mask changed");
    }
    let inverted = made(&folder, "inpaint", &["-i", "photo.png", "--mask", "mask.png", "--invert-mask"]);
    let changed_pixels = changed(&folder, &inverted, (0, 0));
    assert!(changed_pixels.len() > 1500 && !changed_pixels.iter().any(inside));
    let raw = made(&folder, "inpaint", &["-i", "photo.png", "--mask", "mask.png", "--no-composite"]);
    assert!(!changed(&folder, &raw, (0, 0)).iter().all(inside), "the decoder touches every pixel");
}

#[test]
fn a_picture_grows_beyond_its_edges() {
    let folder = prepared();
    let picture = made(&folder, "inpaint", &["-i", "photo.png", "--expand", "16,8,0,24"]);
    assert_eq!(picture.dimensions(), (96, 88));
    assert_eq!(changed(&folder, &picture, (16, 0)), []);
}

#[test]
fn latents_go_to_a_file_and_back() {
    let folder = prepared();
    let run = aquatint(folder.path(), &["encode", "-m", "tiny", "-i", "photo.png", "-o", "l.safetensors"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "l.safetensors\n"), "{}", run.stderr);
    let run = aquatint(folder.path(), &["decode", "-m", "tiny", "l.safetensors", "-o", "back.png"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "back.png\n"), "{}", run.stderr);
    assert_eq!(opened(&folder, "back.png").dimensions(), (72, 64));
    refused(&aquatint(folder.path(), &["decode", "-m", "tiny", "photo.png"]), 2, "photo.png");
    refused(&aquatint(folder.path(), &["decode", "-m", "tiny", "none.safetensors"]), 2, "none.safetensors");
    let weights = "tiny/vae/diffusion_pytorch_model.safetensors";
    refused(&aquatint(folder.path(), &["decode", "-m", "tiny", weights]), 2, "holds no tensor `latents`");
}

#[test]
fn latents_are_made_and_read_in_any_precision() {
    let folder = prepared();
    let made = |arguments: &[&str], precision: &str, output: &str| {
        let run = aquatint(folder.path(), &[arguments, &["--precision", precision, "-o", output]].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains(&format!("computing with {precision}, ")), "{}", run.stderr);
        fs::read(folder.path().join(output)).expect("it was written")
    };
    let encode = ["encode", "-m", "tiny", "-i", "photo.png"];
    let decode = ["decode", "-m", "tiny", "f32.safetensors"];
    made(&encode, "f32", "f32.safetensors");
    let latents = |name: &str| open_latents(folder.path().join(name)).expect("latents of ours");
    let exact = latents("f32.safetensors");
    made(&decode, "f32", "f32.png");
    let picture = opened(&folder, "f32.png");
    for (precision, most, tolerance) in [("bf16", 8, 1e-2), ("bf16x3", 1, 1e-4)] {
        let name = format!("{precision}.safetensors"); // a file of that name would be kept
        made(&encode, precision, &name);
        let rounded = latents(&name);
        assert_eq!(rounded.shape(), exact.shape());
        let length =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
        let pairs = rounded.as_slice().iter().zip(exact.as_slice());
        let error = length(&mut pairs.map(|(a, b)| a - b)) / length(&mut exact.as_slice().iter().copied());
        let error = error.sqrt();
        assert!(
            (1e-8..tolerance).contains(&error),
            "{precision}: latents differ by {error:.1e} of their length"
        );
        made(&decode, precision, &format!("{precision}.png"));
        let found = opened(&folder, &format!("{precision}.png"));
        let worst = found.iter().zip(picture.iter()).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(worst.is_some_and(|worst| worst <= most), "{precision}: {worst:?} levels from f32");
    }
}

#[test]
fn noise_makes_a_strip() {
    let folder = prepared();
    let line = ["noise", "-m", "tiny", "-i", "photo.png", "--timesteps"];
    let run = aquatint(folder.path(), &[&line[..], &["0,500,999", "-o", "strip.png"]].concat());
    assert_eq!((run.code, run.stdout.as_str()), (0, "strip.png\n"), "{}", run.stderr);
    assert_eq!(opened(&folder, "strip.png").dimensions(), (3 * 72, 64 + 12));
    refused(&aquatint(folder.path(), &[&line[..], &["0,1000"]].concat()), 2, "expected 0 to 999");
}

#[test]
fn pictures_that_cannot_be_used_exit_with_2_and_leave_nothing_behind() {
    let folder = prepared();
    let at = |name: &str| folder.path().join(name);
    let whole = fs::read(at("photo.png")).expect("it was written");
    fs::write(at("half.png"), &whole[..whole.len() / 2]).expect("writable");
    let whole = fs::read(at("photo.jpg")).expect("it was written");
    fs::write(at("half.jpg"), &whole[..whole.len() / 2]).expect("writable");
    fs::write(at("text.png"), "a text").expect("writable");
    fs::write(at("out.png"), "mine").expect("writable");
    RgbaImage::from_pixel(64, 64, Rgba([1, 2, 3, 255])).save(at("opaque.png")).expect("writable");
    for (image, message) in [
        ("half.png", "damaged"),
        ("half.jpg", "of its data is there"),
        ("text.png", "no PNG, JPEG or WebP"),
        ("none.png", "cannot read"),
        ("tiny", "cannot read"),
    ] {
        let run = task(&folder, "img2img", &["-i", image]);
        refused(&run, 2, message);
        assert!(run.stderr.contains(image) && !run.stderr.contains("step"), "{}", run.stderr);
        refused(&task(&folder, "inpaint", &["-i", "photo.png", "--mask", image]), 2, message);
    }
    let inpaint = |more: &[&str]| task(&folder, "inpaint", &[&["-i", "photo.png"], more].concat());
    refused(&inpaint(&[]), 2, "expected a mask, or margins to expand it by");
    let opaque = task(&folder, "inpaint", &["-i", "opaque.png"]);
    refused(&opaque, 2, "`opaque.png` has no transparent parts; expected a mask, or margins to expand it by");
    refused(&inpaint(&["--mask", "small.png"]), 2, "the mask is 8×8 and the picture 72×64");
    refused(&inpaint(&["--mask", "black.png"]), 2, "nothing to repaint");
    refused(&inpaint(&["--mask", "black.png", "--only-masked"]), 2, "nothing to repaint");
    refused(&inpaint(&["--expand", "1,2,3"]), 2, "four numbers");
    refused(&inpaint(&["--mask", "mask.png", "--only-masked=18446744073709551615"]), 2, "--only-masked");
    let img2img = |strength| task(&folder, "img2img", &["-i", "photo.png", "--strength", strength]);
    for strength in ["-0.1", "1.5", "nan", "x"] {
        refused(&img2img(strength), 2, "expected a number from 0 to 1");
    }
    refused(&img2img("0.2"), 2, "leaves none of 4 steps");
    let wide = |width| task(&folder, "img2img", &["-i", "photo.png", "-H", "64", "-W", width]);
    refused(&wide("0"), 2, "width is 0");
    refused(&wide("100000000000000"), 2, "expected 8 to 4096 pixels");
    assert_eq!(fs::read(at("out.png")).expect("it is still there"), b"mine");
}

#[test]
fn pictures_from_pictures_are_verified_with_the_same_pictures() {
    let folder = prepared();
    for (task_name, flags, inputs) in [
        (
            "img2img",
            &["-i", "photo.png", "-W", "64", "-H", "96", "--resize", "fit", "--strength", "0.5"][..],
            &["-i", "photo.png"][..],
        ),
        (
            "inpaint",
            &[
                "-i",
                "photo.png",
                "--mask",
                "mask.png",
                "--mask-blur",
                "2",
                "--invert-mask",
                "--strength",
                "0.75",
            ],
            &["-i", "photo.png", "--mask", "mask.png"],
        ),
        (
            "inpaint",
            &["-i", "photo.png", "--mask", "mask.png", "--only-masked=4", "-W", "64", "-H", "64"],
            &["-i", "photo.png", "--mask", "mask.png"],
        ),
        (
            "inpaint",
            &["-i", "photo.png", "--mask", "mask.png", "--no-composite"],
            &["-i", "photo.png", "--mask", "mask.png"],
        ),
        ("inpaint", &["-i", "hole.png", "--expand", "8,0,0,16"], &["-i", "hole.png"]),
    ] {
        made(&folder, task_name, flags);
        let verify = [&["verify", "out.png", "-m", "tiny"][..], inputs].concat();
        let run = aquatint(folder.path(), &verify);
        assert_eq!((run.code, run.stdout.as_str()), (0, "equal\n"), "{flags:?}: {}", run.stderr);
        assert!(!run.stderr.contains("warning"), "{}", run.stderr);
        // The settings are taken over, too, and the inputs are given again.
        fs::rename(folder.path().join("out.png"), folder.path().join("first.png")).expect("writable");
        let again =
            [&[task_name, "-m", "tiny", "--from-image", "first.png", "-o", "out.png"][..], inputs].concat();
        let run = aquatint(folder.path(), &again);
        assert_eq!(run.code, 0, "{}", run.stderr);
        let bytes = |name: &str| fs::read(folder.path().join(name)).expect("it was written");
        assert_eq!(bytes("out.png"), bytes("first.png"), "{flags:?}");
    }
    refused(&aquatint(folder.path(), &["verify", "out.png", "-m", "tiny"]), 2, "expected that one with -i");
    let run = aquatint(
        folder.path(),
        &["verify", "out.png", "-m", "tiny", "-i", "photo.png", "--mask", "mask.png"],
    );
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("was made from a picture with the hash"), "{}", run.stderr);
}
