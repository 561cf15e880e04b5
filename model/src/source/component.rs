//! The components of a Stable Diffusion model: the one table of their names.
//!
//! A model folder has a folder for each, and `model_index.json` names its class:
//!
//! ```text
//! "unet": ["diffusers", "UNet2DConditionModel"]        unet/config.json,
//! unet/diffusion_pytorch_model.safetensors
//! ```
//!
//! Loading, the estimate of memory, `inspect`, random models and the benches all ask this table.
//! What the networks among them need is asked of
//! [`networks::architecture`](crate::networks::architecture).

use std::path::{Path, PathBuf};

/// A component of a model.
#[derive(Debug, PartialEq, Eq)]
pub struct Component {
    /// Its folder, and its key in `model_index.json`.
    pub name: &'static str,
    /// As a person would say it.
    pub title: &'static str,
    /// The classes that are understood; any, if there are none.
    pub classes: &'static [&'static str],
    /// The file with its settings.
    pub config: &'static str,
    /// How its weights are called, without ending, the usual name first; of one without weights
    /// empty.
    pub weights: &'static [&'static str],
}

/// Text → numbers.
pub static TOKENIZER: Component = Component {
    name: "tokenizer",
    title: "tokenizer",
    classes: &["CLIPTokenizer", "CLIPTokenizerFast"],
    config: "tokenizer_config.json",
    weights: &[],
};

/// Numbers → vectors.
pub static TEXT_ENCODER: Component = Component {
    name: "text_encoder",
    title: "text encoder",
    classes: &["CLIPTextModel"],
    config: "config.json",
    weights: &["model", "pytorch_model"], // as transformers writes them
};

/// Text → numbers for the second text encoder.
pub static TOKENIZER_2: Component = Component {
    name: "tokenizer_2",
    title: "second tokenizer",
    classes: &["CLIPTokenizer", "CLIPTokenizerFast"],
    config: "tokenizer_config.json",
    weights: &[],
};

/// Numbers → vectors, and one vector for the whole text; Stable Diffusion XL has it, its refiner it
/// alone.
pub static TEXT_ENCODER_2: Component = Component {
    name: "text_encoder_2",
    title: "second text encoder",
    classes: &["CLIPTextModelWithProjection"],
    config: "config.json",
    weights: &["model", "pytorch_model"],
};

/// Noisy latents → the noise in them.
pub static UNET: Component = Component {
    name: "unet",
    title: "UNet",
    classes: &["UNet2DConditionModel"],
    config: "config.json",
    weights: &["diffusion_pytorch_model"],
};

/// Latents → picture, and back.
pub static VAE: Component = Component {
    name: "vae",
    title: "VAE",
    classes: &["AutoencoderKL", "AutoencoderTiny"],
    config: "config.json",
    weights: &["diffusion_pytorch_model"],
};

/// How the noise is taken away; its own file says which sampler that is.
pub static SCHEDULER: Component = Component {
    name: "scheduler",
    title: "scheduler",
    classes: &[],
    config: "scheduler_config.json",
    weights: &[],
};

/// All of them, in the order in which they are used. A model has some.
pub static COMPONENTS: [&Component; 7] =
    [&TOKENIZER, &TOKENIZER_2, &TEXT_ENCODER, &TEXT_ENCODER_2, &UNET, &VAE, &SCHEDULER];

/// Text encoders, each with the tokenizer that makes its input; their vectors stand side by side in
/// this order.
pub static TEXT_ENCODERS: [(&Component, &Component); 2] =
    [(&TOKENIZER, &TEXT_ENCODER), (&TOKENIZER_2, &TEXT_ENCODER_2)];

impl Component {
    /// That of a folder's name.
    pub fn named(name: &str) -> Option<&'static Self> {
        COMPONENTS.into_iter().find(|component| component.name == name)
    }

    /// Those that have weights.
    pub fn networks() -> impl Iterator<Item = &'static Self> {
        COMPONENTS.into_iter().filter(|component| !component.weights.is_empty())
    }

    /// Its folder in a model's.
    pub fn folder(&self, model: &Path) -> PathBuf {
        model.join(self.name)
    }

    /// The file with its settings, in a model's folder.
    pub fn config_path(&self, model: &Path) -> PathBuf {
        self.folder(model).join(self.config)
    }

    /// The usual name of its file of weights.
    pub fn weights_file(&self) -> String {
        format!("{}.safetensors", self.weights.first().unwrap_or(&"model"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A further component must not have to be added in many places.
    #[test]
    fn the_name_of_a_component_is_written_once() {
        let mut found = Vec::new();
        let mut folders: Vec<PathBuf> =
            ["model/src", "cli/src", "benches"].iter().map(|name| workspace().join(name)).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder of the workspace").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let text = fs::read_to_string(&path).expect("a source file");
                    let names = [TEXT_ENCODER.name, TEXT_ENCODER_2.name, TOKENIZER_2.name];
                    if names.iter().any(|name| text.contains(&format!("\"{name}\""))) {
                        found.push(path);
                    }
                }
            }
        }
        assert_eq!(found, [workspace().join("model/src/source/component.rs")]);
    }

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
    }
}
