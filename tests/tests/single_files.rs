//! Single files: every variant makes the picture that diffusers' `from_single_file` makes of it.
//!
//! `goldens/single_files.py` made the pictures and wrote down what each variant holds;
//! `aquatint_tests::single_files` writes the files. Pickles are read whole, in every form that
//! torch has; hostile ones are refused.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use aquatint_model::samplers::SchedulerConfig;
use aquatint_model::source::ldm::{self, UNetNames};
use aquatint_model::source::{TensorFile, UNET};
use aquatint_model::tools::convert::convert;
use aquatint_model::{
    Image, Inpaint, LoadOptions, Mask, ModelSpec, Pipeline, SamplerChoice, Task, TextToImage,
};
use aquatint_tests::{json, path, single_files};
use serde_json::Value;
use tempfile::TempDir;

/// The settings of a variant's folder, and a place for files.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("model.safetensors")
    }

    /// The folder whose settings a file is given: `unet9` is `sd1` with another UNet.
    fn settings(&self, name: &str) -> PathBuf {
        match name {
            "dummy" => path("dummy"),
            "unet9" => {
                let settings = self.folder.path().join("settings");
                copy(&path("pipelines/sd1"), &settings);
                copy(&path("tasks/unet9"), &settings.join(UNET.name));
                settings
            }
            name => path("pipelines").join(name),
        }
    }
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

