//! Textual inversion: words that stand for vectors, which some training has found.
//!
//! ```text
//! string_to_param.*   [n, c]    A1111's .pt           the word is the file's name
//! emb_params          [n, c]    A1111's safetensors   the same
//! <cat-toy>           [c]       diffusers             the word is the tensor's name, or the file's
//! clip_l, clip_g      [n, c]    both, of SDXL         for each text encoder; the word is the file's name
//! ```
//!
//! The vectors take the place of rows of the text encoder's token table. Gal et al., *An Image is
//! Worth One Word* (2022). Read next: `text/tokenizer`, which finds the words.

use std::path::{Path, PathBuf};

use super::lora::{LoraAdapter, family_of_width, stem};
use crate::error::{Error, Result};
use crate::source::{Component, StoredTensor, TEXT_ENCODER_2, TensorFile};

/// The tensors for Stable Diffusion XL's text encoders.
const FIRST: &str = "clip_l";
const SECOND: &str = "clip_g";

/// The most vectors that fit between the marks of start and end.
const MOST: usize = 75;

/// A word, and its vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct TextualInversion {
    /// The file.
    pub path: PathBuf,
    /// The spellings of the word; the first is that by which pictures call it.
    pub names: Vec<String>,
    /// For each text encoder, row-major, `[count, its channels]`.
    pub vectors: Vec<Vec<f32>>,
    /// How many vectors the word stands for.
    pub count: usize,
}

/// A text encoder and its channels.
pub type TextWidth = (&'static Component, usize);

impl TextualInversion {
    /// Reads a file for these text encoders.
    ///
    /// # Errors
    /// If it holds no vectors, or if they are for other text encoders.
    pub fn open(path: &Path, encoders: &[TextWidth]) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let tensors: Vec<_> = file.tensors().collect();
        let &[(first, width)] = encoders else { return Self::of_xl(path, &file, encoders) };
        if *first == TEXT_ENCODER_2 {
            return Self::of_xl(path, &file, encoders);
        }
        let a1111 = |tensor: &&StoredTensor<'_>| {
            tensor.name == "emb_params" || tensor.name.starts_with("string_to_param.")
        };
        let (tensor, names) = match (tensors.iter().find(a1111), &tensors[..]) {
            (Some(tensor), _) => (*tensor, vec![stem(path)]),
            (None, [tensor]) => (*tensor, vec![tensor.name.to_owned(), stem(path)]),
            (None, _) if tensors.iter().any(|tensor| tensor.name == SECOND) => {
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
        Self::of(path, names, &[(tensor, width)])
    }

    /// Reads a file of Stable Diffusion XL.
    fn of_xl(path: &Path, file: &TensorFile, encoders: &[TextWidth]) -> Result<Self> {
        let tensors = encoders.iter().map(|&(component, width)| {
            let name = if *component == TEXT_ENCODER_2 { SECOND } else { FIRST };
            let tensor = file.tensor(name).ok_or_else(|| {
                let first = file.tensors().next().map_or("nothing", |tensor| tensor.name);
                Error::in_file(
                    path,
                    format_args!(
                        "holds no `{name}`, the vectors for Stable Diffusion XL's {}; found `{first}`",
                        component.title
                    ),
                )
            })?;
            Ok((tensor, width))
        });
        Self::of(path, vec![stem(path)], &tensors.collect::<Result<Vec<_>>>()?)
    }

    /// What `file` is, if it holds vectors for a word: "2 vectors of 768 channels".
    pub fn summary(file: &TensorFile) -> Option<String> {
        let known = |name: &str| {
            name == SECOND
                || name == "emb_params"
                || name.starts_with("string_to_param.")
                || name.starts_with('<')
        };
        let tensor = file.tensors().find(|tensor| known(tensor.name))?;
        let (count, width) = match *tensor.shape {
            [width] => (1, width),
            [count, width] => (count, width),
            _ => return None,
        };
        let vectors = if count == 1 { "vector" } else { "vectors" };
        let family = if tensor.name == SECOND { "Stable Diffusion XL" } else { family_of_width(width) };
        Some(format!("{count} {vectors} of {width} channels, for {family}"))
    }

    /// The learned words of an adapter of the first format.
    ///
    /// # Errors
    /// If they are for another text encoder.
    pub fn of_adapter(adapter: &LoraAdapter, encoders: &[TextWidth]) -> Result<Vec<Self>> {
        let tensor = |name: &String| adapter.file().tensor(name).map(|tensor| (name.clone(), tensor));
        let tensors = adapter.tokens().iter().filter_map(tensor);
        let made = tensors.map(|(name, tensor)| {
            let own: Vec<_> = encoders.iter().map(|&(_, width)| (tensor, width)).collect();
            Self::of(adapter.file().path(), vec![name], &own)
        });
        made.collect()
    }

    /// `tensors`: for each text encoder its vectors, and its channels.
    fn of(path: &Path, names: Vec<String>, tensors: &[(StoredTensor<'_>, usize)]) -> Result<Self> {
        let read = tensors.iter().map(|(tensor, width)| vectors(path, tensor, *width));
        let vectors = read.collect::<Result<Vec<_>>>()?;
        let counts: Vec<_> =
            vectors.iter().zip(tensors).map(|(vectors, (_, width))| vectors.len() / width).collect();
        if counts.iter().any(|&count| count != counts[0]) {
            return Err(Error::in_file(
                path,
                format_args!("has {counts:?} vectors for the text encoders; expected as many for each"),
            ));
        }
        Ok(Self { path: path.to_owned(), names, vectors, count: counts.first().copied().unwrap_or(0) })
    }

    /// "old-map.safetensors: 2 vectors for \"old-map\"".
    pub fn describe(&self) -> String {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let vectors = if self.count == 1 { "vector" } else { "vectors" };
        format!("{file}: {} {vectors} for \"{}\"", self.count, self.names[0])
    }
}

/// The vectors of a tensor, which must be of `width` channels.
fn vectors(path: &Path, tensor: &StoredTensor<'_>, width: usize) -> Result<Vec<f32>> {
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
    vectors
        .ok_or_else(|| Error::in_file(path, format_args!("`{}` holds what is no finite number", tensor.name)))
}
