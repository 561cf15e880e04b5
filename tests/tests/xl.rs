//! Pictures of Stable Diffusion XL: every value within one level of diffusers', at least 99.9 % of
//! them equal, on every instruction set.
//!
//! `goldens/xl.py` made three small models (base, 9-channel inpainting with SSD-1B's depths,
//! refiner) and, with diffusers' `StableDiffusionXLPipeline`, `...Img2ImgPipeline` and
//! `...InpaintPipeline`, one picture for each entry of `cases.json`. The refiner and the inpainting
//! model have a UNet of their own and share the rest. `goldens/xl_files.py` has the names of files:
//! all tensors at full size, single files as `from_single_file` reads them, adapters.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use aquatint_kernels::Isa;
use aquatint_model::generate::SizeConditions;
use aquatint_model::samplers::SchedulerConfig;
use aquatint_model::source::adapters::LoraSpec;
use aquatint_model::source::{StoredType, TensorFile};
use aquatint_model::tools::convert::convert;
use aquatint_model::tools::random_model::Architecture;
use aquatint_model::{
    Image, ImageToImage, Inpaint, LoadOptions, Mask, ModelSpec, Pipeline, PromptSyntax, Task, TextToImage,
};
use aquatint_tests::{json, path};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The three model folders, whole.
struct Folders(TempDir);

impl Folders {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = path("xl/base");
        for name in ["base", "inpaint", "refiner"] {
            copy(&base, &folder.path().join(name));
            if name != "base" {
                fs::remove_dir_all(folder.path().join(name).join("unet")).expect("it was just written");
                copy(&path("xl").join(name), &folder.path().join(name));
            }
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a writable folder");
    for entry in fs::read_dir(from).expect("a golden folder").flatten() {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a writable folder")),
        }
    }
}

fn picture(name: &str) -> Image {
    let image = image::open(path(name)).expect("a valid PNG").into_rgb8();
    Image::from_rgb(image.width() as usize, image.height() as usize, image.into_raw())
}

fn mask(name: &str) -> Mask {
    let image = image::open(path(name)).expect("a valid PNG").into_luma8();
    Mask::from_grey(image.width() as usize, image.height() as usize, image.into_raw())
}

fn request(case: &Value, pipeline: &Pipeline) -> TextToImage {
    let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let count = |key: &str| case[key].as_u64().expect("a whole number") as usize;
    let more = &case["more"];
    // diffusers has heights first, and tops.
    let pair = |key: &str| {
        let pair = more[key].as_array()?;
        let side = |i: usize| pair[i].as_u64().expect("a whole number") as usize;
        Some([side(1), side(0)])
    };
    let score = |key: &str| more[key].as_f64().map(|score| score as f32);
    TextToImage {
        prompt: text("prompt"),
        negative_prompt: text("negative_prompt"),
        prompt_syntax: if more["a1111"] == true { PromptSyntax::A1111 } else { PromptSyntax::Plain },
        clip_skip: 1 + more["clip_skip"].as_u64().unwrap_or(0) as usize,
        width: count("width"),
        height: count("height"),
        steps: count("steps"),
        guidance_scale: case["guidance_scale"].as_f64().expect("a number") as f32,
        seed: count("seed") as u64,
        size_conditions: SizeConditions {
            original: pair("original_size"),
            crop: pair("crops_coords_top_left"),
            target: pair("target_size"),
            negative_original: pair("negative_original_size"),
            negative_crop: pair("negative_crops_coords_top_left"),
            negative_target: pair("negative_target_size"),
            aesthetic_score: score("aesthetic_score"),
            negative_aesthetic_score: score("negative_aesthetic_score"),
        },
        refiner_at: more["refiner_at"].as_f64(),
        ..pipeline.defaults()
    }
}

fn task(case: &Value, pipeline: &Pipeline) -> Task {
    let text = request(case, pipeline);
    let strength = case["more"]["strength"].as_f64().unwrap_or(1.0);
    let image = || picture("tasks/inputs/scene_64x64.png");
    match case["kind"].as_str() {
        Some("text") => Task::TextToImage(text),
        Some("image") => Task::ImageToImage(ImageToImage { text, image: image(), strength }),
        _ => Task::Inpaint(Inpaint {
            text,
            image: image(),
            mask: mask("tasks/inputs/disc_64x64.png"),
            strength,
            only_masked: None,
            keep_outside: None,
        }),
    }
}

/// A pipeline for a case; with its refiner if the case has one.
fn load(folders: &Folders, case: &Value, isa: Isa) -> Pipeline {
    let refined = case["more"]["refiner_at"].is_number();
    let spec = ModelSpec {
        refiner: refined.then(|| folders.path("refiner")),
        ..ModelSpec::from(folders.path(case["folder"].as_str().expect("a folder")))
    };
    let options = LoadOptions { isa, keep: false, ..LoadOptions::default() };
    let mut pipeline = Pipeline::load(spec, &options).unwrap_or_else(|error| panic!("{error}"));
    if case["scheduler"].as_object().is_some_and(|settings| !settings.is_empty()) {
        let text = case["scheduler"].to_string();
        pipeline.set_scheduler(SchedulerConfig::from_json(&text, "cases.json").expect("supported"));
    }
    pipeline
}

