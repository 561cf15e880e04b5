//! Adapters: what each format makes of the weights, within 1e-6 of diffusers' and LyCORIS' result,
//! and the pictures.

use std::sync::Arc;

use aquatint_model::networks::architecture;
use aquatint_model::source::adapters::{Adapted, LoraAdapter, LoraSpec, Targets};
use aquatint_model::source::config::ConfigFile;
use aquatint_model::source::{Checkpoint, Component, Schema, TEXT_ENCODER, TensorSource, TensorSpec, UNET};
use aquatint_model::tools::convert::convert;
use aquatint_model::tools::random_model::Architecture;
use aquatint_model::{
    ErrorKind, Image, LoadOptions, ModelSpec, Pipeline, PromptSyntax, SamplerChoice, TextToImage,
};
use aquatint_tests::single_files::{self, Stored, Tensors};
use aquatint_tests::{Golden, json, path};
use serde_json::Value;

/// What a network of a golden folder asks for.
fn tensors(folder: &str, component: &Component) -> Vec<TensorSpec> {
    let config = ConfigFile::open(&component.config_path(&path(folder))).expect("a golden");
    let schema = Schema::new();
    architecture(component, config).expect("a known network").read(&schema.weights()).expect("no file");
    schema.tensors()
}

fn targets(folder: &str) -> Targets {
    Targets::new(&[&UNET, &TEXT_ENCODER].map(|component| (component, tensors(folder, component))))
}

fn cases() -> Vec<Value> {
    json("adapters/cases.json").as_array().expect("a list").clone()
}

fn spec(case: &Value) -> LoraSpec {
    let weight = |key: &str| case[key].as_f64().expect("a number") as f32;
    LoraSpec {
        path: path(&format!("adapters/{}.safetensors", case["name"].as_str().expect("a name"))),
        unet: weight("weight_unet"),
        text_encoder: weight("weight_text"),
    }
}

#[test]
fn merged_weights_are_those_of_the_oracles() {
    let expected = Golden::open("adapters/expected.safetensors");
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let folder = format!("pipelines/{}", case["pipeline"].as_str().expect("a folder"));
        let adapter = LoraAdapter::open(&spec(&case), &targets(&folder)).expect("an adapter");
        assert!(adapter.left().is_empty(), "{name}: {:?}", adapter.left());
        let samples = expected.tensor::<2>(name);
        let mut rows = samples.as_slice().chunks_exact(samples.shape()[1]);
        let adapters = [Arc::new(adapter)];
        for component in [&TEXT_ENCODER, &UNET] {
            let plain = Checkpoint::open(&component.folder(&path(&folder)), component).expect("a golden");
            let adapted = Adapted::new(Arc::new(plain), component, &adapters);
            let changed: Vec<&str> = case["changed"][component.name]
                .as_array()
                .expect("a list")
                .iter()
                .map(|name| name.as_str().expect("a name"))
                .collect();
            assert_eq!(adapted.changed().collect::<Vec<_>>(), changed, "{name}: {}", component.name);
            for tensor in changed {
                let expected = rows.next().expect("a row for each tensor");
                let found = adapted.find(tensor).expect("a tensor").elements().expect("numbers").into_f32();
                let last = found.len() - 1;
                for (k, &expected) in expected.iter().enumerate() {
                    let found = found[k * last / 15];
                    let error = (found - expected).abs();
                    assert!(
                        error <= 1e-6 * expected.abs().max(1.0),
                        "{name}, {tensor}, {k}: {found}, expected {expected}"
                    );
                }
            }
        }
        assert!(rows.next().is_none(), "{name}: a row too many");
    }
}

