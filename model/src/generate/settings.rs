//! Every setting of a picture, one row each.
//!
//! From a row come the field of a [`PartialRequest`], its merging, its key in a manifest and in
//! A1111's API, and which keys of a picture's text it replaces. The row also says by which flag the
//! command line knows it; a test there compares the two. Read next: `partial.rs` merges and
//! completes, `api_request.rs` reads JSON, `infotext.rs` a picture's text.

use serde_json::{Map, Value};

use super::api_field::{ApiField, FromApi, ValueKind};
use super::aspect::Aspect;
use super::image_input::ImageInput;
use super::mask_input::MaskInput;
use super::values::{Seed, TaskKind};
use crate::error::Result;
use crate::image::ResizeMode;
use crate::image::mask::Margins;
use crate::rng::RandomSource;
use crate::text::prompt::PromptSyntax;

/// What is known about a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The field of [`PartialRequest`].
    pub field: &'static str,
    /// The flag of the command line, without its dashes.
    pub flag: &'static str,
    /// Keys in a manifest, in A1111's API or in its `override_settings`.
    pub api_keys: &'static [&'static str],
    /// Keys in the text of a picture.
    pub infotext_keys: &'static [&'static str],
    /// Other fields that replace it: with another sampler, the stored schedule means nothing.
    pub replaced_by: &'static [&'static str],
    /// The value where none is given, in words.
    pub default: &'static str,
    /// What it is, a sentence.
    pub help: &'static str,
    /// How a value of it is written in JSON.
    pub kind: ValueKind,
}

/// Makes [`PartialRequest`] and [`SETTINGS`] of the table.
macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])*
        $field:ident: $type:ty { flag: $flag:literal, api: $api:expr, infotext: $infotext:expr,
            replaced_by: $replaced_by:expr, default: $default:literal }
    )*) => {
        /// A request as far as somebody has said something; merged with others, in this order: a
        /// line of a manifest, flags, the text of a picture, the model's defaults.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct PartialRequest {
            /// What is made from what.
            pub kind: TaskKind,
            $($(#[doc = $doc])* pub $field: Option<$type>,)*
        }

        /// The table, in the order of the fields.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            field: stringify!($field),
            flag: $flag,
            api_keys: &$api,
            infotext_keys: &$infotext,
            replaced_by: &$replaced_by,
            default: $default,
            help: concat!($($doc),*).trim_ascii(),
            kind: <$type as FromApi>::KIND,
        }),*];

        impl PartialRequest {
            /// This request, and where it is silent the other.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { kind: self.kind.max(other.kind), $($field: self.$field.or(other.$field),)* }
            }

            /// Whether it says something about a field.
            pub fn says(&self, field: &str) -> bool {
                match field {
                    $(stringify!($field) => self.$field.is_some(),)*
                    _ => false,
                }
            }

            /// What it says, with the field names of A1111's API.
            pub fn to_fields(&self) -> Map<String, Value> {
                let mut fields = Map::new();
                $(
                    let keys: &[&str] = &$api;
                    if let Some(value) = &self.$field {
                        fields.insert(keys[0].to_owned(), value.to_api());
                    }
                )*
                fields
            }

            /// Takes over a value of A1111's API. False if no setting has this key.
            ///
            /// # Errors
            /// `Request` if the value has no meaning.
            pub(super) fn set_from_api(&mut self, key: &str, value: &Value) -> Result<bool> {
                $(
                    const { assert!(!$flag.is_empty()) };
                    let keys: &[&str] = &$api;
                    if keys.contains(&key) {
                        self.$field = <$type>::from_api(&ApiField { key, value })?;
                        return Ok(true);
                    }
                )*
                Ok(false)
            }
        }
    };
}

