//! Models of few steps: LCM with the guidance scale as an input, TCD with a LoRA and SD-Turbo make
//! diffusers' pictures, and need no other settings than a prompt.
//!
//! `goldens/few_step.py` made the pictures; the folders are put together here.

use std::fs;
use std::path::{Path, PathBuf};

use aquatint_model::generate::{PRESETS, PartialRequest, Preset, TaskImages};
use aquatint_model::source::adapters::LoraSpec;
use aquatint_model::tools::inspect::inspect;
use aquatint_model::{
    Error, Footprint, Image, LoadOptions, ModelSpec, Pipeline, PromptSyntax, SamplerKind, Schedule,
    TextToImage,
};
use aquatint_tests::{json, path};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The folder of a kind of model, and how it is loaded.
struct Model {
    place: TempDir,
    loras: Vec<PathBuf>,
}

impl Model {
    fn of(kind: &str) -> Self {
        let place = tempfile::tempdir().expect("a temporary folder");
        let model = Self { loras: Vec::new(), place };
        let folder = model.folder();
        let settings = json("few_step_architectures.json");
        match kind {
            "lcm" => {
                copy(&path("pipelines/sd1"), &folder);
                fs::remove_dir_all(folder.join("unet")).expect("it was copied");
                copy(&path("few_step/lcm_unet"), &folder.join("unet"));
                model.set("model_index.json", "_class_name", json!("LatentConsistencyModelPipeline"));
                model.write("scheduler", &settings["lcm-sd15"]);
            }
            "turbo" => {
                copy(&path("pipelines/sd2"), &folder);
                model.write("scheduler", &settings["sd-turbo"]);
            }
            "dmd2" => copy(&path("pipelines/sd1"), &folder),
            _ => {
                copy(&path("pipelines/sd1"), &folder);
                let lora = model.place.path().join("TCD-SD15-LoRA.safetensors");
                fs::copy(path("adapters/peft.safetensors"), &lora).expect("writable");
                return Self { loras: vec![lora], ..model };
            }
        }
        model
    }

    fn folder(&self) -> PathBuf {
        self.place.path().join("model")
    }

    fn spec(&self) -> ModelSpec {
        let lora = |file: &PathBuf| LoraSpec { path: file.clone(), unet: 1.0, text_encoder: 1.0 };
        let loras = self.loras.iter().map(lora).collect();
        ModelSpec { model: self.folder(), loras, ..ModelSpec::default() }
    }

