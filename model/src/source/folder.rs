//! Which files hold the weights of a model part.
//!
//! A part's folder (`unet/`, `vae/`, `text_encoder/`) holds its weights in one of these forms; the
//! first that exists is taken:
//!
//! ```text
//! stem.safetensors                    one file
//! stem.safetensors.index.json         a list of shards: {"weight_map": {"conv_in.weight": "stem-00001-of-00002.safetensors", …}}
//! stem.fp16.safetensors               the half-precision variant, when the folder has no other
//! stem.safetensors.index.fp16.json    its shards
//! stem.bin, stem.fp16.bin             the older form, a pickle
//! stem.bin.index.json                 its shards
//! ```
//!
//! `stem` is `diffusion_pytorch_model` for what diffusers writes, and `model` for what transformers
//! writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::component::Component;
use crate::error::{Error, Result};
use crate::source::files;

/// Half-precision variants, in the order in which they are looked for when the plain files are
/// absent.
const VARIANTS: [&str; 2] = ["fp16", "bf16"];

impl Component {
    /// The names that may be taken, best first; each is a file of weights or, ending in `.json`, an
    /// index of shards.
    pub(super) fn candidates(&self) -> Vec<String> {
        let stems = self.weights;
        let mut names = Vec::new();
        for stem in stems {
            names.push(format!("{stem}.safetensors"));
            names.push(format!("{stem}.safetensors.index.json"));
        }
        for variant in VARIANTS {
            for stem in stems {
                names.push(format!("{stem}.{variant}.safetensors"));
                // diffusers and transformers have put the variant in three places over the years.
                names.push(format!("{stem}.safetensors.index.{variant}.json"));
                names.push(format!("{stem}.{variant}.safetensors.index.json"));
                names.push(format!("{stem}.safetensors.{variant}.index.json"));
            }
        }
        for variant in ["", ".fp16"] {
            for stem in stems {
                names.push(format!("{stem}{variant}.bin"));
                names.push(format!("{stem}.bin.index{variant}.json"));
            }
        }
        names
    }
}

/// The safetensors files of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightFiles {
    /// One file, or all shards.
    pub paths: Vec<PathBuf>,
}

impl WeightFiles {
    /// Looks for the weights of a part in its folder.
    ///
    /// # Errors
    /// If there are none, or none in safetensors form, or if an index cannot be understood.
    pub fn find(folder: &Path, component: &Component) -> Result<Self> {
        let candidates = component.candidates();
        let Some(name) = candidates.iter().find(|name| files::is_file(&folder.join(name))) else {
            return Err(no_weights(folder, &candidates[0]));
        };
        let path = folder.join(name);
        let paths = if name.ends_with(".json") { shards(folder, &path)? } else { vec![path] };
        Ok(Self { paths })
    }
}

/// The distinct files that an index names.
pub(super) fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let text = files::read_to_string(index)?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| Error::in_file(index, error))?;
    let map = json["weight_map"].as_object().filter(|map| !map.is_empty()).ok_or_else(|| {
        Error::in_file(index, "expected an object `weight_map` with a file name for each tensor")
    })?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        // A plain file name only: an index must not reach outside of its own folder.
        let file =
            file.as_str().filter(|file| Path::new(file).file_name() == Some(file.as_ref())).ok_or_else(
                || Error::in_file(index, format_args!("`{tensor}`: expected a file name, found {file}")),
            )?;
        names.insert(file);
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn no_weights(folder: &Path, expected: &str) -> Error {
    if let Err(source) = fs::read_dir(folder) {
        return Error::Read { path: folder.to_owned(), source };
    }
    Error::in_file(folder, format_args!("no weights: expected `{expected}`"))
}
