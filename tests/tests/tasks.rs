//! Pictures from pictures: every value within one level of diffusers', at least 99.9 % equal, on
//! every instruction set.
//!
//! `goldens/tasks.py` made the pictures with the folders `sd1` and `sd2`, and with `unet9`, an
//! inpainting UNet in `sd1`'s other parts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use aquatint_kernels::{Isa, Precision};
use aquatint_model::{
    ErrorKind, Generator, Image, ImageFile, ImageToImage, Inpaint, LoadOptions, Mask, Pipeline, Precisions,
    ResizeMode, SamplerChoice, TextToImage,
};
use aquatint_tests::{Golden, alphas_cumprod, json, path, relative_error};
use serde_json::Value;
use tempfile::TempDir;

const EQUAL_SHARE: f64 = 0.999;

fn picture(name: &str) -> Image {
    ImageFile::open(path(&format!("tasks/{name}.png"))).unwrap_or_else(|error| panic!("{error}")).image
}

/// The model folders; that of the inpainting model is put together from `sd1` and `unet9`.
struct Folders {
    inpainting: TempDir,
}

impl Folders {
    fn new() -> Self {
        let inpainting = tempfile::tempdir().expect("a temporary folder");
        let sd1 = path("pipelines/sd1");
        for part in ["model_index.json", "scheduler", "text_encoder", "tokenizer", "vae"] {
            copy(&sd1.join(part), &inpainting.path().join(part));
        }
        copy(&path("tasks/unet9"), &inpainting.path().join("unet"));
        Self { inpainting }
    }

    fn path(&self, name: &str) -> PathBuf {
        match name {
            "unet9" => self.inpainting.path().to_owned(),
            _ => path("pipelines").join(name),
        }
    }

    fn load(&self, name: &str, isa: Isa) -> Pipeline {
        self.load_with(name, LoadOptions { isa, ..LoadOptions::default() })
    }

    fn load_with(&self, name: &str, options: LoadOptions) -> Pipeline {
        Pipeline::load(self.path(name), &options).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

/// Copies a file, or a folder of files.
fn copy(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).expect("a temporary folder is writable");
        return;
    }
    fs::create_dir(to).expect("a temporary folder is writable");
    for entry in fs::read_dir(from).expect("a folder of goldens") {
        let entry = entry.expect("a folder of goldens");
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// The picture that a case of `cases.json` asks for.
fn run(case: &Value, pipeline: &Pipeline) -> Image {
    let word = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let count = |key: &str| case[key].as_u64().expect("a whole number") as usize;
    let number = |key: &str| case[key].as_f64().expect("a number");
    let text = TextToImage {
        prompt: word("prompt"),
        negative_prompt: word("negative_prompt"),
        width: count("width"),
        height: count("height"),
        steps: count("steps"),
        guidance_scale: number("guidance_scale") as f32,
        seed: case["seed"].as_u64().expect("a whole number"),
        sampler: SamplerChoice::parse(case["sampler"].as_str(), case["schedule"].as_str())
            .expect("known names"),
        ..TextToImage::default()
    };
    let image = picture(&format!("inputs/{}", word("image")));
    let only_masked = case["padding"].as_u64().map(|padding| padding as usize);
    // diffusers resizes by itself, without regard to proportions.
    let image = match only_masked {
        Some(_) => image,
        None => image.resized(text.width, text.height, ResizeMode::Stretch),
    };
    let strength = number("strength");
    let made = if case["task"] == "img2img" {
        pipeline.image_to_image(&ImageToImage { text, image, strength }, &mut |_| {})
    } else {
        let mask = Mask::from_picture(&picture(&format!("inputs/{}", word("mask"))));
        let request = Inpaint { text, image, mask, strength, only_masked, keep_outside: None };
        pipeline.inpaint(&request, &mut |_| {})
    };
    made.unwrap_or_else(|error| panic!("{}: {error}", case["name"]))
}

/// The largest difference, and the share of values that are equal.
fn compare(found: &Image, expected: &Image) -> (u8, f64) {
    let size = |picture: &Image| (picture.width(), picture.height());
    assert_eq!(size(found), size(expected));
    let differences = found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b));
    let worst = differences.clone().max().unwrap_or(0);
    let equal = differences.filter(|&difference| difference == 0).count();
    (worst, equal as f64 / found.pixels().len() as f64)
}

