//! The tiny VAE (TAESD): diffusers' `AutoencoderTiny` alone and in whole pipelines, and every form
//! in which its files are published.
//!
//! `goldens/tiny_vae.py` made the weights and the pictures.

use std::fs;
use std::path::{Path, PathBuf};

use aquatint_kernels::{Isa, Precision};
use aquatint_model::networks::vae::{Decoder, Encoder, VaeConfig};
use aquatint_model::source::config::ConfigFile;
use aquatint_model::source::{Checkpoint, Schema, VAE, ldm};
use aquatint_model::tools::convert::convert;
use aquatint_model::tools::inspect::inspect;
use aquatint_model::{
    Image, ImageToImage, Inpaint, LoadOptions, Mask, ModelSpec, Pipeline, Precisions, TextToImage,
};
use aquatint_tensor::Tensor;
use aquatint_tests::{Golden, json, path, relative_distance, relative_error};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tempfile::TempDir;

fn spec(vae: PathBuf) -> ModelSpec {
    ModelSpec { model: path("pipelines/sd1"), vae: Some(vae), ..ModelSpec::default() }
}

fn load(spec: ModelSpec) -> Pipeline {
    Pipeline::load(spec, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn picture(name: &str) -> Image {
    let image = image::open(path(name)).expect("a golden picture").into_rgb8();
    Image::from_rgb(image.width() as usize, image.height() as usize, image.into_raw())
}

fn small(seed: u64) -> TextToImage {
    TextToImage {
        prompt: "a fox in the snow".into(),
        width: 64,
        height: 64,
        steps: 6,
        guidance_scale: 5.0,
        seed,
        ..TextToImage::default()
    }
}

/// `sd1` with the golden's VAE in a folder of its own.
fn folder_model(place: &TempDir) -> PathBuf {
    let model = place.path().join("model");
    copy(&path("pipelines/sd1"), &model);
    fs::remove_dir_all(model.join(VAE.name)).expect("it was copied");
    copy(&path("tiny_vae/vae"), &model.join(VAE.name));
    let index = model.join("model_index.json");
    let text = fs::read_to_string(&index).expect("it was copied");
    fs::write(&index, text.replace("AutoencoderKL", "AutoencoderTiny")).expect("writable");
    model
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a folder of goldens").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("writable")),
        }
    }
}

#[test]
fn encoder_and_decoder_are_those_of_diffusers() {
    let golden = Golden::open("tiny_vae/stages.safetensors");
    let folder = path("tiny_vae/vae");
    let config = VaeConfig::open(&folder.join("config.json")).expect("a supported config");
    let weights = Checkpoint::open(&folder, &VAE).expect("valid weights");
    let cases = [(Precisions::default(), 1e-4), (Precisions::MIXED, 8e-3)]
        .into_iter()
        .chain([(Precisions::all(Precision::Bf16), 8e-3), (Precisions::all(Precision::Bf16x3), 2e-5)]);
    for (precision, tolerance) in cases {
        let w = weights.weights().for_precision(precision);
        let encoder = Encoder::load(&w, &config).expect("weights that fit the config");
        let decoder = Decoder::load(&w, &config).expect("weights that fit the config");
        for isa in Isa::available() {
            let encoded = encoder.forward(isa, golden.image("encode.image").view());
            assert!(encoded.logvar.is_none(), "there is nothing to draw");
            let decoded = decoder.forward(isa, golden.image("decode.latents").view());
            for (what, found, expected) in [
                ("encoder", encoded.mean, golden.image("encode.latents")),
                ("decoder", decoded, golden.image("decode.image")),
            ] {
                let error = match precision == Precisions::default() {
                    true => relative_error(found.view(), expected.view()),
                    false => relative_distance(found.view(), expected.view()),
                };
                println!("{what}, {precision}, {isa}: {error:.1e}");
                assert!(error <= tolerance, "{what}, {precision}, {isa}: {error:.1e} > {tolerance:.0e}");
            }
        }
    }
}

