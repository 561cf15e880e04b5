//! Model folders with a published architecture and random weights, to test and to time without a
//! download.
//!
//! ```text
//! folder/model_index.json, */config.json, scheduler/…   from `model/assets/`, as published
//! folder/tokenizer/vocab.json, merges.txt               CLIP's own vocabulary
//! folder/{text_encoder,unet,vae}/*.safetensors          the tensors that the load code requests
//! ```
//!
//! A weight of a layer with n inputs is uniform between ±√(3/n), which has variance 1/n, so that a
//! signal keeps its size from layer to layer; norms start at weight 1, every bias is 0. Each tensor
//! has a random stream of its own, keyed by the seed and its name. The pictures of such a model
//! show noise; its speed and memory are those of the real one.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

pub use aquatint_tensor::DType;
use aquatint_tensor::{Element, bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::{Dtype, View, serialize_to_file};

use super::new_folder;
use crate::error::{Error, Result};
use crate::networks;
use crate::source::config::ConfigFile;
use crate::source::published::{PUBLISHED, Published, TINY};
use crate::source::{Component, Schema, TEXT_ENCODERS, TensorSpec, files};
use crate::text::tokenizer;

/// A published architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture(&'static Published);

impl Architecture {
    /// A small relative of Stable Diffusion with all kinds of layers: 128×128, 2 million
    /// parameters.
    pub const TINY: Self = Self(&TINY);

    /// The architecture of that name: `sd15`, `sd-turbo`, `lcm-sd15`, …
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn parse(name: &str) -> Result<Self> {
        let found = PUBLISHED.iter().find(|known| known.name == name);
        found.map(|published| Self(published)).ok_or_else(|| {
            let known = Self::all().map(|known| known.0.name).collect::<Vec<_>>().join(", ");
            Error::request(format_args!("unknown architecture `{name}`; known are {known}"))
        })
    }

    /// All architectures.
    pub fn all() -> impl Iterator<Item = Self> {
        PUBLISHED.iter().map(|published| Self(published))
    }

    /// Its networks, and the tensors that their load code asks for.
    ///
    /// # Errors
    /// None in practice: the settings are part of this crate.
    pub fn networks(self) -> Result<Vec<Network>> {
        let root = self.published().root();
        let network = |component: &'static Component| {
            let config = ConfigFile::open(&component.config_path(&root))?;
            let schema = Schema::new();
            networks::architecture(component, config)?.read(&schema.weights())?;
            Ok(Network { component, tensors: schema.tensors() })
        };
        Component::networks()
            .filter(|component| files::is_file(&component.config_path(&root)))
            .map(network)
            .collect()
    }

    /// Its settings: all files but weights and vocabulary.
    pub fn published(self) -> &'static Published {
        self.0
    }
}

/// A network of a model to be made up.
pub struct Network {
    /// Which it is.
    pub component: &'static Component,
    /// All its tensors.
    pub tensors: Vec<TensorSpec>,
}

impl Network {
    /// Numbers in all its tensors.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }
}

/// A model to be made up.
#[derive(Clone, Copy, Debug)]
pub struct RandomModel {
    /// What it is made of.
    pub architecture: Architecture,
    /// The element type of its files.
    pub dtype: DType,
    /// The number from which all weights are drawn.
    pub seed: u64,
}

impl RandomModel {
    /// Writes the folder. It appears under its name only when it is complete; `progress` is told
    /// each part and its number of parameters before the part is written.
    ///
    /// # Errors
    /// If the folder exists and is not empty, or cannot be written.
    pub fn write(&self, folder: &Path, progress: &mut dyn FnMut(&str, usize)) -> Result<()> {
        new_folder::write(folder, |partial| self.write_files(partial, progress))
    }

