//! The settings of published models, compiled into the program: what a single file of weights
//! lacks.
//!
//! `model/assets/` has a folder for each, with the files of a model folder but weights and
//! vocabulary (which is CLIP's, and made from its merges). `files.rs` finds them under a name in
//! angle brackets: `<sd15>/unet/config.json`.

use std::path::{Path, PathBuf};

/// A published architecture.
///
/// Two are equal if their names are.
#[derive(Debug)]
pub struct Published {
    /// Its short name: "sd15".
    pub name: &'static str,
    /// Path in the folder → text.
    pub files: &'static [(&'static str, &'static str)],
}

macro_rules! files {
    // The text encoder, the tokenizer and the VAE may be those of another model.
    ($name:literal, text: $text:literal, vae: $vae:literal) => {
        &[
            ("model_index.json", asset!($name, "/model_index.json")),
            ("scheduler/scheduler_config.json", asset!($name, "/scheduler/scheduler_config.json")),
            ("text_encoder/config.json", asset!($text, "/text_encoder/config.json")),
            ("tokenizer/tokenizer_config.json", asset!($text, "/tokenizer/tokenizer_config.json")),
            ("unet/config.json", asset!($name, "/unet/config.json")),
            ("vae/config.json", asset!($vae, "/config.json")),
        ]
    };
}

/// Those of Stable Diffusion XL, which share with base what they do not have themselves: `own` is
/// the folder of the index.
macro_rules! xl_files {
    ($own:literal, scheduler: $scheduler:literal, unet: $unet:literal) => {
        &[
            ("model_index.json", asset!($own, "/model_index.json")),
            ("scheduler/scheduler_config.json", asset!($scheduler, "/scheduler/scheduler_config.json")),
            ("text_encoder/config.json", asset!("sd15", "/text_encoder/config.json")),
            ("tokenizer/tokenizer_config.json", asset!("sd15", "/tokenizer/tokenizer_config.json")),
            ("text_encoder_2/config.json", asset!("sdxl", "/text_encoder_2/config.json")),
            ("tokenizer_2/tokenizer_config.json", asset!("sd21", "/tokenizer/tokenizer_config.json")),
            ("unet/config.json", asset!($unet, "/unet/config.json")),
            ("vae/config.json", asset!("sdxl", "/vae/config.json")),
        ]
    };
}

macro_rules! asset {
    ($name:literal, $path:literal) => {
        include_str!(concat!("../../assets/", $name, $path))
    };
}

/// Stable Diffusion 1.5.
pub static SD15: Published = Published { name: "sd15", files: files!("sd15", text: "sd15", vae: "sd15/vae") };
/// Stable Diffusion 2.1.
pub static SD21: Published = Published { name: "sd21", files: files!("sd21", text: "sd21", vae: "sd21/vae") };
/// A small relative of 2 million parameters, which was never published; for tests.
pub static TINY: Published = Published { name: "tiny", files: files!("tiny", text: "tiny", vae: "tiny/vae") };
/// stabilityai/sd-turbo: Stable Diffusion 2.1 for 1 to 4 steps.
pub static SD_TURBO: Published =
    Published { name: "sd-turbo", files: files!("sd-turbo", text: "sd21", vae: "sd15/vae") };
/// IDKiro/sdxs-512-0.9: a third of the weights, one step, the tiny VAE.
pub static SDXS: Published = Published { name: "sdxs", files: files!("sdxs", text: "sd21", vae: "taesd") };
/// IDKiro/sdxs-512-dreamshaper.
pub static SDXS_DREAMSHAPER: Published =
    Published { name: "sdxs-dreamshaper", files: files!("sdxs-dreamshaper", text: "sd15", vae: "taesd") };
/// nota-ai/bk-sdm-small: fewer layers, and no middle block.
pub static BK_SDM_SMALL: Published =
    Published { name: "bk-sdm-small", files: files!("bk-sdm-small", text: "sd15", vae: "sd15/vae") };
