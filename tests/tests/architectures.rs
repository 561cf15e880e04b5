//! The models that `random-model` writes have the tensors and the settings of the published ones.
//!
//! `goldens/architectures.py` built Stable Diffusion 1.5 and 2.1 with diffusers from their
//! published configs and wrote down what `StableDiffusionPipeline.save_pretrained` saves: every
//! tensor's name and shape. `goldens/few_step_architectures.py` did the same for the models of few
//! steps and the small ones.

use std::collections::BTreeMap;

use aquatint_model::samplers::{SamplerChoice, SchedulerConfig};
use aquatint_model::tools::random_model::Architecture;
use aquatint_tests::json;
use serde_json::Value;

/// Both files in one.
fn goldens() -> BTreeMap<String, Value> {
    ["architectures.json", "few_step_architectures.json"]
        .into_iter()
        .flat_map(|file| json(file).as_object().expect("models").clone())
        .collect()
}

/// The tensors of a part, in the model that lists them.
fn tensors(golden: &BTreeMap<String, Value>, model: &str, part: &str) -> BTreeMap<String, Vec<usize>> {
    let entry = &golden[model]["parts"][part];
    if let Some(other) = entry["as"].as_str() {
        return tensors(golden, other, part);
    }
    let shape = |shape: &Value| {
        let lengths = shape.as_array().expect("a list").iter();
        lengths.map(|length| length.as_u64().expect("a whole number") as usize).collect()
    };
    let listed = entry["tensors"].as_object().expect("names and shapes");
    listed.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
}

#[test]
fn tensors_are_those_that_diffusers_saves() {
    let golden = goldens();
    let xl = json("xl/files.json")["architectures"].as_object().expect("architectures").len(); // see xl.rs
    assert_eq!(golden.len() + xl + 1, Architecture::all().count(), "all but `tiny` were published");
    for model in golden.keys() {
        let networks = Architecture::parse(model).and_then(Architecture::networks);
        for network in networks.expect("a published architecture") {
            let part = network.component.name;
            let expected = tensors(&golden, model, part);
            let found: BTreeMap<String, Vec<usize>> =
                network.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect();
            for (name, shape) in &expected {
                assert_eq!(found.get(name), Some(shape), "{model}, {part}: {name}");
            }
            assert_eq!(network.tensors.len(), expected.len(), "{model}, {part}: number of tensors");
            assert_eq!(golden[model]["parts"][part]["parameters"], network.parameters(), "{model}, {part}");
        }
    }
}

/// In millions, as they are published: the text encoder's, the UNet's, the VAE's.
#[test]
fn models_have_their_known_size() {
    for (name, expected) in [
        ("sd15", [123, 860, 84]),
        ("sd21", [340, 866, 84]),
        ("sd-turbo", [340, 866, 84]),
        ("bk-sdm-small", [123, 482, 84]),
        ("bk-sdm-tiny", [123, 323, 84]),
        ("small-sd", [123, 579, 84]),
        ("sdxs", [340, 328, 2]),
    ] {
        let networks = Architecture::parse(name).and_then(Architecture::networks).expect("a known name");
        let millions = networks.iter().map(|network| (network.parameters() + 500_000) / 1_000_000);
        assert_eq!(millions.collect::<Vec<_>>(), expected, "{name}");
    }
}

#[test]
fn settings_are_the_published_ones() {
    for (name, golden) in goldens() {
        let settings = Architecture::parse(&name).expect("a published architecture").published().files;
        for (path, text) in settings {
            let found: Value = serde_json::from_str(text).expect("valid JSON");
            let published = golden["files"][path].as_object().expect("the published file");
            for (key, value) in published {
                // Notes on who wrote the file; parts that play no role in a picture; numbers that
                // only training reads, and whether other programs compute the VAE in f32.
                let ignored = [
                    "transformers_version",
                    "torch_dtype",
                    "safety_checker",
                    "feature_extractor",
                    "force_upcast",
                ];
                if (key.starts_with('_') && key != "_class_name") || ignored.contains(&key.as_str()) {
                    continue;
                }
                let default = key == "scaling_factor" && value == 0.18215 && found[key].is_null();
                assert!(
                    default || &found[key] == value,
                    "{name}/{path}: `{key}` is {}, not {value}",
                    found[key]
                );
            }
        }
        let scheduler = settings.iter().find(|(path, _)| path.starts_with("scheduler/")).expect("a file");
        let resolved = SchedulerConfig::from_json(scheduler.1, &name)
            .and_then(|config| config.resolve(SamplerChoice::default()));
        assert!(resolved.is_ok(), "{name}: the sampler is not known");
    }
}
