//! Presets: the steps, guidance, sampler and schedule that suit a distilled model or adapter.
//!
//! Such a model was trained for few steps, mostly without guidance, and makes noise or mush with
//! the settings of other models. What it is shows, in this order:
//!
//! ```text
//! adapters    by their file's name, or their repository's, and by what their metadata call them
//! the model   by its name
//! settings    an input for the guidance scale, the scheduler's class and spacing, missing blocks
//! ```
//!
//! A preset takes the place of the model's defaults, so whatever a user says counts more; a
//! `generation_config.json` in the model's folder does, too. Read `PRESETS` as a table.

use super::request::TextToImage;
use crate::error::{Error, Result};
use crate::networks::unet::{BlockKind, UNetConfig};
use crate::samplers::{Prediction, SamplerChoice, SamplerKind, Schedule, SchedulerConfig};
use crate::source::adapters::LoraSpec;
use crate::source::model_id::name_of;
use crate::source::{ModelSource, TensorFile};

/// Settings that suit a kind of model.
#[derive(Debug, PartialEq)]
pub struct Preset {
    /// What it is called: "lcm-lora".
    pub name: &'static str,
    /// For what it is.
    pub what: &'static str,
    /// Steps from noise to picture; a number in the name of a file counts more.
    pub steps: usize,
    /// How strongly the text counts; 1 is no guidance, which diffusers also calls 0.
    pub guidance_scale: f32,
    /// The sampler.
    pub sampler: SamplerKind,
    /// The schedule, if not the sampler's own.
    pub schedule: Option<Schedule>,
    /// The fresh noise, if not as much as the sampler's own.
    pub eta: Option<f32>,
    /// Where these settings are recommended.
    pub source: &'static str,
    /// By which words in a model's name it is recognised.
    models: &'static [&'static str],
    /// The same of adapters.
    adapters: &'static [&'static str],
}

/// Euler's method from the noisiest timestep down, without guidance.
const EULER_TRAILING: Preset = Preset {
    name: "",
    what: "",
    steps: 1,
    guidance_scale: 1.0,
    sampler: SamplerKind::Euler,
    schedule: Some(Schedule::Trailing),
    eta: None,
    source: "",
    models: &[],
    adapters: &[],
};

/// All presets; of several that fit a name the first.
pub static PRESETS: [Preset; 11] = [
    Preset {
        name: "sdxs",
        what: "SDXS-512, one step",
        source: "Song et al. 2024, arXiv:2403.16627; cards of IDKiro/sdxs-512-0.9 and -dreamshaper",
        models: &["sdxs"],
        ..EULER_TRAILING
    },
    Preset {
        name: "sdxl-turbo",
        what: "SDXL-Turbo, and its LoRA, 1 to 4 steps",
        sampler: SamplerKind::EulerAncestral,
        source: "Sauer et al. 2023, arXiv:2311.17042; card of stabilityai/sdxl-turbo",
        models: &["sdxl turbo", "sd xl turbo"],
        adapters: &["sdxl turbo", "sd xl turbo"],
        ..EULER_TRAILING
    },
    Preset {
        name: "sd-turbo",
        what: "SD-Turbo, 1 to 4 steps",
        source: "Sauer et al. 2023, arXiv:2311.17042; card of stabilityai/sd-turbo",
        models: &["sd turbo", "sdturbo"],
        adapters: &["sd turbo", "sdturbo"],
        ..EULER_TRAILING
    },
    Preset {
        name: "lightning",
        what: "SDXL-Lightning, 2, 4 or 8 steps",
        steps: 4,
        source: "Lin et al. 2024, arXiv:2402.13929; card of ByteDance/SDXL-Lightning",
        models: &["lightning"],
        adapters: &["lightning"],
        ..EULER_TRAILING
    },
    Preset {
        name: "hyper-sd-1step",
        what: "Hyper-SD's LoRA for 1 step, which is also for up to 8",
        sampler: SamplerKind::Tcd,
        schedule: None,
        eta: Some(1.0),
        source: "Ren et al. 2024, arXiv:2404.13686; card of ByteDance/Hyper-SD",
        adapters: &["hyper sd15 1step", "hyper sdxl 1step", "hyper sd 1step"],
        ..EULER_TRAILING
    },
    Preset {
        name: "hyper-sd-cfg",
        what: "Hyper-SD's LoRA that keeps guidance, 8 or 12 steps",
        steps: 8,
        guidance_scale: 5.0,
        sampler: SamplerKind::Ddim,
        source: "Ren et al. 2024, arXiv:2404.13686; card of ByteDance/Hyper-SD",
        adapters: &[
            "hyper sd15 8steps cfg",
            "hyper sd15 12steps cfg",
            "hyper sdxl 8steps cfg",
            "hyper sdxl 12steps cfg",
        ],
        ..EULER_TRAILING
    },
    Preset {
        name: "hyper-sd",
        what: "Hyper-SD's LoRA for 2, 4 or 8 steps",
        steps: 8,
        sampler: SamplerKind::Ddim,
        source: "Ren et al. 2024, arXiv:2404.13686; card of ByteDance/Hyper-SD",
        models: &["hyper sd", "hyper sd15", "hyper sdxl"],
        adapters: &["hyper sd", "hyper sd15", "hyper sdxl"],
        ..EULER_TRAILING
    },
    Preset {
        name: "tcd",
        what: "TCD's LoRA, 2 to 8 steps",
        steps: 4,
        sampler: SamplerKind::Tcd,
        schedule: None,
        eta: Some(0.3),
        source: "Zheng et al. 2024, arXiv:2402.19159; card of h1t/TCD-SD15-LoRA",
        models: &["tcd"],
        adapters: &["tcd"],
        ..EULER_TRAILING
    },
    Preset {
        name: "dmd2",
        what: "DMD2's LoRA for 4 steps",
        steps: 4,
        sampler: SamplerKind::Lcm,
        source: "Yin et al. 2024, arXiv:2405.14867; card of tianweiy/DMD2",
        models: &["dmd2"],
        adapters: &["dmd2"],
        ..EULER_TRAILING
    },
    Preset {
        name: "lcm-lora",
        what: "LCM-LoRA, and models into which it was merged, 2 to 8 steps",
        steps: 4,
        sampler: SamplerKind::Lcm,
        schedule: None,
        source: "Luo et al. 2023, arXiv:2311.05556; card of latent-consistency/lcm-lora-sdv1-5",
        models: &["lcm"],
        adapters: &["lcm"],
        ..EULER_TRAILING
    },
    Preset {
        name: "lcm",
        what: "LCM's whole models, which take the guidance scale as an input, 2 to 8 steps",
        steps: 4,
        guidance_scale: 8.0,
        sampler: SamplerKind::Lcm,
        schedule: None,
        source: "Luo et al. 2023, arXiv:2310.04378; card of SimianLuo/LCM_Dreamshaper_v7",
        ..EULER_TRAILING
    },
];