#[test]
fn pictures_are_those_of_diffusers() {
    let folders = Folders::new();
    let cases = json("tasks/cases.json");
    let cases = cases.as_array().expect("a list of cases");
    assert!(cases.len() >= 36, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for isa in Isa::available() {
        let mut pipelines: HashMap<&str, Pipeline> = HashMap::new();
        for case in cases {
            let (name, folder) =
                (case["name"].as_str().expect("a name"), case["pipeline"].as_str().expect("a folder"));
            let pipeline = pipelines.entry(folder).or_insert_with(|| folders.load(folder, isa));
            let (worst, equal) = compare(&run(case, pipeline), &picture(&format!("pictures/{name}")));
            let line = format!("{name:22} {isa:8} worst {worst}, equal {:.3} %", 100.0 * equal);
            println!("{line}");
            if worst > 1 || equal < EQUAL_SHARE {
                failures.push(line);
            }
        }
    }
    assert!(failures.is_empty(), "too far from diffusers:\n{}", failures.join("\n"));
}

/// One case of each task and model, with operands rounded or split.
#[test]
fn pictures_in_other_precisions_are_close_to_those_of_diffusers() {
    let folders = Folders::new();
    let cases = json("tasks/cases.json");
    let cases = cases.as_array().expect("a list of cases");
    let [bf16, split] = [Precision::Bf16, Precision::Bf16x3].map(Precisions::all);
    for (precision, least) in [(bf16, 38.0), (Precisions::MIXED, 38.0), (split, 68.0)] {
        for name in ["i_ddim", "i_v_ddim", "m_ddim_all", "m_only_masked", "n_ddim"] {
            let case = cases.iter().find(|case| case["name"] == name).expect("a case of this name");
            let options = LoadOptions { precision, ..LoadOptions::default() };
            let pipeline = folders.load_with(case["pipeline"].as_str().expect("a folder"), options);
            let (found, expected) = (run(case, &pipeline), picture(&format!("pictures/{name}")));
            let pairs = found.pixels().iter().zip(expected.pixels());
            let squares: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
            let psnr = 10.0 * (255.0 * 255.0 * found.pixels().len() as f64 / squares).log10();
            println!("{name}, {precision}: PSNR {psnr:.1} dB");
            assert!(psnr >= least, "{name}, {precision}: PSNR {psnr:.1} dB, expected at least {least}");
        }
    }
}

/// A request for a small, quick inpainting.
fn inpainting() -> Inpaint {
    let text = TextToImage { width: 64, height: 64, steps: 2, ..TextToImage::default() };
    let image = picture("inputs/scene_64x64");
    let mask = Mask::from_picture(&picture("inputs/disc_64x64"));
    Inpaint { text, image, mask, strength: 1.0, only_masked: None, keep_outside: Some(3) }
}

#[test]
fn the_outside_of_the_mask_keeps_its_bits() {
    let pipeline = Folders::new().load("sd1", Isa::best());
    for only_masked in [None, Some(4)] {
        let request = Inpaint { only_masked, ..inpainting() };
        let made = pipeline.inpaint(&request, &mut |_| {}).expect("a picture");
        let mut changed = 0;
        for (i, (new, old)) in
            made.pixels().chunks_exact(3).zip(request.image.pixels().chunks_exact(3)).enumerate()
        {
            if request.mask.repaints(i % 64, i / 64) {
                changed += usize::from(new != old);
            } else {
                assert_eq!(new, old, "pixel {i} lies outside the mask");
            }
        }
        assert!(changed > 500, "only {changed} pixels are new");
    }
}

#[test]
fn encoding_and_decoding_are_those_of_diffusers() {
    let pipeline = Folders::new().load("sd1", Isa::best());
    let golden = Golden::open("stages/sd1.safetensors");
    let latents = golden.tensor::<4>("vae.decode.latents");
    let scaled = latents.clone().map(|x| x * 0.18215);
    let picture = pipeline.decode_latents(scaled.view()).expect("latents of the right shape");
    let expected = Image::from_signed(golden.image("vae.decode.image").view().select(0, 0));
    let (worst, equal) = compare(&picture, &expected);
    assert!(worst <= 1 && equal >= EQUAL_SHARE, "worst {worst}, equal {equal}");

    // The golden's picture is not made of bytes; its nearest bytes are encoded nearly as it is.
    let image = golden.image("vae.encode.image");
    let encoded = pipeline.encode(&Image::from_signed(image.view().select(0, 0))).expect("a picture");
    let moments = golden.tensor::<4>("vae.encode.moments").map(|x| x * 0.18215);
    let mean = moments.view().slice(1, 0..4);
    let error = relative_error(encoded.view(), mean);
    assert!(error < 0.05, "relative error {error}");
}

/// √ᾱ_t·x_0 + √(1 − ᾱ_t)·noise with the betas of Stable Diffusion, in f64.
#[test]
fn noise_is_that_of_the_forward_process() {
    let pipeline = Folders::new().load("sd1", Isa::best());
    let image = picture("inputs/scene_64x64");
    let timesteps = [0, 300, 999];
    let strip = pipeline.noised(&image, &timesteps, 1, false).expect("known timesteps");
    let clean = pipeline.encode(&image).expect("a picture");
    let noise = Generator::new(1).randn(clean.len());
    for (found, t) in strip.iter().zip(timesteps) {
        let alpha = alphas_cumprod()[t];
        let (signal, deviation) = (alpha.sqrt(), (1.0 - alpha).sqrt());
        let mut noise = noise.iter();
        let noised = clean.clone().map(|x| {
            let noise = noise.next().expect("as many as there are latents");
            (signal * f64::from(x) + deviation * f64::from(*noise)) as f32
        });
        let expected = pipeline.decode_latents(noised.view()).expect("latents of the right shape");
        let (worst, equal) = compare(found, &expected);
        assert!(worst <= 1 && equal >= EQUAL_SHARE, "timestep {t}: worst {worst}, equal {equal}");
    }
    let error = pipeline.noised(&image, &[1000], 1, false).expect_err("there is no such timestep");
    assert!(error.to_string().contains("expected 0 to 999"), "{error}");
}

#[test]
fn requests_that_cannot_be_met_are_refused_before_any_work() {
    let folders = Folders::new();
    let pipeline = folders.load("sd1", Isa::best());
    let refused = |made: aquatint_model::Result<Image>, expected: &str| {
        let error = made.expect_err(expected);
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
        assert!(error.to_string().contains(expected), "expected \"{expected}\" in: {error}");
    };
    let Inpaint { text, image, .. } = inpainting();
    let start = |strength, text: &TextToImage| {
        let request = ImageToImage { text: text.clone(), image: image.clone(), strength };
        pipeline.image_to_image(&request, &mut |progress| panic!("work has begun: {progress:?}"))
    };
    for strength in [-0.1, 1.01, f64::NAN] {
        refused(start(strength, &text), "expected a number from 0 to 1");
    }
    refused(start(0.0, &text), "leaves none of 2 steps; expected at least 0.500");
    refused(start(0.4, &text), "leaves none of 2 steps");
    refused(
        start(0.5, &TextToImage { width: 72, ..text.clone() }),
        "the picture is 64×64, the request 72×64",
    );

    let inpaint =
        |request| pipeline.inpaint(&request, &mut |progress| panic!("work has begun: {progress:?}"));
    let black = Mask::from_grey(64, 64, vec![127; 64 * 64]);
    refused(inpaint(Inpaint { mask: black, ..inpainting() }), "nothing to repaint");
    let small = Mask::from_grey(8, 8, vec![255; 64]);
    refused(inpaint(Inpaint { mask: small, ..inpainting() }), "the mask is 8×8 and the picture 64×64");
    refused(inpaint(Inpaint { strength: 0.1, ..inpainting() }), "leaves none");

    let trained_for_it = folders.load("unet9", Isa::best());
    refused(trained_for_it.text_to_image(&text, &mut |_| {}), "this is an inpainting model");
}
