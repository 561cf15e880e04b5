//! Textual inversion: words that stand for vectors, which some training has found.
//!
//! ```text
//! string_to_param.*   [n, c]    A1111's .pt           the word is the file's name
//! emb_params          [n, c]    A1111's safetensors   the same
//! <cat-toy>           [c]       diffusers             the word is the tensor's name, or the file's
//! ```
//!
//! The vectors take the place of rows of the text encoder's token table. Gal et al., *An Image is
//! Worth One Word* (2022). Read next: `text/tokenizer`, which finds the words.

use std::path::{Path, PathBuf};

use super::lora::{LoraAdapter, family_of_width, stem};
use crate::error::{Error, Result};
use crate::source::{StoredTensor, TensorFile};

/// The most vectors that fit between the marks of start and end.
const MOST: usize = 75;

/// A word, and its vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct TextualInversion {
    /// The file.
    pub path: PathBuf,
    /// The spellings of the word; the first is that by which pictures call it.
    pub names: Vec<String>,
    /// Row-major, `[n, width]`.
    pub vectors: Vec<f32>,
    /// Channels of the text encoder.
    pub width: usize,
}

impl TextualInversion {
    /// Reads a file for a text encoder of `width` channels.
    ///
    /// # Errors
    /// If it holds no vectors, or if they are for another text encoder.
    pub fn open(path: &Path, width: usize) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let tensors: Vec<_> = file.tensors().collect();
        let a1111 = |tensor: &&StoredTensor<'_>| {
            tensor.name == "emb_params" || tensor.name.starts_with("string_to_param.")
        };
        let (tensor, names) = match (tensors.iter().find(a1111), &tensors[..]) {
            (Some(tensor), _) => (*tensor, vec![stem(path)]),
            (None, [tensor]) => (*tensor, vec![tensor.name.to_owned(), stem(path)]),
            (None, _) if tensors.iter().any(|tensor| tensor.name == "clip_g") => {
                return Err(Error::in_file(
                    path,
                    "this embedding is for Stable Diffusion XL, which has two text encoders",
                ));
            }
            _ => {
                return Err(Error::in_file(
                    path,
                    format_args!(
                        "is no textual inversion: expected one tensor of vectors, found {}",
                        tensors.len()
                    ),
                ));
            }
        };
        Self::of(path, names, &tensor, width)
    }

    /// What `file` is, if it holds vectors for a word: "2 vectors of 768 channels".
    pub fn summary(file: &TensorFile) -> Option<String> {
        let known = |name: &str| {
            name == "emb_params" || name.starts_with("string_to_param.") || name.starts_with('<')
        };
        let tensor = file.tensors().find(|tensor| known(tensor.name))?;
        let (count, width) = match *tensor.shape {
            [width] => (1, width),
            [count, width] => (count, width),
            _ => return None,
        };
        let vectors = if count == 1 { "vector" } else { "vectors" };
        Some(format!("{count} {vectors} of {width} channels, for {}", family_of_width(width)))
    }

    /// The learned words of an adapter of the first format.
    ///
    /// # Errors
    /// If they are for another text encoder.
    pub fn of_adapter(adapter: &LoraAdapter, width: usize) -> Result<Vec<Self>> {
        let tensor = |name: &String| adapter.file().tensor(name).map(|tensor| (name.clone(), tensor));
        let tensors = adapter.tokens().iter().filter_map(tensor);
        tensors.map(|(name, tensor)| Self::of(adapter.file().path(), vec![name], &tensor, width)).collect()
    }

    fn of(path: &Path, names: Vec<String>, tensor: &StoredTensor<'_>, width: usize) -> Result<Self> {
        let (found, count) = match *tensor.shape {
            [found] => (found, 1),
            [count, found] => (found, count),
            _ => (0, 0),
        };
        if found != width || !(1..=MOST).contains(&count) {
            let of = match found {
                768 => " (Stable Diffusion 1.x has 768)",
                1024 => " (Stable Diffusion 2.x has 1024)",
                1280 | 2048 => " (Stable Diffusion XL has 1280)",
                _ => "",
            };
            return Err(Error::in_file(
                path,
                format_args!(
                    "`{}` is {:?}{of}; expected 1 to {MOST} vectors of {width} channels, as this model's text encoder has",
                    tensor.name, tensor.shape
                ),
            ));
        }
        let vectors = tensor.to_f32().filter(|vectors| vectors.iter().all(|x| x.is_finite()));
        let vectors = vectors.ok_or_else(|| {
            Error::in_file(path, format_args!("`{}` holds what is no finite number", tensor.name))
        })?;
        Ok(Self { path: path.to_owned(), names, vectors, width })
    }

    /// How many vectors the word has.
    pub fn count(&self) -> usize {
        self.vectors.len() / self.width
    }

    /// "old-map.safetensors: 2 vectors for \"old-map\"".
    pub fn describe(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let vectors = if self.count() == 1 { "vector" } else { "vectors" };
        format!("{file}: {} {vectors} for \"{}\"", self.count(), self.names[0])
    }
}
