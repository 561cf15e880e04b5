//! Larger pictures: latents in another size as torch's `interpolate` makes them, and pictures with
//! a second pass as two of diffusers' pipelines make them. `goldens/hires.py` asked both.

use aquatint_kernels::Isa;
use aquatint_model::generate::{Hires, LatentMode, Task, Upscaler};
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{Image, LoadOptions, Pipeline, SamplerChoice, TextToImage};
use aquatint_tensor::Tensor;
use aquatint_tests::{Golden, json, path, relative_error};

const MODES: [(&str, LatentMode); 6] = [
    ("Latent", LatentMode::Bilinear),
    ("Latent (antialiased)", LatentMode::BilinearAntialiased),
    ("Latent (bicubic)", LatentMode::Bicubic),
    ("Latent (bicubic antialiased)", LatentMode::BicubicAntialiased),
    ("Latent (nearest)", LatentMode::Nearest),
    ("Latent (nearest-exact)", LatentMode::NearestExact),
];

#[test]
fn latents_are_enlarged_as_torch_does() {
    let golden = Golden::open("hires/latents.safetensors");
    for i in 0..4 {
        let latents: Tensor<f32, 4> = golden.tensor(&format!("{i}/latents"));
        let [_, _, height, width] = latents.shape();
        for (label, mode) in MODES {
            let expected: Tensor<f32, 4> = golden.tensor(&format!("{i}/{label}"));
            let [.., new_height, new_width] = expected.shape();
            let found = mode.resize(latents.as_slice(), [height, width], [new_height, new_width]);
            let found = Tensor::from_vec(expected.shape(), found);
            let error = relative_error(found.view(), expected.view());
            // torch itself is that far from the same in f64.
            assert!(error < 6e-6, "{label}, {:?} to {:?}: {error:e}", latents.shape(), expected.shape());
        }
    }
}

fn pipeline(isa: Isa) -> Pipeline {
    let options = LoadOptions { isa, ..LoadOptions::default() };
    Pipeline::load(path("pipelines/sd1"), &options).expect("a model")
}

#[test]
fn second_passes_are_those_of_diffusers() {
    for isa in Isa::available() {
        let pipeline = pipeline(isa);
        // The arithmetic of other instruction sets is compared elsewhere; one case shows that they
        // go this way.
        let cases = if isa == Isa::best() { usize::MAX } else { 1 };
        for case in json("hires/cases.json").as_array().expect("a list").iter().take(cases) {
            let name = case["name"].as_str().expect("a name");
            let text = |key: &str| case[key].as_str().expect("a text");
            let count = |key: &str| case[key].as_u64().expect("a whole number");
            let number = |key: &str| case[key].as_f64().expect("a number");
            let request = TextToImage {
                prompt: text("prompt").into(),
                negative_prompt: text("negative_prompt").into(),
                width: count("width") as usize,
                height: count("height") as usize,
                steps: count("steps") as usize,
                guidance_scale: number("guidance_scale") as f32,
                seed: count("seed"),
                sampler: SamplerChoice::parse(Some(text("sampler")), Some(text("schedule"))).expect("known"),
                hires: Some(Hires {
                    scale: number("scale"),
                    steps: count("hires_steps") as usize,
                    strength: number("strength"),
                    upscaler: text("upscaler").parse().expect("an upscaler"),
                }),
                ..TextToImage::default()
            };
            let found = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
            let golden = image::open(path("hires/pictures").join(format!("{name}.png"))).expect("a PNG");
            let golden = golden.into_rgb8();
            assert_eq!((found.width() as u32, found.height() as u32), golden.dimensions(), "{name}");
            let differences = found.pixels().iter().zip(golden.as_raw()).map(|(a, b)| a.abs_diff(*b));
            let equal = differences.clone().filter(|&d| d == 0).count() as f64 / golden.as_raw().len() as f64;
            let worst = differences.max();
            // Where the first picture is rounded to bytes, a value between two of them may fall to
            // either side.
            let enough = if text("upscaler").starts_with("Latent") { 0.999 } else { 0.995 };
            assert!(worst <= Some(1) && equal >= enough, "{name}, {isa}: {worst:?} {equal}");
        }
    }
}

fn request() -> TextToImage {
    TextToImage {
        prompt: "a fox".into(),
        width: 32,
        height: 32,
        steps: 2,
        seed: 3,
        hires: Some(Hires::default()),
        ..TextToImage::default()
    }
}

/// The text says how the picture was made, and leads to the same one.
#[test]
fn a_picture_of_two_passes_says_so_and_is_made_again() {
    let pipeline = pipeline(Isa::best());
    let task = Task::TextToImage(request());
    let two = pipeline.generate(&task, 2, &mut |_| {}).expect("two pictures");
    let text = two[1].parameters().expect("our pictures have them").to_string();
    for part in
        ["Size: 32x32", "Denoising strength: 0.7", "Hires upscale: 2, Hires upscaler: Latent, Version"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let mut again = TextToImage::default();
    Parameters::parse(&text).apply(&mut again).expect("it has a meaning");
    let alone = pipeline.text_to_image(&again, &mut |_| {}).expect("a picture");
    assert_eq!(alone.pixels(), two[1].pixels(), "alone and in a batch");
    let digest = |image: &Image| image.parameters().and_then(|p| p.get("Steps digest").map(str::len));
    // PNDM makes a call more than steps, in both passes.
    assert_eq!(digest(&alone), Some(4 * 6));
}

#[test]
fn what_cannot_be_enlarged_is_refused_before_any_work() {
    let pipeline = pipeline(Isa::best());
    for (hires, message) in [
        (Hires { scale: 0.5, ..Hires::default() }, "enlarges 0.5 times; expected 1 to 16"),
        (Hires { scale: f64::NAN, ..Hires::default() }, "enlarges NaN times"),
        (Hires { strength: 0.0, ..Hires::default() }, "strength of the second pass is 0; expected above 0"),
        (Hires { scale: 16.0, ..Hires::default() }, "makes 8192×8192 of it; expected up to 4096"),
        (Hires { steps: 60_000, strength: 0.5, ..Hires::default() }, "steps"),
    ] {
        let request = TextToImage { width: 512, height: 512, hires: Some(hires.clone()), ..request() };
        let error = pipeline.text_to_image(&request, &mut |_| {}).expect_err("it cannot be made").to_string();
        assert!(error.contains(message), "{hires:?}: {error}");
    }
    let lanczos = Hires { upscaler: Upscaler::Lanczos, ..Hires::default() };
    let sigmas = TextToImage { hires: Some(lanczos), sigmas: vec![9.0, 1.0], ..request() };
    let error = pipeline.text_to_image(&sigmas, &mut |_| {}).expect_err("two schedules").to_string();
    assert!(error.contains("those of the first pass"), "{error}");
}
