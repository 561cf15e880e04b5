//! The tiny VAE's files as they were published first: a file for each half.
//!
//! ```text
//! taesd_encoder.safetensors   0.weight, 1.conv.0.weight, …      as diffusers' encoder.layers.0.weight
//! taesd_decoder.safetensors   1.weight, 3.conv.0.weight, …      as diffusers' decoder.layers.0.weight
//! ```
//!
//! The decoder there begins with the clamp, which diffusers does not number. The other half is
//! looked for beside the one that is given. Files that hold both halves have their names in front
//! of the numbers; [`Naming`](super::Naming) knows those.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::ConfigFile;
use super::files;
use super::tensor_file::TensorFile;
use crate::error::Result;

/// What is put in front of the names of each half, and a tensor by which it is known.
const HALVES: [(&str, &str); 2] =
    [("taesd_encoder.", "1.conv.0.weight"), ("taesd_decoder.", "3.conv.0.weight")];

/// A tensor that the other half has not: both have blocks of many numbers.
const LANDMARKS: [&str; 2] = ["0.weight", "1.weight"];

/// How the halves are called, without ending.
const STEMS: [&str; 2] = ["taesd_encoder", "taesd_decoder"];
const ENDINGS: [&str; 3] = ["safetensors", "pth", "pt"];

/// The halves that there are, each with what is put in front of its names.
pub(super) type Halves = Vec<(Arc<TensorFile>, &'static str)>;

/// The half that a file holds, and the other one if it lies beside it; `None` if it holds neither.
///
/// # Errors
/// If the other half cannot be read.
pub(super) fn halves_of_file(file: TensorFile) -> Result<Option<Halves>> {
    let Some(half) = half_of(&file) else { return Ok(None) };
    let path = file.path().to_owned();
    let mut halves = vec![(Arc::new(file), HALVES[half].0)];
    if let Some(path) = beside(&path, STEMS[half], STEMS[1 - half]) {
        let other = TensorFile::open(&path)?;
        if half_of(&other) == Some(1 - half) {
            halves.push((Arc::new(other), HALVES[1 - half].0));
        }
    }
    Ok(Some(halves))
}

/// The halves in a folder; `None` if it holds none under their published names.
///
/// # Errors
/// If one cannot be read.
pub(super) fn halves_of_folder(folder: &Path) -> Result<Option<Halves>> {
    let named = |stem: &str| {
        let paths = ENDINGS.iter().map(|ending| folder.join(format!("{stem}.{ending}")));
        paths.into_iter().find(|path| files::is_file(path))
    };
    let [encoder, decoder] = STEMS.map(named);
    match decoder.or(encoder) {
        Some(path) => halves_of_file(TensorFile::open(&path)?),
        None => Ok(None),
    }
}

/// Which half a file is.
fn half_of(file: &TensorFile) -> Option<usize> {
    (0..2).find(|&half| {
        let has = |name: &str| file.tensor(name).is_some();
        has(LANDMARKS[half]) && has(HALVES[half].1) && !has(LANDMARKS[1 - half])
    })
}

/// The file of the other half: the same name with the other word in it, with any ending.
fn beside(path: &Path, stem: &str, other: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let [word, other] = [stem, other].map(|stem| stem.trim_start_matches("taesd_"));
    let renamed = path.with_file_name(name.replace(word, other));
    let endings = ENDINGS.iter().map(|ending| renamed.with_extension(ending));
    std::iter::once(renamed.clone()).chain(endings).find(|other| other != path && files::is_file(other))
}

/// The settings of the tiny VAE for Stable Diffusion 1.x and 2.x, which its files lack.
///
/// # Errors
/// None in practice: they are part of this crate.
pub(super) fn settings() -> Result<ConfigFile> {
    ConfigFile::parse(Path::new("<taesd>/config.json"), include_str!("../../assets/taesd/config.json"))
}