settings! {
    /// What the picture should show.
    prompt: String { flag: "prompt", api: ["prompt"], infotext: [], replaced_by: [], default: "nothing" }
    /// What it should not show.
    negative_prompt: String { flag: "negative-prompt", api: ["negative_prompt"], infotext: [], replaced_by: [],
        default: "nothing" }
    /// How both are read.
    prompt_syntax: PromptSyntax { flag: "prompt-syntax", api: ["prompt_syntax"], infotext: ["Emphasis"], replaced_by: [],
        default: "plain" }
    /// Which layer of the text encoder counts: 1 the last, 2 the one before.
    clip_skip: usize { flag: "clip-skip", api: ["clip_skip", "CLIP_stop_at_last_layers"], infotext: ["Clip skip"],
        replaced_by: [], default: "1" }
    /// Pixels.
    width: usize { flag: "width", api: ["width"], infotext: ["Size"], replaced_by: [], default: "the model's, or the picture's" }
    /// Pixels.
    height: usize { flag: "height", api: ["height"], infotext: ["Size"], replaced_by: [],
        default: "the model's, or the picture's" }
    /// The proportions of the picture, whose size follows from the model's.
    aspect: Aspect { flag: "aspect", api: ["aspect"], infotext: [], replaced_by: [], default: "the model's" }
    /// Steps, guidance, sampler and schedule for a kind of model; what else is said counts more.
    preset: String { flag: "preset", api: ["preset"], infotext: [], replaced_by: [], default: "what suits the model" }
    /// Steps from noise to picture.
    steps: usize { flag: "steps", api: ["steps"], infotext: ["Steps"], replaced_by: ["sigmas"], default: "the model's, or 20" }
    /// How strongly the text counts.
    cfg_scale: f32 { flag: "cfg-scale", api: ["cfg_scale"], infotext: ["CFG scale"], replaced_by: [],
        default: "the model's, or 7.5" }
    /// The number from which all noise is drawn.
    seed: Seed { flag: "seed", api: ["seed"], infotext: ["Seed"], replaced_by: [], default: "random" }
    /// The generator whose random numbers the seed chooses.
    rng: RandomSource { flag: "rng", api: ["rng", "randn_source"], infotext: ["RNG"], replaced_by: [], default: "cpu" }
    /// The sampler's name.
    sampler: String { flag: "sampler", api: ["sampler_name", "sampler_index"], infotext: ["Sampler"], replaced_by: [],
        default: "the model's" }
    /// The schedule's name.
    schedule: String { flag: "schedule", api: ["scheduler"], infotext: ["Schedule type"], replaced_by: ["sampler", "sigmas"],
        default: "the model's" }
    /// How much fresh noise DDIM and TCD add.
    eta: f32 { flag: "eta", api: ["eta"], infotext: ["Eta", "Eta DDIM"], replaced_by: ["sampler"],
        default: "the sampler's: DDIM 0, TCD 0.3" }
    /// Noise levels instead of a schedule.
    sigmas: Vec<f64> { flag: "sigmas", api: ["sigmas"], infotext: ["Sigmas"], replaced_by: ["sampler", "schedule", "steps"],
        default: "none" }
    /// The share of the tokens that self-attention merges.
    token_merging: f64 { flag: "tome", api: ["token_merging_ratio"], infotext: ["Token merging ratio"], replaced_by: [],
        default: "none" }
    /// Every how many steps the whole UNet is computed.
    deep_cache: usize { flag: "deep-cache", api: ["deep_cache"], infotext: ["DeepCache interval"], replaced_by: [],
        default: "every step" }
    /// The part of the steps that have guidance.
    guidance_interval: String { flag: "guidance-interval", api: ["guidance_interval"], infotext: ["Guidance interval"],
        replaced_by: [], default: "all steps" }
    /// Whether the VAE works on a strip of rows at a time.
    vae_tiling: bool { flag: "vae-tiling", api: ["vae_tiling"], infotext: ["VAE tiling"], replaced_by: [],
        default: "where memory demands it" }
    /// How many times larger a second pass makes the picture.
    hires_scale: f64 { flag: "hires-scale", api: ["hr_scale"], infotext: ["Hires upscale", "Hires resize"], replaced_by: [],
        default: "none, or 2 with other settings of it" }
    /// Steps of the second pass.
    hires_steps: usize { flag: "hires-steps", api: ["hr_second_pass_steps"], infotext: ["Hires steps"], replaced_by: [],
        default: "those of the first" }
    /// How much the second pass replaces.
    hires_strength: f64 { flag: "hires-strength", api: ["hr_strength"], infotext: ["Denoising strength"], replaced_by: [],
        default: "0.7" }
    /// How the picture is enlarged.
    hires_upscaler: String { flag: "hires-upscaler", api: ["hr_upscaler"], infotext: ["Hires upscaler"], replaced_by: [],
        default: "Latent" }
    /// The size that a training picture would have had, `[width, height]`; SDXL.
    original_size: [usize; 2] { flag: "original-size", api: ["original_size"], infotext: ["Original size"], replaced_by: [],
        default: "the picture's" }
    /// What would have been cut off it, `[left, top]`.
    crop: [usize; 2] { flag: "crop-coords", api: ["crop_coords"], infotext: ["Crop coords"], replaced_by: [], default: "0,0" }
    /// The size to which it would have been brought.
    target_size: [usize; 2] { flag: "target-size", api: ["target_size"], infotext: ["Target size"], replaced_by: [],
        default: "the picture's" }
    /// The same for the negative prompt.
    negative_original_size: [usize; 2] { flag: "negative-original-size", api: ["negative_original_size"],
        infotext: ["Negative original size"], replaced_by: [], default: "the original size" }
    /// The same for the negative prompt.
    negative_crop: [usize; 2] { flag: "negative-crop-coords", api: ["negative_crop_coords"],
        infotext: ["Negative crop coords"], replaced_by: [], default: "the crop, with negative sizes 0,0" }
    /// The same for the negative prompt.
    negative_target_size: [usize; 2] { flag: "negative-target-size", api: ["negative_target_size"],
        infotext: ["Negative target size"], replaced_by: [], default: "the target size" }
    /// How well the picture would be liked; SDXL's refiner.
    aesthetic_score: f32 { flag: "aesthetic-score", api: ["aesthetic_score", "sdxl_refiner_high_aesthetic_score"],
        infotext: ["Aesthetic score"], replaced_by: [], default: "6" }
    /// The same for the negative prompt.
    negative_aesthetic_score: f32 { flag: "negative-aesthetic-score",
        api: ["negative_aesthetic_score", "sdxl_refiner_low_aesthetic_score"], infotext: ["Negative aesthetic score"],
        replaced_by: [], default: "2.5" }
    /// When the refiner takes over.
    refiner_at: f64 { flag: "refiner-at", api: ["refiner_switch_at"], infotext: ["Refiner switch at"], replaced_by: [],
        default: "0.8" }
    /// The picture to start from.
    image: ImageInput { flag: "image", api: ["init_images"], infotext: ["Image hash"], replaced_by: [], default: "none" }
    /// How it is brought to the size.
    resize: ResizeMode { flag: "resize", api: ["resize_mode"], infotext: ["Resize mode"], replaced_by: [], default: "crop" }
    /// How much of it is replaced.
    strength: f64 { flag: "strength", api: ["denoising_strength"], infotext: ["Denoising strength"], replaced_by: [],
        default: "0.75, with a mask 1" }
    /// White, or what lies in rectangles, is repainted.
    mask: MaskInput { flag: "mask", api: ["mask"], infotext: ["Mask hash"], replaced_by: [],
        default: "what is transparent in the picture" }
    /// Whether black is repainted instead.
    invert_mask: bool { flag: "invert-mask", api: ["inpainting_mask_invert"], infotext: ["Mask mode"], replaced_by: [],
        default: "no" }
    /// Pixels to paint beyond the edges.
    expand: Margins { flag: "expand", api: ["expand"], infotext: ["Expand"], replaced_by: [], default: "none" }
    /// Whether only the surroundings of the mask are worked on.
    only_masked: bool { flag: "only-masked", api: ["inpaint_full_res"], infotext: ["Inpaint area"], replaced_by: [],
        default: "no" }
    /// Pixels around the mask that are worked on with it, if only those are.
    padding: usize { flag: "only-masked", api: ["inpaint_full_res_padding"], infotext: ["Masked area padding"],
        replaced_by: [], default: "32" }
    /// Pixels of the seam.
    mask_blur: usize { flag: "mask-blur", api: ["mask_blur"], infotext: ["Mask blur"], replaced_by: [], default: "4" }
    /// Whether the picture is laid back around the mask.
    composite: bool { flag: "no-composite", api: ["composite"], infotext: [], replaced_by: [], default: "yes" }
}

