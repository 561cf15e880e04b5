//! The model inside the program: twenty pictures, in f32 within one level of diffusers', in bf16
//! and bf16x3 close to them.
//!
//! `goldens/embedded.py` asked diffusers for them, with the folder `model/embedded` and its own
//! settings.

use aquatint_kernels::{Bf16Gain, Isa, Precision};
use aquatint_model::{EMBEDDED, Image, ImageFile, LoadOptions, Pipeline, Precisions, TextToImage};
use aquatint_tests::{json, path};

const COLUMNS: usize = 5;
const ROWS: usize = 4;

/// The sheet of diffusers' pictures.
fn expected() -> Image {
    ImageFile::open(path("embedded/pictures.png")).expect("a valid PNG").image
}

/// The first `rows` rows of the same sheet, drawn by us.
fn drawn(options: LoadOptions, rows: usize) -> Image {
    let cases = json("embedded/cases.json");
    let cases = cases.as_array().expect("a list of cases");
    assert_eq!(cases.len(), ROWS * COLUMNS);
    let pipeline = Pipeline::load(EMBEDDED, &options).expect("the embedded model can be loaded");
    assert!(pipeline.warnings().is_empty(), "{:?}", pipeline.warnings());
    let draw = |case: &serde_json::Value| {
        let prompt = case["prompt"].as_str().expect("a prompt").to_owned();
        let seed = case["seed"].as_u64().expect("a seed");
        let request = TextToImage { prompt, seed, ..pipeline.defaults() };
        pipeline.text_to_image(&request, &mut |_| {}).expect("a picture")
    };
    let pictures: Vec<Image> = cases.iter().take(rows * COLUMNS).map(draw).collect();
    Image::sheet(&pictures, COLUMNS)
}

/// How many levels each value differs by; `found` may be the upper part of the sheet.
fn differences(found: &Image, expected: &Image) -> Vec<u8> {
    assert!(found.width() == expected.width() && found.height() <= expected.height());
    found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b)).collect()
}

#[test]
fn pictures_of_the_embedded_model_are_those_of_diffusers() {
    let all = Isa::available();
    for (i, &isa) in all.iter().enumerate() {
        let rows = if i + 1 == all.len() { ROWS } else { 1 }; // the slower ones take their time
        let found = drawn(LoadOptions { isa, ..LoadOptions::default() }, rows);
        let worst = differences(&found, &expected()).into_iter().max();
        println!("{isa}: worst {worst:?}");
        assert!(worst <= Some(1), "{isa}: a value differs by {worst:?} levels");
    }
}

/// Where products in bf16 have no unit they are made of f32, slowly, so that one row of pictures
/// must do.
///
/// The mean of the pictures' PSNRs is at least the PSNR of their mean error, which is what is
/// measured here.
#[test]
fn pictures_in_other_precisions_look_the_same() {
    let [bf16, split] = [Precision::Bf16, Precision::Bf16x3].map(Precisions::all);
    let rows = if Isa::best().bf16_gain() == Bf16Gain::None { 1 } else { ROWS };
    for (precision, rows, least, most) in
        [(bf16, rows, 50.0, 30), (Precisions::MIXED, rows, 50.0, 30), (split, 1, 75.0, 1)]
    {
        let found = drawn(LoadOptions { precision, ..LoadOptions::default() }, rows);
        let differences = differences(&found, &expected());
        let squares: f64 = differences.iter().map(|&d| f64::from(d).powi(2)).sum();
        let psnr = 10.0 * (255.0 * 255.0 * differences.len() as f64 / squares).log10();
        let worst = differences.into_iter().max().unwrap_or(u8::MAX);
        println!("{precision}: PSNR {psnr:.1} dB, worst {worst}");
        assert!(psnr >= least, "{precision}: PSNR {psnr:.1} dB, expected at least {least}");
        assert!(worst <= most, "{precision}: a value differs by {worst} levels, expected at most {most}");
    }
}