#[test]
fn pictures_are_those_of_diffusers() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let pipelines = [load(folder_model(&place).into()), load(spec(path("tiny_vae/vae")))];
    let scene = || picture("tasks/inputs/scene_64x64.png");
    for (task, seed) in [("txt2img", 7), ("img2img", 8), ("inpaint", 9)] {
        for (i, pipeline) in pipelines.iter().enumerate() {
            let text = small(seed);
            let found = match task {
                "txt2img" => pipeline.text_to_image(&text, &mut |_| {}),
                "img2img" => {
                    let request = ImageToImage { text, image: scene(), strength: 0.7 };
                    pipeline.image_to_image(&request, &mut |_| {})
                }
                _ => {
                    let mask = Mask::from_picture(&picture("tasks/inputs/disc_64x64.png"));
                    let image = scene();
                    let request =
                        Inpaint { text, image, mask, strength: 0.8, only_masked: None, keep_outside: None };
                    pipeline.inpaint(&request, &mut |_| {})
                }
            };
            let found = found.expect("a picture");
            let golden = picture(&format!("tiny_vae/pictures/{task}.png"));
            let differences = found.pixels().iter().zip(golden.pixels()).map(|(a, b)| a.abs_diff(*b));
            let worst = differences.clone().max().unwrap_or(0);
            let equal = differences.filter(|&d| d == 0).count() as f64 / found.pixels().len() as f64;
            println!("{task}, {i}: worst {worst}, equal {equal:.5}");
            assert!(worst <= 1 && equal >= 0.999, "{task}, {i}: worst {worst}, equal {equal:.5}");
            let named = found.parameters().and_then(|parameters| parameters.get("VAE"));
            assert_eq!(named, [None, Some("vae")][i], "a VAE in place of the model's is named");
        }
    }
}

#[test]
fn a_folder_is_inspected_and_converted() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let model = folder_model(&place);
    let report = inspect(model.clone()).expect("a model");
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let vae = report.parts.iter().find(|part| part.name == VAE.name).expect("a VAE");
    assert!(vae.notes[0].starts_with("TAESD"), "{:?}", vae.notes);
    assert!(report.accounts.iter().all(|account| account.unknown.is_empty()), "{:?}", report.accounts);

    let again = place.path().join("again");
    convert(model.clone(), &again, None).expect("a folder");
    let [first, second] =
        [model, again].map(|model| load(model.into()).text_to_image(&small(3), &mut |_| {}).expect("made"));
    assert!(first.pixels() == second.pixels(), "the converted folder makes another picture");
}

/// The names in diffusers' files, and those that were published first.
#[test]
fn names_are_those_of_the_first_form() {
    let names = json("tiny_vae/names.json");
    let names = names.as_object().expect("a table");
    let schema = full_size();
    assert_eq!(names.len(), schema.tensors().len());
    for tensor in schema.tensors() {
        let expected = names[&tensor.name].as_str();
        assert_eq!(ldm::taesd(&tensor.name).as_deref(), expected, "{}", tensor.name);
    }
}

/// What the published size asks for.
fn full_size() -> Schema<'static> {
    let config = fs::read_to_string(path("../../model/assets/taesd/config.json")).expect("an asset");
    let config = ConfigFile::parse(Path::new("taesd"), &config).and_then(VaeConfig::from_config);
    let config = config.expect("the published config");
    let schema = Schema::new();
    Encoder::load(&schema.weights(), &config).expect("a schema has everything");
    Decoder::load(&schema.weights(), &config).expect("a schema has everything");
    schema
}

/// The published size with weights of a formula, as a file under other names; tensors without a
/// name are left out.
fn write(file: &Path, name_of: impl Fn(&str) -> Option<String>) {
    let mut tensors = Vec::new();
    for spec in full_size().tensors() {
        let Some(name) = name_of(&spec.name) else { continue };
        let start =
            spec.name.bytes().fold(7u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let bound = (1.5 / spec.shape[1..].iter().product::<usize>().max(1) as f32).sqrt();
        let numbers = (0..spec.shape.iter().product::<usize>() as u32).map(|i| {
            let mixed = start.wrapping_add(i).wrapping_mul(0x9E37_79B9);
            bound * ((mixed ^ (mixed >> 15)) as f32 / u32::MAX as f32 * 2.0 - 1.0)
        });
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        tensors.push((name, spec.shape, bytes));
    }
    assert!(!tensors.is_empty());
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).expect("bytes of that shape"))
    });
    serialize_to_file(views, None, file).expect("writable");
}

