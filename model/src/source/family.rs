//! Which of the published families a single file belongs to, recognised by the shapes of its
//! tensors.
//!
//! ```text
//! channels of the text     768 SD 1.x · 1024 SD 2.x
//! channels of the input    4 text to image · 9 inpainting
//! ```
//!
//! What the UNet of SD 2.x predicts, no shape shows. As in diffusers and ComfyUI, the file's own
//! words decide: its metadata (`modelspec.prediction_type`), a marker (`v_pred`), the step at which
//! its training ended (875000 is that of SD 2.0-base), the name of SD-Turbo; where all are silent,
//! v.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::component::{Component, SCHEDULER, TEXT_ENCODER, UNET};
use super::naming::Naming;
use super::published::{Published, SD15, SD21};
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};

/// A published family, and what a file shows beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    published: &'static Published,
    in_channels: usize,
    v_prediction: bool,
}

impl Family {
    /// That of a single file, which need not be complete.
    ///
    /// # Errors
    /// If it is another kind of model, or of no family that is known.
    pub(super) fn of(file: &TensorFile) -> Result<Self> {
        if let Some(kind) = foreign(file) {
            return Err(Error::in_file(
                file.path(),
                format_args!("this is {kind}; expected Stable Diffusion 1.x or 2.x"),
            ));
        }
        let Some(naming) = Naming::of(&UNET, file) else {
            let held = if Naming::of(&TEXT_ENCODER, file).is_some() { "a text encoder" } else { "weights" };
            return Err(Error::in_file(
                file.path(),
                format_args!("holds {held}, but no UNet of Stable Diffusion; expected a model"),
            ));
        };
        let shape = |name: &str| {
            let tensor = file.tensor(&naming.stored(name)?.name)?;
            tensor.shape.get(1).copied()
        };
        let text = shape("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight");
        let published = match text {
            Some(768) => &SD15,
            Some(1024) => &SD21,
            _ => {
                let found = text.map_or("none".into(), |channels| channels.to_string());
                return Err(Error::in_file(
                    file.path(),
                    format_args!(
                        "its UNet attends to texts of {found} channels; expected 768 (SD 1.x) or 1024 (SD 2.x), or a \
                         folder with the model's settings"
                    ),
                ));
            }
        };
        let in_channels = shape("conv_in.weight").unwrap_or(4);
        if let Some(kind) = other_task(in_channels) {
            return Err(Error::in_file(
                file.path(),
                format_args!(
                    "this is {kind} (its input has {in_channels} channels), which is not supported; expected 4, or 9 for \
                     inpainting"
                ),
            ));
        }
        let v_prediction = predicts_v(file, published == &SD21 && in_channels == 4);
        Ok(Self { published, in_channels, v_prediction })
    }

    /// The folder with its settings.
    pub(super) fn settings(self) -> PathBuf {
        self.published.root()
    }

    /// In words: "Stable Diffusion 1.x for inpainting".
    pub(super) fn describe(self) -> String {
        let version = if self.published == &SD21 { 2 } else { 1 };
        let task = if self.in_channels == 9 { " for inpainting" } else { "" };
        let prediction = if self.v_prediction { ", v-prediction" } else { "" };
        format!("Stable Diffusion {version}.x{task}{prediction}")
    }

    /// What is not as that folder says.
    pub(super) fn overrides(self) -> Vec<(&'static Component, &'static str, Value)> {
        let prediction = if self.v_prediction { "v_prediction" } else { "epsilon" };
        let mut overrides: Vec<(&'static Component, &'static str, Value)> = vec![
            (&UNET, "in_channels", self.in_channels.into()),
            (&SCHEDULER, "prediction_type", prediction.into()),
        ];
        if self.published == &SD21 && !self.v_prediction {
            overrides.push((&UNET, "sample_size", 64.into())); // SD 2.0-base and its inpainting model
        }
        overrides
    }

    /// Where a missing component is to be had.
    pub(super) fn published_place(settings: &Path, component: &Component) -> &'static str {
        match (settings == SD21.root(), component.name == TEXT_ENCODER.name) {
            (false, true) => "the folder of openai/clip-vit-large-patch14 or of stable-diffusion-v1-5",
            (false, false) => {
                "the folder of stable-diffusion-v1-5 or vae-ft-mse-840000-ema-pruned.safetensors of stabilityai"
            }
            (true, true) => "the folder of stabilityai/stable-diffusion-2-1",
            (true, false) => {
                "the folder of stabilityai/stable-diffusion-2-1, or of SD 1.x, whose VAE is the same"
            }
        }
    }
}

/// Models for other tasks have more channels in their input.
fn other_task(in_channels: usize) -> Option<&'static str> {
    match in_channels {
        4 | 9 => None,
        5 => Some("a depth-to-image model"),
        7 => Some("an upscaler"),
        8 => Some("an editing model (InstructPix2Pix)"),
        _ => Some("a model for another task"),
    }
}

/// Tensors that only other kinds of models have, and the kind.
const FOREIGN: [(&str, &str); 17] = [
    ("conditioner.embedders.", "SDXL"),
    ("add_embedding.linear_1.weight", "SDXL's UNet"),
    ("model.diffusion_model.label_emb.", "SDXL, an upscaler, or unCLIP"),
    ("joint_blocks.", "SD 3"),
    ("double_blocks.", "Flux"),
    ("depth_model.", "a depth-to-image model"),
    ("noise_augmentor.", "an unCLIP model"),
    ("low_scale_model.", "an upscaler"),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("motion_modules.", "a motion module (AnimateDiff)"),
    ("lora_unet_", "a LoRA, which changes a model and is none"),
    ("lora_te_", "a LoRA, which changes a model and is none"),
    (".lora_A.", "a LoRA, which changes a model and is none"),
    (".lora_down.", "a LoRA, which changes a model and is none"),
    ("string_to_param", "a textual inversion, which is a word and no model"),
    ("emb_params", "a textual inversion, which is a word and no model"),
];

/// What the file is, if it is no Stable Diffusion 1.x or 2.x.
pub(crate) fn foreign(file: &TensorFile) -> Option<&'static str> {
    let found = |(mark, _): &&(&str, &str)| file.tensors().any(|tensor| tensor.name.contains(mark));
    FOREIGN.iter().find(found).map(|&(_, kind)| kind)
}

/// Whether the file says that its UNet predicts v; `default` where it says nothing.
fn predicts_v(file: &TensorFile, default: bool) -> bool {
    /// Where the training of SD 2.0-base ended.
    const STEP_OF_BASE: &str = "875000";
    let says = |key: &str| file.metadata().get(key).map(String::as_str);
    if let Some(kind) = says("modelspec.prediction_type") {
        return kind.starts_with('v');
    }
    // SD-Turbo was made from SD 2.1 and predicts the noise; its file does not say so.
    let name = file.path().file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let turbo = ["sd_turbo", "sd-turbo", "sdturbo"].iter().any(|turbo| name.contains(turbo));
    let marked = file.tensor("v_pred").is_some() || says("ss_v2_v_parameterization") == Some("True");
    marked || (default && !turbo && says("global_step") != Some(STEP_OF_BASE))
}
