//! The models that `random-model` writes have the tensors and the settings of the published ones.
//!
//! `goldens/architectures.py` built Stable Diffusion 1.5 and 2.1 with diffusers from their
//! published configs and wrote down what `StableDiffusionPipeline.save_pretrained` saves: every
//! tensor's name and shape.

use std::collections::BTreeMap;

use aquatint_model::tools::random_model::Architecture;
use aquatint_tests::json;
use serde_json::Value;

#[test]
fn tensors_are_those_that_diffusers_saves() {
    let golden = json("architectures.json");
    for (name, millions) in [("sd15", [123, 860, 84]), ("sd21", [340, 866, 84])] {
        let parts =
            Architecture::parse(name).and_then(Architecture::networks).expect("a published architecture");
        for (part, millions) in parts.iter().zip(millions) {
            let expected = &golden[name]["parts"][part.component.name];
            let found: BTreeMap<&str, &[usize]> =
                part.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
            let shape = |shape: &Value| -> Vec<usize> {
                let lengths = shape.as_array().expect("a list").iter();
                lengths.map(|length| length.as_u64().expect("a whole number") as usize).collect()
            };
            let tensors = expected["tensors"].as_object().expect("names and shapes");
            let tensors: BTreeMap<&str, Vec<usize>> =
                tensors.iter().map(|(name, value)| (name.as_str(), shape(value))).collect();
            assert_eq!(
                part.tensors.len(),
                tensors.len(),
                "{name}, {}: number of tensors",
                part.component.name
            );
            for (tensor, shape) in &tensors {
                assert_eq!(
                    found.get(tensor).copied(),
                    Some(shape.as_slice()),
                    "{name}, {}: {tensor}",
                    part.component.name
                );
            }
            assert_eq!(
                (part.parameters() + 500_000) / 1_000_000,
                millions,
                "{name}, {}",
                part.component.name
            );
            assert_eq!(expected["parameters"], part.parameters(), "{name}, {}", part.component.name);
        }
    }
}

#[test]
fn settings_are_the_published_ones() {
    let golden = json("architectures.json");
    for name in ["sd15", "sd21"] {
        let settings = Architecture::parse(name).expect("a published architecture").published().files;
        for (path, text) in settings {
            let found: Value = serde_json::from_str(text).expect("valid JSON");
            let published = golden[name]["files"][path].as_object().expect("the published file");
            for (key, value) in published {
                // Notes on who wrote the file; parts that play no role in a picture; numbers that
                // only training reads.
                let ignored = ["transformers_version", "torch_dtype", "safety_checker", "feature_extractor"];
                if key.starts_with('_') || ignored.contains(&key.as_str()) {
                    continue;
                }
                assert_eq!(&found[key], value, "{name}, {path}: `{key}`");
            }
        }
    }
}