/// nota-ai/bk-sdm-tiny: the same with a level less.
pub static BK_SDM_TINY: Published =
    Published { name: "bk-sdm-tiny", files: files!("bk-sdm-tiny", text: "sd15", vae: "sd15/vae") };
/// segmind/tiny-sd: the UNet of bk-sdm-tiny.
pub static TINY_SD: Published =
    Published { name: "tiny-sd", files: files!("tiny-sd", text: "sd15", vae: "sd15/vae") };
/// segmind/small-sd: that of bk-sdm-base, with a middle block.
pub static SMALL_SD: Published =
    Published { name: "small-sd", files: files!("small-sd", text: "sd15", vae: "sd15/vae") };
/// SimianLuo/LCM_Dreamshaper_v7: Stable Diffusion 1.5 that takes the guidance scale as an input.
pub static LCM_SD15: Published =
    Published { name: "lcm-sd15", files: files!("lcm-sd15", text: "sd15", vae: "sd15/vae") };

/// stabilityai/stable-diffusion-xl-base-1.0.
pub static SDXL: Published =
    Published { name: "sdxl", files: xl_files!("sdxl", scheduler: "sdxl", unet: "sdxl") };
/// stabilityai/sdxl-turbo: base's networks for 1 to 4 steps at 512×512.
pub static SDXL_TURBO: Published = Published {
    name: "sdxl-turbo",
    files: xl_files!("sdxl-turbo", scheduler: "sdxl-turbo", unet: "sdxl-turbo"),
};
/// stabilityai/stable-diffusion-xl-refiner-1.0, which has the second text encoder alone.
pub static SDXL_REFINER: Published = Published {
    name: "sdxl-refiner",
    files: &[
        ("model_index.json", asset!("sdxl-refiner", "/model_index.json")),
        ("scheduler/scheduler_config.json", asset!("sdxl", "/scheduler/scheduler_config.json")),
        ("text_encoder_2/config.json", asset!("sdxl", "/text_encoder_2/config.json")),
        ("tokenizer_2/tokenizer_config.json", asset!("sd21", "/tokenizer/tokenizer_config.json")),
        ("unet/config.json", asset!("sdxl-refiner", "/unet/config.json")),
        ("vae/config.json", asset!("sdxl", "/vae/config.json")),
    ],
};
/// segmind/SSD-1B: base with half of its transformer blocks.
pub static SSD_1B: Published =
    Published { name: "ssd-1b", files: xl_files!("sdxl", scheduler: "sdxl", unet: "ssd-1b") };
/// segmind/Segmind-Vega: base with a fifth of them.
pub static SEGMIND_VEGA: Published =
    Published { name: "segmind-vega", files: xl_files!("sdxl", scheduler: "sdxl", unet: "segmind-vega") };

/// All of them.
pub static PUBLISHED: [&Published; 16] = [
    &SD15,
    &SD21,
    &TINY,
    &SD_TURBO,
    &SDXS,
    &SDXS_DREAMSHAPER,
    &BK_SDM_SMALL,
    &BK_SDM_TINY,
    &TINY_SD,
    &SMALL_SD,
    &LCM_SD15,
    &SDXL,
    &SDXL_TURBO,
    &SDXL_REFINER,
    &SSD_1B,
    &SEGMIND_VEGA,
];

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Published {}

impl Published {
    /// In place of a folder's path.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("<{}>", self.name))
    }

    /// That whose files lie under `path`, and the rest of the path.
    pub(crate) fn of(path: &Path) -> Option<(&'static Self, &Path)> {
        PUBLISHED
            .into_iter()
            .find_map(|published| Some((published, path.strip_prefix(published.root()).ok()?)))
    }

    /// The text of a file.
    pub(crate) fn text(&self, name: &Path) -> Option<&'static str> {
        self.files.iter().find(|(file, _)| Path::new(file) == name).map(|&(_, text)| text)
    }
}
