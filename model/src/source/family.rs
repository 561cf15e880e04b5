//! Which of the published families a single file belongs to, recognised by the shapes of its
//! tensors.
//!
//! ```text
//! channels of the text     768 SD 1.x · 1024 SD 2.x · 2048 SDXL · 1280 SDXL's refiner
//! channels of the input    4 text to image · 9 inpainting
//! depth of transformers    10 SDXL · 4 SSD-1B · 2 Segmind-Vega
//! ```
//!
//! What the UNet predicts, no shape shows. As in diffusers and ComfyUI, the file's own words
//! decide: its metadata (`modelspec.prediction_type`), a marker (`v_pred`), for SD 2.x the step at
//! which its training ended (875000 is that of 2.0-base) and the name of SD-Turbo; where all are
//! silent, v for SD 2.x and the noise for others. A second marker (`ztsnr`) says that the last step
//! of its training was pure noise: then the schedule is rescaled to that, and its steps are counted
//! from the end (Lin et al., *Common Diffusion Noise Schedules and Sample Steps are Flawed*, 2023).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::component::{Component, SCHEDULER, TEXT_ENCODER, TEXT_ENCODER_2, UNET};
use super::naming::Naming;
use super::published::{PUBLISHED, Published, SD15, SD21, SDXL, SDXL_REFINER, SEGMIND_VEGA, SSD_1B};
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};