fn load(spec: ModelSpec) -> Pipeline {
    let name = spec.model.display().to_string();
    Pipeline::load(spec, &LoadOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The picture that `REQUESTS` in the script asks for.
fn picture(pipeline: &Pipeline, folder: &str) -> Image {
    let (sampler, side, steps, guidance_scale) = match folder {
        "sd1" => ("pndm", 64, 10, 7.5),
        "sd2" => ("ddim", 96, 10, 7.5),
        _ => ("pndm", 64, 6, 6.0),
    };
    let request = TextToImage {
        prompt: "a fox in the snow".into(),
        width: side,
        height: side,
        steps,
        guidance_scale,
        seed: 7,
        sampler: SamplerChoice::parse(Some(sampler), Some("normal")).expect("known names"),
        ..TextToImage::default()
    };
    pipeline.text_to_image(&request, &mut |_| {}).unwrap_or_else(|error| panic!("{folder}: {error}"))
}

fn assert_close(name: &str, found: &Image, golden: &str) {
    let golden = image::open(path(golden)).expect("a golden picture").into_rgb8();
    assert_eq!(found.pixels().len(), golden.as_raw().len(), "{name}");
    let differences = found.pixels().iter().zip(golden.as_raw()).map(|(a, b)| a.abs_diff(*b));
    let worst = differences.clone().max().unwrap_or(0);
    let equal =
        differences.filter(|&difference| difference == 0).count() as f64 / found.pixels().len() as f64;
    println!("{name}: {worst} levels, {equal:.5} equal");
    assert!(worst <= 1 && equal >= 0.999, "{name}: {worst} levels, {equal:.5} equal");
}

fn cases() -> Vec<Value> {
    json("single_files/cases.json").as_array().expect("a list").clone()
}

fn spec(case: &Value, place: &Place) -> ModelSpec {
    let settings = place.settings(case["folder"].as_str().expect("a folder"));
    let lacks = |part: &str| {
        let list = case["lacks"].as_array().expect("a list");
        list.iter().any(|lacking| lacking == part).then(|| settings.clone())
    };
    ModelSpec {
        model: place.file(),
        vae: lacks("vae"),
        text_encoder: lacks(aquatint_model::source::TEXT_ENCODER.name),
        ema: case["ema"] == true,
        config: Some(settings),
        ..ModelSpec::default()
    }
}

#[test]
fn each_variant_makes_the_picture_of_diffusers() {
    let mut made = 0;
    for case in cases() {
        let (name, folder) =
            (case["name"].as_str().expect("a name"), case["folder"].as_str().expect("a folder"));
        let lacks_unet = case["lacks"].as_array().expect("a list").iter().any(|lacking| lacking == UNET.name);
        if folder == "unet9" || lacks_unet {
            continue; // below
        }
        let place = Place::new();
        single_files::write(name, &place.file());
        let pipeline = load(spec(&case, &place));
        // Every tensor is used, or its reason is known; of two sets of weights the report says
        // which are taken.
        let reported = pipeline.warnings().iter().filter(|warning| warning.contains("(EMA)")).count();
        assert_eq!(
            (pipeline.warnings().len(), reported),
            (reported, usize::from(name == "sd1_ema")),
            "{name}"
        );
        assert_close(name, &picture(&pipeline, folder), case["picture"].as_str().expect("a picture"));
        made += 1;
    }
    assert!(made >= 24, "{made} variants");
}

/// Its golden is one of `tasks.rs`, where the folder makes it; the file must make the same, bit for
/// bit.
#[test]
fn an_inpainting_model() {
    let case = single_files::case("unet9");
    let place = Place::new();
    single_files::write("unet9", &place.file());
    let spec = spec(&case, &place);
    let folder = ModelSpec::from(spec.config.clone().expect("a folder"));
    let picture = |pipeline: &Pipeline| {
        let text = TextToImage { width: 64, height: 64, steps: 3, ..pipeline.defaults() };
        let inpaint = Inpaint {
            text,
            image: Image::from_rgb(64, 64, (0..3 * 64 * 64).map(|i| (i % 251) as u8).collect()),
            mask: Mask::from_grey(64, 64, (0..64 * 64).map(|i| if i % 64 < 32 { 255 } else { 0 }).collect()),
            strength: 1.0,
            only_masked: None,
            keep_outside: None,
        };
        let mut pictures = pipeline.generate(&Task::Inpaint(inpaint), 1, &mut |_| {}).expect("a picture");
        pictures.remove(0).pixels().to_vec()
    };
    assert_eq!(picture(&load(spec)), picture(&load(folder)));
}

#[test]
fn a_component_that_lacks_is_named() {
    for (variant, lacks) in [
        ("sd1_no_vae", "holds text encoder and UNet, but no VAE"),
        ("sd1_no_text_encoder", "holds UNet and VAE, but no text encoder"),
        ("sd1_vae_without_prefix", "holds VAE, but no UNet"),
    ] {
        let place = Place::new();
        single_files::write(variant, &place.file());
        let spec = ModelSpec { config: Some(path("pipelines/sd1")), ..ModelSpec::from(place.file()) };
        let error =
            Pipeline::load(spec, &LoadOptions::default()).map(drop).expect_err("it lacks a component");
        assert!(error.to_string().contains(lacks), "{variant}: {error}");
    }
}

#[test]
fn a_family_is_recognised_by_shapes() {
    let place = Place::new();
    single_files::write("sd1", &place.file());
    let error = Pipeline::load(place.file(), &LoadOptions::default()).map(drop).expect_err("too small");
    assert!(error.to_string().contains("attends to texts of 32 channels; expected 768"), "{error}");
}

#[test]
fn pickles_make_pictures() {
    for name in ["dummy_zip.ckpt", "dummy_legacy.ckpt"] {
        let spec =
            ModelSpec { config: Some(path("dummy")), ..ModelSpec::from(path("single_files").join(name)) };
        let mut pipeline = load(spec);
        assert_eq!(pipeline.warnings(), [""; 0], "{name}");
        let config = SchedulerConfig::load(path("dummy/scheduler/scheduler_config.json")).expect("a config");
        pipeline.set_scheduler(config.with("steps_offset", 1).with("clip_sample", false));
        assert_close(name, &picture(&pipeline, "dummy"), "single_files/pictures/dummy.png");
    }
}

#[test]
fn every_form_of_a_pickled_tensor() {
    let expected = TensorFile::open(&path("single_files/forms.safetensors")).expect("a golden");
    for name in ["forms_zip.pt", "forms_legacy.pt"] {
        let found =
            TensorFile::open(&path("single_files").join(name)).unwrap_or_else(|error| panic!("{error}"));
        for tensor in expected.tensors() {
            let other = found.tensor(tensor.name).unwrap_or_else(|| panic!("{name}: no `{}`", tensor.name));
            assert_eq!((other.dtype, other.shape), (tensor.dtype, tensor.shape), "{name}: `{}`", tensor.name);
            match tensor.to_f32() {
                Some(numbers) => assert_eq!(other.to_f32(), Some(numbers), "{name}: `{}`", tensor.name),
                None => assert_eq!(other.bytes, tensor.bytes, "{name}: `{}`", tensor.name),
            }
        }
        assert_eq!(found.tensors().count(), expected.tensors().count(), "{name}");
    }
}

/// Cut off at each of its bytes, a file is refused or is whole; it never panics.
#[test]
fn truncated_pickles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("cut.pt");
    for name in ["forms_zip.pt", "forms_legacy.pt"] {
        let bytes = fs::read(path("single_files").join(name)).expect("a golden");
        for length in 1..bytes.len() {
            fs::write(&file, &bytes[..length]).expect("writable");
            assert!(TensorFile::open(&file).is_err(), "{name}: {length} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn hostile_pickles() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("hostile.pt");
    let cases = json("single_files/hostile.json");
    for case in cases.as_array().expect("a list") {
        let name = case["name"].as_str().expect("a name");
        let mut bytes = decoded(case["file"].as_str().or(case["zlib"].as_str()).expect("a file"));
        if case["zlib"].is_string() {
            let packed = std::mem::take(&mut bytes);
            flate2::read::ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("zlib");
        }
        fs::write(&file, &bytes).expect("writable");
        let start = std::time::Instant::now();
        match (TensorFile::open(&file), case["refused_global"].as_str()) {
            (Ok(opened), None) => assert_eq!(opened.tensors().count(), 0, "{name}: tensors of nowhere"),
            (Ok(_), Some(global)) => panic!("{name}: `{global}` was not refused"),
            (Err(error), Some(global)) => {
                assert!(error.to_string().contains(&format!("`{global}`")), "{name}: {error}");
            }
            (Err(error), None) => assert!(error.to_string().len() < 500, "{name}: {error}"),
        }
        assert!(start.elapsed().as_secs() < 5, "{name} takes {:?}", start.elapsed());
    }
}

/// All names of SD 1.5 and 2.1, on which diffusers' converters agree.
#[test]
fn names_of_published_models() {
    let sd = UNetNames { layers_per_block: 2, up_attention: vec![false, true, true, true] };
    let golden = json("single_files/names.json");
    let pairs = |network: &str| golden[network].as_object().expect("names").clone();
    for (ldm, diffusers) in pairs("unet") {
        assert_eq!(sd.translate(diffusers.as_str().expect("a name")), Some(ldm));
    }
    for (name, diffusers) in pairs("vae") {
        assert_eq!(ldm::vae(diffusers.as_str().expect("a name"), 4), Some(name));
    }
}

/// A folder becomes the file that the oracle wrote of it, and that a folder which makes the same
/// picture.
#[test]
fn folders_become_files_and_folders_again() {
    for (folder, variant, golden) in [
        ("sd1", "sd1_no_position_ids", "pipelines/pictures/pndm.png"),
        ("sd2", "sd2", "pipelines/pictures/v_ddim.png"),
    ] {
        let place = Place::new();
        convert(path("pipelines").join(folder), &place.file(), None)
            .unwrap_or_else(|error| panic!("{error}"));
        let written = single_files::read(&[place.file()]);
        assert_eq!(single_files::case(variant)["sha256"], single_files::sha256(&written), "{folder}");

        let again = place.folder.path().join("again");
        let spec =
            ModelSpec { config: Some(path("pipelines").join(folder)), ..ModelSpec::from(place.file()) };
        convert(spec, &again, None).unwrap_or_else(|error| panic!("{error}"));
        let pipeline = load(ModelSpec::from(&again));
        assert_eq!(pipeline.warnings(), [""; 0], "{folder}");
        assert_close(folder, &picture(&pipeline, folder), golden);
        let error = convert(place.file(), &place.file(), None).expect_err("it exists").to_string();
        assert!(error.contains("expected"), "{error}");
    }
}

/// Base64.
fn decoded(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|&letter| letter != b'=').collect();
    let three = |four: &[u8]| -> Vec<u8> {
        let bits = four.iter().fold(0u32, |bits, &letter| bits << 6 | u32::from(value(letter)));
        let bits = bits << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    letters.chunks(4).flat_map(three).collect()
}