/// The word for no preset.
pub const NO_PRESET: &str = "none";

impl Preset {
    /// The preset of that name.
    ///
    /// # Errors
    /// `Request`, listing the known names.
    pub fn named(name: &str) -> Result<&'static Self> {
        let plain = name.to_lowercase().replace(['_', ' '], "-");
        PRESETS.iter().find(|preset| preset.name == plain).ok_or_else(|| {
            let known = PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ");
            Error::request(format_args!("unknown preset `{name}`; known are {known}, and {NO_PRESET}"))
        })
    }

    /// Puts the settings into a request, in the place of what is there.
    pub fn apply(&self, request: &mut TextToImage) {
        request.steps = self.steps;
        request.guidance_scale = self.guidance_scale;
        request.sampler = SamplerChoice { kind: Some(self.sampler), schedule: self.schedule };
        request.eta = self.eta;
        request.sigmas = Vec::new();
    }

    /// "4 steps, no guidance, sampler LCM".
    pub fn describe(&self, steps: usize) -> String {
        let steps = if steps == 1 { "1 step".into() } else { format!("{steps} steps") };
        let guidance = match self.guidance_scale {
            1.0 => "no guidance".into(),
            scale => format!("guidance {scale}"),
        };
        let mut text = format!("{steps}, {guidance}, sampler {}", self.sampler.label());
        if let Some(schedule) = self.schedule {
            text.push_str(&format!(", schedule {}", schedule.label()));
        }
        if let Some(eta) = self.eta {
            text.push_str(&format!(", eta {eta}"));
        }
        text
    }

    /// Words of the names of models and adapters by which it is recognised.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let more = self.adapters.iter().filter(|name| !self.models.contains(name));
        self.models.iter().chain(more).copied()
    }
}

/// Sets a request's settings back to those of a model without a preset.
pub(super) fn without_preset(request: &mut TextToImage) {
    let TextToImage { steps, guidance_scale, sampler, eta, .. } = TextToImage::default();
    *request = TextToImage { steps, guidance_scale, sampler, eta, ..request.clone() };
}

/// A preset that was recognised, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Recognised {
    /// Which.
    pub preset: &'static Preset,
    /// The steps, as a name has them or the preset.
    pub steps: usize,
    /// What it was recognised by: "the name `sd-turbo`".
    pub by: String,
}

