//! Which files of a repository are needed.
//!
//! ```text
//! model_index.json              which components there are
//! tokenizer/, scheduler/, …     the settings of each: *.json and *.txt
//! unet/, vae/, text_encoder/    and of its weights one form: in half precision if there is one,
//!                               safetensors rather than pickles; of an index all shards
//! ```
//!
//! Of `stable-diffusion-v1-5` these are 2.8 GB of 44.

use serde_json::Value;

use super::complete::components;
use crate::source::component::Component;

/// The list of a model's components.
pub(super) const INDEX: &str = "model_index.json";
/// What a model recommends for requests.
const GENERATION: &str = "generation_config.json";

/// What is needed of a repository's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Names of files.
    pub(super) files: Vec<String>,
    /// Those among them that list shards, which are needed as well.
    pub(super) indices: Vec<String>,
}

impl Plan {
    /// That of a model with this index, from a repository with files of these names.
    pub(super) fn of_model(index: &Value, names: &[String], with_weights: bool) -> Self {
        let mut plan = Self::default();
        plan.files.extend([INDEX, GENERATION].into_iter().filter(|name| has(names, name)).map(str::to_owned));
        for component in components(index) {
            plan.add(component, &format!("{}/", component.name), names, with_weights);
        }
        plan
    }

    /// That of one component, at the top of its repository or in its folder; `None` if there is
    /// none.
    pub(super) fn of_component(component: &Component, names: &[String]) -> Option<Self> {
        let places = [String::new(), format!("{}/", component.name)];
        let place = places.into_iter().find(|place| has(names, &format!("{place}{}", component.config)))?;
        let mut plan = Self::default();
        plan.add(component, &place, names, true);
        Some(plan)
    }

    fn add(&mut self, component: &Component, place: &str, names: &[String], with_weights: bool) {
        let inside = |name: &&String| name.strip_prefix(place).is_some_and(|rest| !rest.contains('/'));
        let is_setting = |name: &&String| {
            let name = name.as_str();
            (name.ends_with(".json") || name.ends_with(".txt")) && !name.contains(".index.") && name != INDEX
        };
        self.files.extend(names.iter().filter(inside).filter(is_setting).cloned());
        let forms = forms(component).into_iter().map(|form| format!("{place}{form}"));
        if let Some(weights) = forms.filter(|_| with_weights).find(|form| has(names, form)) {
            if weights.ends_with(".json") {
                self.indices.push(weights.clone());
            }
            self.files.push(weights);
        }
    }
}

/// The forms of a component's weights in the order in which they are looked for: half precision is
/// enough, and half the size; what needs no reader of pickles comes first.
fn forms(component: &Component) -> Vec<String> {
    let mut names = component.candidates();
    let rank = |name: &str| match name {
        name if name.contains("fp16") => 0,
        name if name.contains("bf16") => 2,
        _ => 1,
    };
    names.sort_by_key(|name| (name.contains(".bin"), rank(name)));
    names
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{TEXT_ENCODER, VAE};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The files of a published model: five forms of the same weights, and what is not read.
    #[test]
    fn one_form_of_the_weights_is_needed_and_no_safety_checker() {
        let index = serde_json::json!({
            "_class_name": "StableDiffusionPipeline",
            "tokenizer": ["transformers", "CLIPTokenizer"],
            (TEXT_ENCODER.name): ["transformers", "CLIPTextModel"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "scheduler": ["diffusers", "PNDMScheduler"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        });
        let all = names(&[
            "README.md",
            "model_index.json",
            "v1-5-pruned.ckpt",
            "v1-5-pruned.safetensors",
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "scheduler/scheduler_config.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "text_encoder/pytorch_model.bin",
            "tokenizer/merges.txt",
            "tokenizer/vocab.json",
            "tokenizer/tokenizer_config.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.bin",
            "unet/diffusion_pytorch_model.fp16.bin",
            "unet/diffusion_pytorch_model.fp16.safetensors",
            "unet/diffusion_pytorch_model.non_ema.safetensors",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.bin",
            "vae/diffusion_pytorch_model.safetensors.index.json",
            "vae/diffusion_pytorch_model-00001-of-00002.safetensors",
        ]);
        let plan = Plan::of_model(&index, &all, true);
        let mut files = plan.files.clone();
        files.sort();
        assert_eq!(
            files,
            [
                "model_index.json",
                "scheduler/scheduler_config.json",
                "text_encoder/config.json",
                "text_encoder/model.safetensors",
                "tokenizer/merges.txt",
                "tokenizer/tokenizer_config.json",
                "tokenizer/vocab.json",
                "unet/config.json",
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "vae/config.json",
                "vae/diffusion_pytorch_model.safetensors.index.json",
            ]
        );
        assert_eq!(plan.indices, ["vae/diffusion_pytorch_model.safetensors.index.json"]);
        let settings = Plan::of_model(&index, &all, false);
        assert!(settings.files.iter().all(|name| !name.contains("safetensors")), "{settings:?}");
    }

    #[test]
    fn a_component_is_at_the_top_or_in_its_folder() {
        let own =
            names(&["config.json", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"]);
        let plan = Plan::of_component(&VAE, &own).expect("there is one");
        assert_eq!(plan.files, ["config.json", "diffusion_pytorch_model.safetensors"]);
        let within = names(&["model_index.json", "vae/config.json", "vae/diffusion_pytorch_model.bin"]);
        let plan = Plan::of_component(&VAE, &within).expect("there is one");
        assert_eq!(plan.files, ["vae/config.json", "vae/diffusion_pytorch_model.bin"]);
        assert_eq!(Plan::of_component(&VAE, &names(&["x.safetensors"])), None);
    }
}