/// A published family, and what a file shows beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Family {
    published: &'static Published,
    in_channels: usize,
    v_prediction: bool,
    zero_terminal_snr: bool,
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
                format_args!("this is {kind}; expected Stable Diffusion 1.x, 2.x or XL"),
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
        let has = |name: &str| naming.stored(name).is_some_and(|name| file.tensor(&name.name).is_some());
        let text = shape("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight");
        let published = match (text, has("add_embedding.linear_1.weight")) {
            (Some(768), false) => &SD15,
            (Some(1024), false) => &SD21,
            (Some(1280), true) => &SDXL_REFINER,
            (Some(2048), true) => of_depth(|depth| {
                has(&format!("down_blocks.2.attentions.0.transformer_blocks.{}.norm1.weight", depth - 1))
            }),
            _ => {
                let found = text.map_or("none".into(), |channels| channels.to_string());
                return Err(Error::in_file(
                    file.path(),
                    format_args!(
                        "its UNet attends to texts of {found} channels; expected 768 (SD 1.x), 1024 (SD 2.x) or \
                         2048 (SDXL), or a folder with the model's settings"
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
        let zero_terminal_snr = file.tensor("ztsnr").is_some();
        Ok(Self { published, in_channels, v_prediction, zero_terminal_snr })
    }

    /// The folder with its settings.
    pub(super) fn settings(self) -> PathBuf {
        self.published.root()
    }

    /// In words: "Stable Diffusion 1.x for inpainting".
    pub(super) fn describe(self) -> String {
        let version = match self.published.name {
            name if name == SD15.name => "1.x",
            name if name == SD21.name => "2.x",
            name if name == SDXL_REFINER.name => "XL refiner",
            name if name == SSD_1B.name => "XL (SSD-1B)",
            name if name == SEGMIND_VEGA.name => "XL (Segmind-Vega)",
            _ => "XL",
        };
        let task = if self.in_channels == 9 { " for inpainting" } else { "" };
        let prediction = if self.v_prediction { ", v-prediction" } else { "" };
        let snr = if self.zero_terminal_snr { ", zero terminal SNR" } else { "" };
        format!("Stable Diffusion {version}{task}{prediction}{snr}")
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
        if self.zero_terminal_snr {
            overrides.push((&SCHEDULER, "rescale_betas_zero_snr", true.into()));
            overrides.push((&SCHEDULER, "timestep_spacing", "trailing".into()));
        }
        overrides
    }

    /// Where a missing component is to be had.
    pub(super) fn published_place(settings: &Path, component: &Component) -> &'static str {
        let xl = PUBLISHED.iter().any(|published| {
            published.root() == settings
                && published.files.iter().any(|(file, _)| file.starts_with(TEXT_ENCODER_2.name))
        });
        match (settings == SD21.root(), component.name) {
            _ if xl => "the folder of stabilityai/stable-diffusion-xl-base-1.0",
            (false, name) if name == TEXT_ENCODER.name => {
                "the folder of openai/clip-vit-large-patch14 or of stable-diffusion-v1-5"
            }
            (false, _) => {
                "the folder of stable-diffusion-v1-5 or vae-ft-mse-840000-ema-pruned.safetensors of stabilityai"
            }
            (true, name) if name == TEXT_ENCODER.name => "the folder of stabilityai/stable-diffusion-2-1",
            (true, _) => {
                "the folder of stabilityai/stable-diffusion-2-1, or of SD 1.x, whose VAE is the same"
            }
        }
    }
}

/// Which relative of XL has transformers of this depth at its innermost level; `has` says whether
/// there is a block of a number, from 1.
fn of_depth(has: impl Fn(usize) -> bool) -> &'static Published {
    match (1..=10).take_while(|&depth| has(depth)).count() {
        2 => &SEGMIND_VEGA,
        4 => &SSD_1B,
        _ => &SDXL,
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
const FOREIGN: [(&str, &str); 18] = [
    ("edm_mean", "Playground 2.5, whose noise is scaled in another way"),
    ("edm_vpred.sigma", "CosXL, whose noise is scaled in another way"),
    ("model.diffusion_model.label_emb.weight", "an upscaler"),
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
    ("lora_te2_", "a LoRA, which changes a model and is none"),
    (".lora_A.", "a LoRA, which changes a model and is none"),
    (".lora_down.", "a LoRA, which changes a model and is none"),
    ("string_to_param", "a textual inversion, which is a word and no model"),
    ("emb_params", "a textual inversion, which is a word and no model"),
];

/// What the file is, if it is no Stable Diffusion.
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

    use super::*;

    /// A file with the tensors that show a family: text channels, depth, and what else.
    fn file(text: usize, depth: usize, more: &[&str]) -> (tempfile::TempDir, TensorFile) {
        let unet = |name: &str| format!("model.diffusion_model.{name}");
        let block = "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight";
        let mut shapes = vec![
            (unet("time_embed.0.weight"), vec![4, 1]),
            (unet("input_blocks.0.0.weight"), vec![1, 4, 3, 3]),
            (unet("input_blocks.3.0.op.weight"), vec![1, 1, 3, 3]),
            (unet(block), vec![1, text]),
        ];
        for i in 0..depth {
            shapes.push((unet(&format!("input_blocks.7.1.transformer_blocks.{i}.norm1.weight")), vec![1]));
        }
        if text > 1024 {
            shapes.push((unet("label_emb.0.0.weight"), vec![1, 1]));
        }
        shapes.extend(more.iter().map(|name| ((*name).to_owned(), vec![1])));
        let zeros = vec![0u8; 1 << 14];
        let views = shapes.iter().map(|(name, shape)| {
            let bytes = &zeros[..2 * shape.iter().product::<usize>()];
            (name.as_str(), TensorView::new(Dtype::F16, shape.clone(), bytes).expect("as many bytes"))
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        serialize_to_file(views, None::<HashMap<String, String>>, &path).expect("writable");
        let file = TensorFile::open(&path).expect("just written");
        (folder, file)
    }

    fn described(text: usize, depth: usize, more: &[&str]) -> String {
        let (_folder, file) = file(text, depth, more);
        Family::of(&file).map_or_else(|error| error.to_string(), Family::describe)
    }

    #[test]
    fn shapes_tell_the_family() {
        assert_eq!(described(768, 1, &[]), "Stable Diffusion 1.x");
        assert_eq!(described(1024, 1, &[]), "Stable Diffusion 2.x, v-prediction");
        assert_eq!(described(2048, 10, &[]), "Stable Diffusion XL");
        assert_eq!(described(2048, 4, &[]), "Stable Diffusion XL (SSD-1B)");
        assert_eq!(described(2048, 2, &[]), "Stable Diffusion XL (Segmind-Vega)");
        assert_eq!(described(1280, 4, &[]), "Stable Diffusion XL refiner");
        assert!(described(512, 1, &[]).contains("texts of 512 channels; expected 768"));
        assert!(described(2048, 10, &["edm_mean"]).contains("Playground 2.5"));
    }

    #[test]
    fn marks_tell_the_prediction_and_the_schedule() {
        let expected = "Stable Diffusion XL, v-prediction, zero terminal SNR";
        assert_eq!(described(2048, 10, &["v_pred", "ztsnr"]), expected);
        assert_eq!(described(2048, 10, &["v_pred"]), "Stable Diffusion XL, v-prediction");
        let (_folder, file) = file(2048, 10, &["v_pred", "ztsnr"]);
        let overrides = Family::of(&file).expect("XL").overrides();
        let value = |key: &str| {
            let found =
                overrides.iter().find(|(component, name, _)| **component == SCHEDULER && *name == key);
            found.map(|(.., value)| value.clone())
        };
        assert_eq!(value("prediction_type"), Some("v_prediction".into()));
        assert_eq!(value("rescale_betas_zero_snr"), Some(true.into()));
        assert_eq!(value("timestep_spacing"), Some("trailing".into()));
    }
}