impl Recognised {
    fn new(preset: &'static Preset, steps: Option<usize>, by: String) -> Self {
        Self { preset, steps: steps.unwrap_or(preset.steps), by }
    }

    /// Puts the settings into a request.
    pub fn apply(&self, request: &mut TextToImage) {
        self.preset.apply(request);
        request.steps = self.steps;
    }

    /// "preset sd-turbo, recognised by the name `sd-turbo`: 1 step, no guidance, …".
    pub fn describe(&self) -> String {
        let (name, settings) = (self.preset.name, self.preset.describe(self.steps));
        format!("preset {name}, recognised by {}: {settings}", self.by)
    }
}

/// The preset for a model with its adapters, if one is recognised.
pub(super) fn recognise(
    source: &ModelSource,
    unet: &UNetConfig,
    scheduler: &SchedulerConfig,
) -> Option<Recognised> {
    let spec = source.spec();
    let own = || {
        let name = name_of(&spec.model);
        let preset = by_name(&name, |preset| preset.models)?;
        // A whole LCM has an input for the guidance scale; one by a merged LoRA has not.
        let distilled = preset.sampler == SamplerKind::Lcm && unet.time_cond_proj_dim.is_some();
        let preset = if distilled { by_settings(unet, scheduler)?.0 } else { preset };
        Some(Recognised::new(preset, steps_in(&name), format!("the name `{name}`")))
    };
    let settings = || {
        let (preset, by) = by_settings(unet, scheduler)?;
        Some(Recognised::new(preset, None, by.to_owned()))
    };
    of_adapters(&spec.loras).or_else(own).or_else(settings)
}

/// The preset for the last of these adapters that is recognised.
pub(super) fn of_adapters(adapters: &[LoraSpec]) -> Option<Recognised> {
    adapters.iter().rev().find_map(|lora| {
        let file = TensorFile::open(&lora.path).ok();
        let said = |key: &str| file.as_ref()?.metadata().get(key).cloned();
        let names = [Some(name_of_adapter(&lora.path)), said("ss_output_name"), said("modelspec.title")];
        names.into_iter().flatten().find_map(|name| {
            let preset = by_name(&name, |preset| preset.adapters)?;
            Some(Recognised::new(preset, steps_in(&name), format!("the adapter's name `{name}`")))
        })
    })
}

/// By the UNet's settings and the scheduler's.
fn by_settings(unet: &UNetConfig, scheduler: &SchedulerConfig) -> Option<(&'static Preset, &'static str)> {
    let named = |name: &str| PRESETS.iter().find(|preset| preset.name == name);
    if unet.time_cond_proj_dim.is_some() {
        return Some((named("lcm")?, "the UNet's input for the guidance scale"));
    }
    let outermost = (unet.down_blocks.first(), unet.only_cross_attention.first());
    let alone = unet.mid_block.is_none() && unet.addition.is_none();
    if alone && matches!(outermost, (Some(BlockKind::Residual), _) | (_, Some(true))) {
        return Some((named("sdxs")?, "the UNet's blocks"));
    }
    let (kind, _) = scheduler.resolve(SamplerChoice::default()).ok()?;
    match kind {
        SamplerKind::Lcm => Some((named("lcm-lora")?, "the scheduler's class")),
        SamplerKind::Tcd => Some((named("tcd")?, "the scheduler's class")),
        SamplerKind::Euler | SamplerKind::EulerAncestral
            if scheduler.is_trailing() && scheduler.prediction().ok()? == Prediction::Epsilon =>
        {
            let name = if kind == SamplerKind::Euler { "sd-turbo" } else { "sdxl-turbo" };
            Some((named(name)?, "the scheduler's class and its trailing timesteps"))
        }
        _ => None,
    }
}

/// The first preset of which a list of words is in a name.
fn by_name(name: &str, words_of: impl Fn(&Preset) -> &'static [&'static str]) -> Option<&'static Preset> {
    let name = format!(" {} ", words(name));
    PRESETS.iter().find(|preset| words_of(preset).iter().any(|words| name.contains(&format!(" {words} "))))
}

