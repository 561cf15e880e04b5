//! Upscalers against spandrel's networks, in every spelling and from both kinds of file;
//! `goldens/upscalers.py` made them.

use aquatint_kernels::Isa;
use aquatint_model::generate::{Hires, Upscaler};
use aquatint_model::networks::upscaler::{Tiles, UpscaleModel};
use aquatint_model::{Image, LoadOptions, Pipeline, Precisions, TextToImage};
use aquatint_tests::{Golden, path, relative_error};

const FILES: [(&str, usize); 8] = [
    ("numbered_x4.pth", 4),
    ("numbered_x1.pth", 1),
    ("trunk_x2.safetensors", 2),
    ("body_x4.pth", 4),
    ("body_unshuffled_x2.pth", 2),
    ("body_unshuffled_x1.safetensors", 1),
    ("compact_x4.pth", 4),
    ("compact_x2.safetensors", 2),
];

fn open(name: &str) -> UpscaleModel {
    let file = path("upscalers").join(name);
    UpscaleModel::open(file, Precisions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn networks_are_those_of_spandrel() {
    let golden = Golden::open("upscalers/outputs.safetensors");
    for (name, scale) in FILES {
        let model = open(name);
        assert_eq!(model.scale(), scale, "{name}");
        for isa in Isa::available() {
            let found = model.forward(isa, golden.image("input"));
            let error = relative_error(found.view(), golden.image(name).view());
            assert!(error < 3e-5, "{name}, {isa}: {error:e}");
        }
    }
}

/// A picture with structure in it.
fn picture(width: usize, height: usize) -> Image {
    let value = |i: usize| {
        let (y, x, c) = (i / 3 / width, i / 3 % width, i % 3);
        let wave = (0.3 * x as f32 + c as f32).sin() + (0.21 * y as f32 - c as f32).cos();
        (128.0 + 50.0 * wave + (i * 7919 % 13) as f32) as u8
    };
    Image::from_rgb(width, height, (0..3 * width * height).map(value).collect())
}

/// The small networks reach 35 pixels at most, those that begin with squares of pixels as many
/// times farther as the squares are wide, but hardly see them.
#[test]
fn tiles_with_enough_around_them_show_no_seam() {
    let (picture, isa) = (picture(122, 14), Isa::best());
    for (name, scale) in FILES {
        let model = open(name);
        let whole = Tiles { kept: 1000, overlap: 0 };
        let whole = model.upscale(isa, &picture, whole).expect("finite numbers");
        assert_eq!((whole.width(), whole.height()), (scale * 122, scale * 14), "{name}");
        let apart = |tiles| {
            let tiled = model.upscale(isa, &picture, tiles).expect("finite numbers");
            let apart = whole.pixels().iter().zip(tiled.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
            apart.expect("pixels")
        };
        assert!(apart(Tiles { kept: 32, overlap: 36 }) <= 1, "{name}");
        assert!(apart(Tiles { kept: 32, overlap: 0 }) > 1, "{name}: without overlap there are seams");
    }
}

#[test]
fn a_second_pass_can_be_enlarged_by_a_network() {
    let pipeline = Pipeline::load(path("pipelines/sd1"), &LoadOptions::default()).expect("a model");
    let with = |upscaler: Upscaler| {
        let hires = Some(Hires { scale: 1.5, upscaler, steps: 1, ..Hires::default() });
        let request = TextToImage { width: 32, height: 32, steps: 1, hires, ..TextToImage::default() };
        pipeline.text_to_image(&request, &mut |_| {}).expect("a picture")
    };
    let file = path("upscalers/compact_x2.safetensors");
    let network = with(file.to_str().expect("a path in Unicode").parse().expect("a file"));
    assert_eq!((network.width(), network.height()), (48, 48));
    assert_ne!(network.pixels(), with(Upscaler::Lanczos).pixels());
    let text = network.parameters().expect("ours have them").to_string();
    assert!(text.contains("Hires upscaler: compact_x2"), "{text}");
}

#[test]
fn what_is_no_upscaler_is_named() {
    for (file, message) in [
        ("hires/latents.safetensors", "no upscaler that is known here"),
        ("pipelines/sd1/model_index.json", "not a valid safetensors file"),
        ("single_files/missing.pth", "missing.pth"),
    ] {
        let error = UpscaleModel::open(path(file), Precisions::default()).err().expect("it is none");
        assert!(error.to_string().contains(message), "{error}");
    }
}