/// Latents of noise, decoded; and a picture, encoded.
fn both_ways(pipeline: &Pipeline) -> (Image, Vec<f32>) {
    let latents = latents();
    let decoded = pipeline.decode_latents(latents.view()).expect("latents of the right shape");
    let encoded = pipeline.encode(&picture("tasks/inputs/scene_64x64.png")).expect("a picture");
    (decoded, encoded.into_vec())
}

fn latents() -> Tensor<f32, 4> {
    Tensor::from_vec([1, 4, 3, 5], (0..60).map(|i| (i * 37 % 60) as f32 / 15.0 - 2.0).collect())
}

#[test]
fn every_published_form_is_the_same_vae() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| place.path().join(name);
    for folder in ["diffusers", "halves"] {
        fs::create_dir(at(folder)).expect("writable");
    }
    let own = |name: &str| Some(name.to_owned());
    write(&at("diffusers/diffusion_pytorch_model.safetensors"), own);
    fs::copy(path("../../model/assets/taesd/config.json"), at("diffusers/config.json")).expect("writable");
    write(&at("one.safetensors"), own);
    write(&at("both.safetensors"), ldm::taesd);
    write(&at("comfy.safetensors"), |name| Some(format!("first_stage_model.{}", ldm::taesd(name)?)));
    for half in ["encoder", "decoder"] {
        let prefix = format!("taesd_{half}.");
        let inner = |name: &str| Some(ldm::taesd(name)?.strip_prefix(&prefix)?.to_owned());
        write(&at(&format!("halves/taesd_{half}.safetensors")), inner);
    }
    let expected = both_ways(&load(spec(at("diffusers"))));
    for form in [
        "one.safetensors",
        "both.safetensors",
        "comfy.safetensors",
        "halves",
        "halves/taesd_decoder.safetensors",
        "halves/taesd_encoder.safetensors",
    ] {
        assert!(both_ways(&load(spec(at(form)))) == expected, "{form} is another VAE");
    }

    // A single file of the whole model, as ComfyUI reads it, and back.
    let (file, folder) = (at("model.safetensors"), at("model"));
    convert(spec(at("halves")), &file, None).expect("a single file");
    let back = ModelSpec { config: Some(path("pipelines/sd1")), model: file.clone(), ..ModelSpec::default() };
    assert!(both_ways(&load(back.clone())) == expected, "the single file holds another VAE");
    convert(back, &folder, None).expect("a folder");
    assert!(both_ways(&load(folder.into())) == expected, "the folder holds another VAE");

    // A decoder alone decodes, and says what it lacks.
    let alone = at("alone.safetensors");
    fs::copy(at("halves/taesd_decoder.safetensors"), &alone).expect("writable");
    let pipeline = load(spec(alone));
    assert!(pipeline.decode_latents(latents().view()).expect("a picture") == expected.0);
    let error = pipeline.encode(&picture("tasks/inputs/scene_64x64.png")).expect_err("no encoder");
    assert!(error.to_string().contains("no tensor `encoder.layers.0.weight`"), "{error}");
}

#[test]
fn previews_are_made_by_the_tiny_vae_and_pictures_by_the_other() {
    let sd1 = || ModelSpec { model: path("pipelines/sd1"), ..ModelSpec::default() };
    let plain = load(sd1());
    let latents = latents();
    let look = |pipeline: &Pipeline| pipeline.decode_preview(latents.view());
    assert!(!plain.has_tiny_vae());
    let error = look(&plain).expect_err("there is no tiny VAE").to_string();
    assert!(error.contains("no tiny VAE"), "{error}");
    let previews = load(ModelSpec { preview_vae: Some(path("tiny_vae/vae")), ..sd1() });
    let tiny = load(spec(path("tiny_vae/vae")));
    let decode = |pipeline: &Pipeline| pipeline.decode_latents(latents.view()).expect("a picture");
    assert!(decode(&previews) == decode(&plain) && decode(&tiny) != decode(&plain));
    for pipeline in [&previews, &tiny] {
        assert!(look(pipeline).expect("a preview") == decode(&tiny));
    }
}