/// "LCM_LoRA-Weights.SD15" → "lcm lora weights sd15"; "dreamshaperXL" → "dreamshaper xl".
fn words(name: &str) -> String {
    let mut words = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() || letter.is_uppercase() && before.is_numeric() {
            words.push(' ');
        }
        words.extend(if letter.is_alphanumeric() { letter } else { ' ' }.to_lowercase());
        before = letter;
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The number in front of "step" in a name: 8 of "Hyper-SD15-8steps-lora".
fn steps_in(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let before = &name[..name.find("step")?];
    let before = before.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let digits = before.len() - before.bytes().rev().take_while(u8::is_ascii_digit).count();
    before[digits..].parse().ok().filter(|steps| (1..=100).contains(steps))
}

/// The name of an adapter's file, or of its folder or repository if the file is called as every
/// other.
fn name_of_adapter(path: &std::path::Path) -> String {
    const ANY: [&str; 3] = ["pytorch_lora_weights", "adapter_model", "diffusion_pytorch_model"];
    let own = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.parent() {
        Some(folder) if ANY.contains(&&*own) => name_of(folder),
        _ => own.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn adapter(name: &str) -> Option<(&'static str, usize)> {
        let name = name_of_adapter(Path::new(name));
        let preset = by_name(&name, |preset| preset.adapters)?;
        Some((preset.name, steps_in(&name).unwrap_or(preset.steps)))
    }

    /// Names of files and repositories on the Hub and at Civitai.
    #[test]
    fn adapters_are_known_by_their_names() {
        for (name, expected) in [
            (
                "models--latent-consistency--lcm-lora-sdv1-5/snapshots/0a/pytorch_lora_weights.safetensors",
                Some(("lcm-lora", 4)),
            ),
            ("LCM_LoRA_Weights_SD15.safetensors", Some(("lcm-lora", 4))),
            ("TCD-SD15-LoRA/pytorch_lora_weights.safetensors", Some(("tcd", 4))),
            ("Hyper-SD15-1step-lora.safetensors", Some(("hyper-sd-1step", 1))),
            ("Hyper-SD15-2steps-lora.safetensors", Some(("hyper-sd", 2))),
            ("Hyper-SD15-4steps-lora.safetensors", Some(("hyper-sd", 4))),
            ("Hyper-SD15-8steps-lora.safetensors", Some(("hyper-sd", 8))),
            ("Hyper-SD15-8steps-CFG-lora.safetensors", Some(("hyper-sd-cfg", 8))),
            ("Hyper-SD15-12steps-CFG-lora.safetensors", Some(("hyper-sd-cfg", 12))),
            ("dmd2_sdxl_4step_lora_fp16.safetensors", Some(("dmd2", 4))),
            ("sdxl_lightning_8step_lora.safetensors", Some(("lightning", 8))),
            ("sd_xl_turbo_lora_v1.safetensors", Some(("sdxl-turbo", 1))),
            ("detail_tweaker.safetensors", None),
            ("hyperdetailed.safetensors", None),
            ("turbo_car.safetensors", None),
        ] {
            assert_eq!(adapter(name), expected, "{name}");
        }
    }

    #[test]
    fn models_are_known_by_their_names() {
        let model = |name: &str| by_name(name, |preset| preset.models).map(|preset| preset.name);
        for (name, expected) in [
            ("sd-turbo", Some("sd-turbo")),
            ("sd_turbo_fp16", Some("sd-turbo")),
            ("sdxl-turbo", Some("sdxl-turbo")),
            ("sd_xl_turbo_1.0", Some("sdxl-turbo")),
            ("sdxs-512-0.9", Some("sdxs")),
            ("LCM_Dreamshaper_v7", Some("lcm-lora")), // the UNet's settings make it `lcm`
            ("dreamshaper_8LCM", Some("lcm-lora")),
            ("sdxl_lightning_4step", Some("lightning")),
            ("dreamshaperXL_turbo", None), // a merge, which wants more steps and guidance
            ("stable-diffusion-v1-5", None),
            ("welcome", None),
        ] {
            assert_eq!(model(name), expected, "{name}");
        }
        assert_eq!(steps_in("sdxl_lightning_4step"), Some(4));
        assert_eq!(steps_in("many steps"), None);
    }

    #[test]
    fn every_preset_can_be_used() {
        let scheduler = SchedulerConfig::from_json(r#"{"_class_name": "PNDMScheduler"}"#, "s.json");
        let scheduler = scheduler.expect("valid settings");
        for preset in &PRESETS {
            assert_eq!(Preset::named(preset.name).ok(), Some(preset));
            let mut request = TextToImage::default();
            preset.apply(&mut request);
            assert!(scheduler.resolve(request.sampler).is_ok(), "{}", preset.name);
            assert!(preset.eta.is_none() || preset.sampler.has_eta(), "{}", preset.name);
            without_preset(&mut request);
            assert_eq!(request, TextToImage::default(), "{}", preset.name);
        }
        let error = Preset::named("magic").expect_err("unknown").to_string();
        assert!(error.contains("known are sdxs, ") && error.ends_with("and none"), "{error}");
    }
}