fn compare(found: &Image, expected: &Image) -> (u8, f64) {
    let pairs = || found.pixels().iter().zip(expected.pixels());
    let worst = pairs().map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0);
    let equal = pairs().filter(|(a, b)| a == b).count();
    (worst, equal as f64 / expected.pixels().len() as f64)
}

#[test]
fn pictures_are_those_of_diffusers() {
    let (folders, cases) = (Folders::new(), json("xl/cases.json"));
    let mut failures = Vec::new();
    for case in cases.as_array().expect("a list of cases") {
        let name = case["name"].as_str().expect("a name");
        let expected = picture(&format!("xl/pictures/{name}.png"));
        // With zero terminal SNR the first step multiplies every rounding by 4096.
        let share = if name == "zero_snr" { 0.997 } else { 0.999 };
        for isa in Isa::available() {
            let pipeline = load(&folders, case, isa);
            let images = pipeline.generate(&task(case, &pipeline), 1, &mut |_| {});
            let images = images.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (worst, equal) = compare(&images[0], &expected);
            let line = format!("{name:16} {isa:8} worst {worst}, equal {:.3} %", 100.0 * equal);
            println!("{line}");
            if worst > 1 || equal < share {
                failures.push(line);
            }
        }
    }
    assert!(failures.is_empty(), "too far from diffusers:\n{}", failures.join("\n"));
}