/// The rows that have a key of a picture's text.
pub(super) fn with_infotext_key(key: &str) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.infotext_keys.contains(&key))
}

impl PartialRequest {
    /// Whether a setting of a picture's text does not count any more. `Size` holds two fields, and
    /// is replaced if both are.
    pub(super) fn replaces(&self, key: &str) -> bool {
        let replaced = |setting: &Setting| {
            self.says(setting.field) || setting.replaced_by.iter().any(|field| self.says(field))
        };
        let mut rows = with_infotext_key(key).peekable();
        rows.peek().is_some() && rows.all(replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_one_setting() {
        let mut keys: Vec<_> = SETTINGS.iter().flat_map(|setting| setting.api_keys).collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
        let known = |field: &str| SETTINGS.iter().any(|setting| setting.field == field);
        for setting in SETTINGS {
            assert!(setting.replaced_by.iter().all(|field| known(field)), "{}", setting.field);
            assert!(!setting.api_keys.is_empty(), "{} cannot be said in a manifest", setting.field);
        }
    }

    #[test]
    fn what_is_silent_is_filled() {
        let ours = PartialRequest { steps: Some(3), ..PartialRequest::default() };
        let theirs = PartialRequest {
            kind: TaskKind::Inpaint,
            steps: Some(9),
            eta: Some(0.5),
            ..PartialRequest::default()
        };
        let merged = ours.or(theirs);
        assert_eq!((merged.kind, merged.steps, merged.eta), (TaskKind::Inpaint, Some(3), Some(0.5)));
        assert!(merged.says("steps") && !merged.says("seed"));
    }

    #[test]
    fn a_size_is_replaced_by_both_sides() {
        let one = PartialRequest { width: Some(64), ..PartialRequest::default() };
        assert!(!one.replaces("Size") && !one.replaces("Version"));
        assert!(PartialRequest { height: Some(64), ..one }.replaces("Size"));
    }
}