    fn write_files(&self, folder: &Path, progress: &mut dyn FnMut(&str, usize)) -> Result<()> {
        let published = self.architecture.published();
        for (path, text) in published.files {
            let path = folder.join(path);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, text))
                .map_err(Error::writing(&path))?;
        }
        for (tokenizer, encoder) in TEXT_ENCODERS {
            if files::is_file(&encoder.config_path(&published.root())) {
                tokenizer::write_clip_vocabulary(&tokenizer.folder(folder))?;
            }
        }
        for network in self.architecture.networks()? {
            let component = network.component;
            progress(component.name, network.parameters());
            let path = component.folder(folder).join(component.weights_file());
            self.write_weights(&path, &network.tensors)?;
        }
        Ok(())
    }

    fn write_weights(&self, path: &Path, tensors: &[TensorSpec]) -> Result<()> {
        let tensors = tensors.iter().map(|spec| (spec.name.as_str(), RandomTensor { spec, model: self }));
        // transformers and diffusers look for this note when they load a file.
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        serialize_to_file(tensors, Some(metadata), path)
            .map_err(|error| Error::run(format_args!("cannot write `{}`: {error}", path.display())))?;
        new_folder::make_readable(path)
    }
}

/// A tensor whose numbers are made when they are written, so that only one is in memory at a time.
struct RandomTensor<'a> {
    spec: &'a TensorSpec,
    model: &'a RandomModel,
}

impl RandomTensor<'_> {
    fn bytes<T: Element, const SIZE: usize>(&self, encode: fn(T) -> [u8; SIZE]) -> Vec<u8> {
        let mut bytes = vec![0; self.data_len()];
        let value = self.distribution();
        bytes.par_chunks_exact_mut(SIZE).enumerate().for_each(|(i, bytes)| {
            bytes.copy_from_slice(&encode(T::from_f32(value(i as u64))));
        });
        bytes
    }

    /// Element number → value.
    fn distribution(&self) -> Box<dyn Fn(u64) -> f32 + Sync> {
        let inputs: usize = self.spec.shape[1..].iter().product();
        match self.spec.shape.len() {
            1 if self.spec.name.ends_with("bias") => Box::new(|_| 0.0),
            1 => Box::new(|_| 1.0),
            _ => {
                let key = key(self.model.seed, &self.spec.name);
                let bound = (3.0 / inputs as f32).sqrt();
                Box::new(move |i| bound * (2.0 * uniform(key, i) - 1.0))
            }
        }
    }
}

impl View for RandomTensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.model.dtype {
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::Bf16 => Dtype::BF16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.spec.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.model.dtype {
            DType::F32 => self.bytes(f32::to_le_bytes),
            DType::F16 => self.bytes(f16::to_le_bytes),
            DType::Bf16 => self.bytes(bf16::to_le_bytes),
        })
    }

    fn data_len(&self) -> usize {
        self.spec.shape.iter().product::<usize>() * self.model.dtype.size()
    }
}

/// The key of a tensor's stream: the FNV-1a hash of its name, started from the seed.
fn key(seed: u64, name: &str) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325 ^ mix(seed);
    name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3))
}

/// Number i of a stream, in 0..1: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom
/// Number Generators", 2014) as a function of the counter, so that any number can be made on any
/// thread.
fn uniform(key: u64, i: u64) -> f32 {
    (mix(key.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15))) >> 40) as f32 / (1u32 << 24) as f32
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{TensorKind, Usage};

    fn tiny(seed: u64) -> RandomModel {
        RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed }
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes_and_another_seed_others() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, seed| {
            let path = folder.path().join(name);
            tiny(seed).write(&path, &mut |_, _| {}).expect("the folder is writable");
            fs::read(path.join("unet/diffusion_pytorch_model.safetensors")).expect("it was written")
        };
        let (a, b, c) = (write("a", 0), write("b", 0), write("c", 1));
        assert!(a == b && a != c);
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("mine"), b"x").expect("writable");
        let error = tiny(0).write(folder.path(), &mut |_, _| {}).expect_err("it is not empty").to_string();
        assert!(error.contains("expected a new or empty folder"), "{error}");
    }

    #[test]
    fn weights_have_the_variance_that_keeps_a_signal() {
        let precision = aquatint_kernels::Precision::F32;
        let (kind, usage) = (TensorKind::Matrix, Usage::default());
        let spec = TensorSpec { name: "w".into(), shape: vec![40, 50, 3, 3], precision, kind, usage };
        let tensor = RandomTensor { spec: &spec, model: &tiny(3) };
        let value = tensor.distribution();
        let values: Vec<f64> = (0..18_000).map(|i| f64::from(value(i))).collect();
        let mean = values.iter().sum::<f64>() / 18_000.0;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / 18_000.0;
        assert!(mean.abs() < 1e-3 && (variance * 450.0 - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