#[test]
fn several_pictures_together_are_those_alone() {
    let (folders, cases) = (Folders::new(), json("xl/cases.json"));
    for name in ["sizes", "refined"] {
        let case = cases.as_array().and_then(|cases| cases.iter().find(|case| case["name"] == name));
        let case = case.expect("a case of that name");
        let pipeline = load(&folders, case, Isa::best());
        let task = task(case, &pipeline);
        let together = pipeline.generate(&task, 2, &mut |_| {}).expect("a supported request");
        for (i, picture) in together.iter().enumerate() {
            let mut alone = task.clone();
            alone.text_mut().seed += i as u64;
            let alone = pipeline.generate(&alone, 1, &mut |_| {}).expect("a supported request");
            assert!(alone[0].pixels() == picture.pixels(), "{name}, picture {i}");
        }
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused() {
    let (folders, cases) = (Folders::new(), json("xl/cases.json"));
    let case = &cases[0];
    let pipeline = load(&folders, case, Isa::best());
    let refused = |request: TextToImage, expected: &str| {
        let error = pipeline.text_to_image(&request, &mut |_| {}).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let plain = || request(case, &pipeline);
    refused(TextToImage { refiner_at: Some(0.8), ..plain() }, "there is none; give a refiner");
    refused(TextToImage { clip_skip: 3, ..plain() }, "CLIP skip is 3; expected 1 (the last layer) to 2");
    let scored = SizeConditions { aesthetic_score: Some(6.0), ..SizeConditions::default() };
    refused(TextToImage { size_conditions: scored, ..plain() }, "an aesthetic score is given");

    let sd1 = Pipeline::load(path("pipelines/sd1"), &LoadOptions::default()).expect("a model");
    let sized = SizeConditions { crop: Some([0, 8]), ..SizeConditions::default() };
    let request = TextToImage { size_conditions: sized, ..sd1.defaults() };
    let error = sd1.text_to_image(&request, &mut |_| {}).expect_err("it takes no sizes").to_string();
    assert!(error.contains("only Stable Diffusion XL takes"), "{error}");
    let spec = ModelSpec { refiner: Some(folders.path("refiner")), ..ModelSpec::from(path("pipelines/sd1")) };
    let error = Pipeline::load(spec, &LoadOptions::default()).map(drop).expect_err("no XL").to_string();
    assert!(error.contains("a refiner belongs to Stable Diffusion XL"), "{error}");
}

/// What the plain case of `xl_files.py` asks for.
fn plain(pipeline: &Pipeline, prompt: &str) -> TextToImage {
    let prompt = prompt.to_owned();
    TextToImage {
        prompt,
        width: 64,
        height: 64,
        steps: 8,
        guidance_scale: 5.0,
        seed: 7,
        ..pipeline.defaults()
    }
}

#[test]
fn every_tensor_of_the_published_networks_has_its_name_and_shape() {
    let golden = json("xl/files.json");
    for (name, networks) in golden["architectures"].as_object().expect("architectures") {
        let parts = Architecture::parse(name).and_then(Architecture::networks).expect("known");
        assert_eq!(parts.len(), networks.as_object().expect("networks").len(), "{name}");
        for part in parts {
            let expected = &networks[part.component.name];
            let shapes: BTreeMap<_, _> =
                part.tensors.iter().map(|tensor| (tensor.name.as_str(), &tensor.shape)).collect();
            let lines: String = shapes.iter().map(|(name, shape)| format!("{name} {shape:?}\n")).collect();
            let which = format!("{name}, {}", part.component.name);
            assert_eq!(expected["tensors"], part.tensors.len(), "{which}");
            assert_eq!(expected["parameters"], part.parameters(), "{which}");
            assert_eq!(expected["sha256"], hex(&Sha256::digest(lines)), "{which}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `digest` in the script: name, torch's type, shape and bytes of each tensor.
fn digest(file: &Path) -> String {
    let mut sha = Sha256::new();
    for tensor in TensorFile::open(file).expect("a valid file").tensors() {
        assert_eq!(tensor.dtype, StoredType::F16, "{}", tensor.name);
        sha.update(format!("{} float16 {:?}\n", tensor.name, tensor.shape));
        sha.update(tensor.bytes);
    }
    hex(&sha.finalize())
}

/// `from_single_file` makes the folder's picture of files with these tensors.
#[test]
fn a_folder_becomes_the_single_file_that_others_read_and_is_read_again() {
    let (folders, golden) = (Folders::new(), json("xl/files.json"));
    for name in ["base", "refiner"] {
        let folder = folders.path(name);
        let file = folders.path(&format!("{name}.safetensors"));
        convert(&folder, &file, None).expect("a whole model");
        assert_eq!(golden["single_files"][name]["sha256"], digest(&file), "{name}");

        let spec = ModelSpec { config: Some(folder.clone()), ..ModelSpec::from(&file) };
        let back = folders.path(&format!("{name}-again"));
        convert(spec.clone(), &back, None).expect("a whole model");
        let load = |spec: ModelSpec| Pipeline::load(spec, &LoadOptions::default()).expect("a model");
        let pictures = [folder.into(), spec, back.into()].map(|spec| {
            let pipeline = load(spec);
            let text = plain(&pipeline, "a fox in the snow");
            pipeline.text_to_image(&text, &mut |_| {}).expect("a picture")
        });
        assert!(pictures[0].pixels() == pictures[1].pixels(), "{name}: the file is another model");
        assert!(pictures[0].pixels() == pictures[2].pixels(), "{name}: the folder is another model");
    }
}

#[test]
fn adapters_and_words_do_what_they_do_in_diffusers() {
    let (folders, golden) = (Folders::new(), json("xl/files.json"));
    for case in golden["adapters"].as_array().expect("a list") {
        let name = case["name"].as_str().expect("a name");
        let file = path(&format!("xl/adapters/{name}.safetensors"));
        let mut spec = ModelSpec::from(folders.path("base"));
        match case["kind"].as_str() {
            Some("lora") => {
                spec.loras = vec![LoraSpec { path: file, unet: 0.8, text_encoder: 0.8 }];
                spec.strict = true; // everything in the file must be used
            }
            _ => spec.embeddings = vec![file],
        }
        let pipeline =
            Pipeline::load(spec, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        let text = plain(&pipeline, case["prompt"].as_str().expect("a prompt"));
        let found = pipeline.text_to_image(&text, &mut |_| {}).expect("a picture");
        let (worst, equal) = compare(&found, &picture(&format!("xl/adapters/pictures/{name}.png")));
        println!("{name}: worst {worst}, equal {:.3} %", 100.0 * equal);
        assert!(worst <= 1 && equal >= 0.999, "{name}: {worst} levels, {equal} equal");
    }
}

#[test]
fn files_for_other_families_are_refused_by_name() {
    let folders = Folders::new();
    let load = |spec: ModelSpec| Pipeline::load(spec, &LoadOptions::default()).map(drop);
    let lora = |name: &str| vec![LoraSpec { path: path(name), unet: 1.0, text_encoder: 1.0 }];
    let of_xl = ModelSpec { loras: lora("adapters/kohya.safetensors"), ..folders.path("base").into() };
    let error = load(of_xl).expect_err("it is for SD 1.x").to_string();
    assert!(error.contains("this adapter is for"), "{error}");
    let of_sd1 = ModelSpec { loras: lora("xl/adapters/kohya.safetensors"), ..path("pipelines/sd1").into() };
    let error = load(of_sd1).expect_err("it is for XL").to_string();
    assert!(error.contains("this adapter is for another model"), "{error}");
    let embeddings = vec![path("embeddings/old-map.safetensors")];
    let error = load(ModelSpec { embeddings, ..folders.path("base").into() }).expect_err("it is for SD 1.x");
    assert!(error.to_string().contains("holds no `clip_l`"), "{error}");
    let error = load(ModelSpec { text_encoder_2: Some("x".into()), ..path("pipelines/sd1").into() });
    let error = error.expect_err("it has none").to_string();
    assert!(error.contains("a second text encoder was given"), "{error}");
}