/// PEFT keeps alpha, and which layers have another one, in a file of its own.
#[test]
fn folders_of_peft_are_merged_as_peft_does() {
    let expected = json("adapters/peft_folders.json");
    let targets = targets("pipelines/sd1");
    for (name, changed) in expected.as_object().expect("an object") {
        let spec =
            LoraSpec { path: path(&format!("adapters/peft_folders/{name}")), unet: 1.0, text_encoder: 1.0 };
        let adapter = LoraAdapter::open(&spec, &targets).expect("an adapter");
        assert_eq!(adapter.warning(), None, "{name}");
        let plain = Checkpoint::open(&UNET.folder(&path("pipelines/sd1")), &UNET).expect("a golden");
        let adapted = Adapted::new(Arc::new(plain), &UNET, &[Arc::new(adapter)]);
        let changed = changed.as_object().expect("an object");
        assert!(adapted.changed().eq(changed.keys().map(String::as_str)), "{name}");
        for (tensor, samples) in changed {
            let found = adapted.find(tensor).expect("a tensor").elements().expect("numbers").into_f32();
            for (k, expected) in samples.as_array().expect("a list").iter().enumerate() {
                let expected = expected.as_f64().expect("a number") as f32;
                let found = found[k * (found.len() - 1) / 15];
                let error = (found - expected).abs();
                assert!(
                    error <= 1e-6 * expected.abs().max(1.0),
                    "{name}, {tensor}, {k}: {found}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn an_adapter_of_peft_without_its_settings_is_a_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let copied = folder.path().join("adapter_model.safetensors");
    let weights = path("adapters/peft_folders/alpha/adapter_model.safetensors");
    std::fs::copy(weights, &copied).expect("writable");
    let spec = LoraSpec { path: copied, unet: 1.0, text_encoder: 1.0 };
    let targets = targets("pipelines/sd1");
    let adapter = LoraAdapter::open(&spec, &targets).expect("an adapter");
    assert!(adapter.warning().is_some_and(|warning| warning.contains("adapter_config.json")));
    std::fs::write(folder.path().join("adapter_config.json"), "[1, 2]").expect("writable");
    let error = LoraAdapter::open(&spec, &targets).map(drop).expect_err("it says nothing").to_string();
    assert!(error.contains("no JSON object"), "{error}");
}

/// A picture of the golden folders: within one level, and nearly all values equal.
#[track_caller]
fn assert_same_picture(name: &str, found: &Image, golden: &str) {
    let golden = image::open(path(golden)).expect("a golden").into_rgb8().into_raw();
    assert_eq!(found.pixels().len(), golden.len(), "{name}: size");
    let differences = found.pixels().iter().zip(&golden).map(|(a, b)| a.abs_diff(*b));
    let equal = differences.clone().filter(|&d| d == 0).count() as f64 / golden.len() as f64;
    assert!(differences.max() <= Some(1) && equal >= 0.999, "{name}: {equal}");
}

fn request(prompt: &str, steps: usize, seed: u64) -> TextToImage {
    TextToImage {
        prompt: prompt.into(),
        width: 64,
        height: 64,
        steps,
        guidance_scale: 5.0,
        seed,
        sampler: SamplerChoice::parse(Some("ddim"), Some("normal")).expect("known names"),
        ..TextToImage::default()
    }
}

#[test]
fn pictures_are_those_of_the_oracles() {
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let folder = path(&format!("pipelines/{}", case["pipeline"].as_str().expect("a folder")));
        let model = ModelSpec { loras: vec![spec(&case)], ..ModelSpec::from(&folder) };
        let pipeline = Pipeline::load(model, &LoadOptions::default()).expect("a golden");
        assert!(pipeline.warnings().is_empty(), "{name}: {:?}", pipeline.warnings());
        let picture =
            pipeline.text_to_image(&request("a fox in the snow", 8, 7), &mut |_| {}).expect("a picture");
        assert_same_picture(name, &picture, &format!("adapters/pictures/{name}.png"));
        let parameters = picture.parameters().expect("a text");
        assert!(parameters.get("Lora hashes").is_some_and(|hashes| hashes.starts_with(name)), "{parameters}");
    }
}

#[test]
fn tags_choose_adapters_from_picture_to_picture() {
    let model = ModelSpec { lora_folders: vec![path("adapters")], ..ModelSpec::from(path("pipelines/sd1")) };
    let pipeline = Pipeline::load(model, &LoadOptions::default()).expect("a golden");
    let make = |prompt: &str| {
        let request = TextToImage { prompt_syntax: PromptSyntax::A1111, ..request(prompt, 8, 7) };
        pipeline.text_to_image(&request, &mut |_| {})
    };
    for (prompt, golden) in [
        ("a fox in the snow<lora:kohya:0.8>", "kohya"),
        ("<lora:full>a fox in the snow", "full"),
        ("a fox in the snow", "plain_sd1"),
        ("a fox in the snow<lora:peft:0.5:0.8>", "peft"),
    ] {
        let picture = make(prompt).expect("a picture");
        assert_same_picture(prompt, &picture, &format!("adapters/pictures/{golden}.png"));
        assert!(
            picture.parameters().expect("a text").prompt == prompt,
            "the prompt is written as it was given"
        );
    }
    let error = make("a fox <lora:none:1>").expect_err("no such file").to_string();
    assert!(error.contains("`none`") && error.contains("kohya"), "{error}");
    let picture = make("a fox in the snow").expect("what failed left nothing behind");
    assert_same_picture("plain", &picture, "adapters/pictures/plain_sd1.png");
}

#[test]
fn embeddings_are_read_by_name() {
    let cases = json("embeddings/cases.json");
    for case in cases.as_array().expect("a list") {
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let files = case["files"].as_array().expect("a list").iter();
        let embeddings = files.map(|file| path("embeddings").join(file.as_str().expect("a name"))).collect();
        let model =
            ModelSpec { embeddings, ..ModelSpec::from(path(&format!("pipelines/{}", text("pipeline")))) };
        let pipeline = Pipeline::load(model, &LoadOptions::default()).expect("a golden");
        for prompt_syntax in [PromptSyntax::Plain, PromptSyntax::A1111] {
            let request = TextToImage {
                negative_prompt: text("negative_prompt").into(),
                prompt_syntax,
                ..request(text("prompt"), 6, 5)
            };
            let picture = pipeline.text_to_image(&request, &mut |_| {}).expect("a picture");
            let name = format!("{}, {prompt_syntax:?}", text("name"));
            assert_same_picture(&name, &picture, &format!("embeddings/pictures/{}.png", text("name")));
            assert!(picture.parameters().expect("a text").get("TI hashes").is_some(), "{name}");
        }
    }
}

/// The mapping of a real file: a LoRA of Stable Diffusion 1.5, in the first format that was
/// published.
#[test]
fn first_format_numbers_the_layers_of_sd15() {
    let parts =
        Architecture::parse("sd15").and_then(Architecture::networks).expect("a published architecture");
    let tensors = |component: &Component| {
        parts.iter().find(|part| part.component == component).expect("a network").tensors.clone()
    };
    let targets = Targets::new(&[&UNET, &TEXT_ENCODER].map(|component| (component, tensors(component))));
    let golden = json("adapters/first_format.json");
    for (component, found) in
        [(&UNET, targets.first_format_unet()), (&TEXT_ENCODER, targets.first_format_text_encoder())]
    {
        let names: Vec<&str> = found.iter().map(|target| target.module.as_str()).collect();
        let expected: Vec<&str> = golden[component.name]
            .as_array()
            .expect("a list")
            .iter()
            .map(|name| name.as_str().expect("a name"))
            .collect();
        assert_eq!(names, expected, "{}", component.name);
    }
}

/// A good adapter, changed in one way, and a phrase of the error.
#[test]
fn bad_adapters_are_refused() {
    let good = single_files::read(&[path("adapters/kohya.safetensors")]);
    let layer = "lora_unet_mid_block_attentions_0_proj_in";
    let targets = targets("pipelines/sd1");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("bad.safetensors");
    let check = |change: &dyn Fn(&mut Tensors), phrase: &str| {
        let mut tensors = good.clone();
        change(&mut tensors);
        single_files::save(&tensors, &file);
        let spec = LoraSpec { path: file.clone(), unet: 1.0, text_encoder: 1.0 };
        let error =
            LoraAdapter::open(&spec, &targets).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(phrase) && error.contains("bad.safetensors"), "{phrase}: {error}");
    };
    let zeros = |shape: &[usize]| Stored::f32(shape, &vec![0.0; shape.iter().product()]);
    let set = |name: &'static str, tensor: Stored| {
        move |tensors: &mut Tensors| drop(tensors.insert(format!("{layer}.{name}"), tensor.clone()))
    };
    check(&set("alpha", Stored::f32(&[], &[f32::NAN])), "alpha is NaN");
    check(&set("alpha", Stored::f32(&[2], &[1.0; 2])), "expected one number");
    check(&set("lora_down.weight", zeros(&[0, 32, 1, 1])), "rank of 0");
    check(&set("lora_down.weight", zeros(&[4, 31, 1, 1])), "[4, 31, 1, 1]; expected [4, 32, 1, 1]");
    check(&set("lora_up.weight", zeros(&[32, 5, 1, 1])), "expected [32, 4]");
    check(&|tensors| drop(tensors.remove(&format!("{layer}.lora_up.weight"))), "is incomplete");
    check(&set("oft_blocks", zeros(&[1])), "by OFT");
    check(&|tensors| drop(tensors.insert("noise".into(), zeros(&[1]))), "`noise` is no tensor of an adapter");
    check(
        &|tensors| drop(tensors.insert("lora_te2_x.lora_up.weight".into(), zeros(&[1, 1]))),
        "Stable Diffusion XL",
    );
    check(&|tensors| tensors.clear(), "is no adapter");
    check(
        &|tensors| *tensors = single_files::read(&[path("pipelines/sd1/text_encoder/model.safetensors")]),
        "is no adapter",
    );
    check(&|tensors| *tensors = single_files::read(&[path("adapters/kohya_sd2.safetensors")]), "channels");
    for length in [0, 4, 8, 100, 200_000] {
        let bytes = std::fs::read(path("adapters/kohya.safetensors")).expect("a golden");
        std::fs::write(&file, &bytes[..length]).expect("the folder is writable");
        let spec = LoraSpec { path: file.clone(), unet: 1.0, text_encoder: 1.0 };
        assert!(LoraAdapter::open(&spec, &targets).is_err(), "{length} bytes");
    }
}

#[test]
fn what_a_model_lacks_is_told_or_refused() {
    let mut tensors = single_files::read(&[path("adapters/kohya.safetensors")]);
    let layer = "lora_unet_mid_block_attentions_0_proj_in";
    for end in ["alpha", "lora_up.weight", "lora_down.weight"] {
        let tensor = tensors.remove(&format!("{layer}.{end}")).expect("it is there");
        tensors.insert(format!("lora_unet_mid_block_attentions_7_proj_in.{end}"), tensor);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("nearly.safetensors");
    single_files::save(&tensors, &file);
    let lora = LoraSpec { path: file, unet: 0.8, text_encoder: 0.8 };
    let model =
        |strict| ModelSpec { loras: vec![lora.clone()], strict, ..ModelSpec::from(path("pipelines/sd1")) };
    let pipeline = Pipeline::load(model(false), &LoadOptions::default()).expect("all others fit");
    let warning = pipeline.warnings().join("\n");
    assert!(warning.contains("nearly.safetensors: 209 of 210 tensors, weight 0.8"), "{warning}");
    assert!(warning.contains("attentions_7"), "{warning}");
    let error = Pipeline::load(model(true), &LoadOptions::default()).err().expect("nothing may be left");
    assert_eq!(error.kind(), ErrorKind::Model);
    assert!(error.to_string().contains("attentions_7"), "{error}");
}

/// Another weight packs only what it changes, and makes the picture of a model loaded with it.
#[test]
fn another_weight_of_an_adapter_makes_its_picture_in_a_loaded_model() {
    let case = &cases()[0];
    let folder = path(&format!("pipelines/{}", case["pipeline"].as_str().expect("a folder")));
    let lora = |unet, text_encoder| LoraSpec { unet, text_encoder, ..spec(case) };
    let picture = |pipeline: &Pipeline| {
        let request = request("a fox in the snow", 2, 7);
        pipeline.text_to_image(&request, &mut |_| {}).expect("a picture").pixels().to_vec()
    };
    let loaded = |loras: Vec<LoraSpec>| {
        let model = ModelSpec { loras, ..ModelSpec::from(&folder) };
        Pipeline::load(model, &LoadOptions::default()).expect("a golden")
    };
    let pipeline = loaded(vec![lora(0.8, 0.8)]);
    let mut seen = vec![picture(&pipeline)];
    for loras in [vec![lora(0.3, 0.8)], vec![lora(0.3, -0.5)], vec![], vec![lora(0.8, 0.8)]] {
        pipeline.set_adapters(loras.clone()).expect("an adapter");
        let found = picture(&pipeline);
        assert!(found == picture(&loaded(loras.clone())), "{loras:?}");
        assert!(seen.last() != Some(&found), "{loras:?} changes nothing");
        seen.push(found);
    }
    assert!(seen.first() == seen.last(), "the way back leads back");
    let absent = LoraSpec { path: "absent.safetensors".into(), ..lora(1.0, 1.0) };
    assert!(pipeline.set_adapters(vec![absent]).is_err());
    assert!(Some(&picture(&pipeline)) == seen.last(), "what was before stays");
}

/// In a single file the text encoder's names begin otherwise than in a folder.
#[test]
fn a_single_file_takes_adapters_as_its_folder_does() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let folder = path(&format!("pipelines/{}", case["pipeline"].as_str().expect("a folder")));
        let file = temporary.path().join(format!("{name}.safetensors"));
        convert(ModelSpec::from(&folder), &file, None).expect("writable");
        let loras = vec![spec(&case)];
        let model = ModelSpec { loras, config: Some(folder), ..ModelSpec::from(&file) };
        let pipeline = Pipeline::load(model, &LoadOptions::default()).expect("the same model");
        assert!(pipeline.warnings().is_empty(), "{name}: {:?}", pipeline.warnings());
        let picture =
            pipeline.text_to_image(&request("a fox in the snow", 8, 7), &mut |_| {}).expect("a picture");
        assert_same_picture(name, &picture, &format!("adapters/pictures/{name}.png"));
    }
}
