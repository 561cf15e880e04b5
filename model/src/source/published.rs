//! The settings of published models, compiled into the program: what a single file of weights
//! lacks.
//!
//! `model/assets/` has a folder for each, with the files of a model folder but weights and
//! vocabulary (which is CLIP's, and made from its merges). `files.rs` finds them under a name in
//! angle brackets: `<sd15>/unet/config.json`.

use std::path::{Path, PathBuf};

/// A published architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    /// Its short name: "sd15".
    pub name: &'static str,
    /// Path in the folder → text.
    pub files: [(&'static str, &'static str); 6],
}

macro_rules! files {
    ($name:literal) => {
        [
            files!($name, "model_index.json"),
            files!($name, "scheduler/scheduler_config.json"),
            files!($name, "text_encoder/config.json"),
            files!($name, "tokenizer/tokenizer_config.json"),
            files!($name, "unet/config.json"),
            files!($name, "vae/config.json"),
        ]
    };
    ($name:literal, $path:literal) => {
        ($path, include_str!(concat!("../../assets/", $name, "/", $path)))
    };
}

/// Stable Diffusion 1.5.
pub static SD15: Published = Published { name: "sd15", files: files!("sd15") };
/// Stable Diffusion 2.1.
pub static SD21: Published = Published { name: "sd21", files: files!("sd21") };
/// A small relative of 2 million parameters, which was never published; for tests.
pub static TINY: Published = Published { name: "tiny", files: files!("tiny") };

impl Published {
    /// In place of a folder's path.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("<{}>", self.name))
    }

    /// That whose files lie under `path`, and the rest of the path.
    pub(crate) fn of(path: &Path) -> Option<(&'static Self, &Path)> {
        let published = [&SD15, &SD21, &TINY];
        published
            .into_iter()
            .find_map(|published| Some((published, path.strip_prefix(published.root()).ok()?)))
    }

    /// The text of a file.
    pub(crate) fn text(&self, name: &Path) -> Option<&'static str> {
        self.files.iter().find(|(file, _)| Path::new(file) == name).map(|&(_, text)| text)
    }
}