    fn load(&self) -> Pipeline {
        Pipeline::load(self.spec(), &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The published scheduler of an architecture in place of the folder's.
    fn write(&self, part: &str, architecture: &Value) {
        let file = format!("{part}/{part}_config.json");
        fs::write(self.folder().join(&file), architecture["files"][&file].to_string()).expect("writable");
    }

    fn set(&self, file: &str, key: &str, value: Value) {
        let file = self.folder().join(file);
        let mut json: Value =
            serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("valid JSON");
        json[key] = value;
        fs::write(file, json.to_string()).expect("writable");
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

fn golden(name: &str) -> Image {
    let image = image::open(path(&format!("few_step/pictures/{name}.png"))).expect("a golden picture");
    let image = image.into_rgb8();
    Image::from_rgb(image.width() as usize, image.height() as usize, image.into_raw())
}

#[test]
fn pictures_are_those_of_diffusers() {
    let cases = json("few_step/cases.json");
    for kind in ["lcm", "tcd", "dmd2", "turbo"] {
        let pipeline = Model::of(kind).load();
        let cases = cases.as_array().expect("a list of cases").iter().filter(|case| case["kind"] == kind);
        for case in cases {
            let name = case["name"].as_str().expect("a name");
            let count = |key: &str| case[key].as_u64().expect("a whole number");
            let preset = (kind == "dmd2").then(|| "dmd2".to_owned());
            let preset = PartialRequest { preset, ..PartialRequest::default() };
            let request = TextToImage {
                prompt: "a fox in the snow".into(),
                width: count("width") as usize,
                height: count("height") as usize,
                steps: count("steps") as usize,
                guidance_scale: case["guidance_scale"].as_f64().expect("a number") as f32,
                seed: count("seed"),
                ..preset.request(None, pipeline.defaults()).expect("a known preset")
            };
            let found = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
            let golden = golden(name);
            assert_eq!((found.width(), found.height()), (golden.width(), golden.height()), "{name}");
            let differences = found.pixels().iter().zip(golden.pixels()).map(|(a, b)| a.abs_diff(*b));
            let worst = differences.clone().max().unwrap_or(0);
            let equal = differences.filter(|&d| d == 0).count() as f64 / found.pixels().len() as f64;
            println!("{name}: worst {worst}, equal {equal:.5}");
            assert!(worst <= 1 && equal >= 0.999, "{name}: worst {worst}, equal {equal:.5}");
        }
    }
}

/// What a newcomer gets who gives a prompt and nothing else.
#[test]
fn what_suits_the_model_is_its_default() {
    for (kind, name, by, steps, scale, sampler, schedule) in [
        ("lcm", "lcm", "guidance scale", 4, 8.0, SamplerKind::Lcm, None),
        ("tcd", "tcd", "TCD-SD15-LoRA", 4, 1.0, SamplerKind::Tcd, None),
        ("turbo", "sd-turbo", "trailing", 1, 1.0, SamplerKind::Euler, Some(Schedule::Trailing)),
    ] {
        let model = Model::of(kind);
        let pipeline = model.load();
        let preset = pipeline.preset().unwrap_or_else(|| panic!("{kind} is not recognised"));
        assert_eq!(preset.preset.name, name);
        assert!(preset.describe().contains(by), "{}", preset.describe());
        let request = pipeline.defaults();
        assert_eq!((request.steps, request.guidance_scale), (steps, scale), "{kind}");
        assert_eq!((request.sampler.kind, request.sampler.schedule), (Some(sampler), schedule), "{kind}");
        let footprint = Footprint::of(model.spec(), &LoadOptions::default()).expect("a model");
        assert_eq!(footprint.defaults, request, "{kind}: the estimate has other defaults");
    }
    let turbo = Model::of("turbo");
    let report = inspect(turbo.folder()).expect("a model");
    let notes: Vec<_> = report.parts.iter().flat_map(|part| &part.notes).collect();
    assert!(notes.iter().any(|note| note.starts_with("preset sd-turbo")), "{notes:?}");
    // The folder's own words count more.
    let recommended = turbo.folder().join("generation_config.json");
    fs::write(recommended, r#"{"num_inference_steps": 3, "guidance_scale": 2.5}"#).expect("writable");
    let pipeline = turbo.load();
    let request = pipeline.defaults();
    assert_eq!((request.steps, request.guidance_scale, pipeline.preset()), (3, 2.5, None));
}

#[test]
fn what_is_said_counts_more_than_a_preset() {
    let defaults = Model::of("turbo").load().defaults();
    let request = |said: PartialRequest| said.request(None, defaults.clone());
    let named = |name: &str| PartialRequest { preset: Some(name.into()), ..PartialRequest::default() };
    let chosen = request(named("hyper-sd")).expect("a known preset");
    assert_eq!((chosen.steps, chosen.sampler.kind), (8, Some(SamplerKind::Ddim)));
    let said = PartialRequest { steps: Some(2), cfg_scale: Some(3.0), ..named("LCM_LoRA") };
    let said = request(said).expect("a known preset");
    assert_eq!((said.steps, said.guidance_scale, said.sampler.kind), (2, 3.0, Some(SamplerKind::Lcm)));
    let sampler = PartialRequest { sampler: Some("heun".into()), ..PartialRequest::default() };
    let sampler = request(sampler).expect("a known sampler");
    assert_eq!((sampler.steps, sampler.sampler.kind), (1, Some(SamplerKind::Heun)));
    let none = request(named("none")).expect("no preset");
    assert_eq!((none.steps, none.guidance_scale, none.sampler), (20, 7.5, Default::default()));
    let error = request(named("fast")).expect_err("there is no such preset");
    assert!(matches!(error, Error::Request(_)) && error.to_string().contains("sd-turbo"), "{error}");
    assert!(PRESETS.iter().all(|preset| Preset::named(preset.name).is_ok()));
}

/// An adapter that a prompt asks for brings its settings, too.
#[test]
fn adapters_of_prompts_have_presets() {
    let model = Model::of("tcd");
    let folder = model.place.path().to_owned();
    let spec = ModelSpec { model: model.folder(), lora_folders: vec![folder], ..ModelSpec::default() };
    let pipeline = Pipeline::load(spec, &LoadOptions::default()).expect("a model");
    assert_eq!(pipeline.preset(), None);
    let task = |prompt: &str, steps| {
        let prompt_syntax = Some(PromptSyntax::A1111);
        let said = PartialRequest { prompt: Some(prompt.into()), prompt_syntax, steps, ..Default::default() };
        said.task(TaskImages::None, None, &pipeline).expect("a task").text().clone()
    };
    let with = task("a fox <lora:TCD-SD15-LoRA:1>", None);
    assert_eq!((with.steps, with.sampler.kind), (4, Some(SamplerKind::Tcd)));
    assert_eq!(task("a fox <lora:TCD-SD15-LoRA:1>", Some(2)).steps, 2);
    assert_eq!(task("a fox", None).steps, 20);
    let notes = pipeline.select_adapters(&with).expect("an adapter of this model");
    assert!(notes.iter().any(|note| note.starts_with("preset tcd, recognised by")), "{notes:?}");
}

/// The settings are in the picture, and make it again.
#[test]
fn a_preset_is_written_into_the_picture() {
    let pipeline = Model::of("turbo").load();
    let request = TextToImage { prompt: "a fox".into(), width: 64, height: 64, ..pipeline.defaults() };
    let picture = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
    let parameters = picture.parameters().expect("it says how it was made");
    let text = parameters.to_string();
    let expected = "Steps: 1, Sampler: Euler, Schedule type: Trailing, CFG scale: 1, ";
    assert!(text.contains(expected), "{text}");
    let mut again = TextToImage::default();
    parameters.apply(&mut again).expect("settings with a meaning");
    assert_eq!(again, request);
}
