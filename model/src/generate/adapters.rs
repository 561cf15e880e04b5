//! The adapters of a pipeline: those that it was loaded with, and those that a prompt asks for.
//!
//! ```text
//! load      given adapters → the sources of text encoder and UNet are wrapped
//! generate  the prompt's tags → files of a folder; if these are others than before, the sources
//!           are wrapped anew, and the networks are loaded again when they are needed
//! ```
//!
//! Everything is opened and compared with the model before anything is changed, so that nothing is
//! ever half applied.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::presets::{self, Recognised};
use super::request::TextToImage;
use crate::error::{Error, Result};
use crate::generate::infotext::LORAS;
use crate::image::metadata::Parameters;
use crate::networks::clip::{ClipTextConfig, ClipTextModel};
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::source::adapters::{
    Adapted, LoraAdapter, LoraSpec, Targets, TextWidth, TextualInversion, files_below, find_adapter, hash,
    stem, weights_of,
};
use crate::source::{Component, ModelSpec, Schema, TensorSource, UNET};
use crate::text::prompt::PromptSyntax;
use crate::text::prompt::extra_networks::{self, Tag};
use crate::text::tokenizer::Tokenizer;

/// The adapters of a pipeline.
pub(crate) struct AdapterSet {
    spec: ModelSpec,
    targets: Targets,
    embeddings: Vec<TextualInversion>,
    /// The sources without adapters, of all networks that adapters can change.
    plain: Vec<(&'static Component, Arc<dyn TensorSource>)>,
    /// What is asked for whatever a prompt says.
    given: Mutex<Vec<LoraSpec>>,
    /// What is applied.
    current: Mutex<Vec<Arc<LoraAdapter>>>,
    hashes: Mutex<BTreeMap<PathBuf, String>>,
}

/// A text encoder's settings, and where its weights come from.
pub(crate) struct TextEncoderSource<'a> {
    pub(crate) component: &'static Component,
    pub(crate) config: &'a ClipTextConfig,
    pub(crate) source: Arc<dyn TensorSource>,
}

impl AdapterSet {
    /// Opens what `spec` names.
    ///
    /// # Errors
    /// If a file is no adapter for this model.
    pub(crate) fn open(
        spec: &ModelSpec,
        text_encoders: &[TextEncoderSource<'_>],
        unet: (&UNetConfig, Arc<dyn TensorSource>),
    ) -> Result<Self> {
        let mut networks = Vec::new();
        for TextEncoderSource { component, config, source } in text_encoders {
            let schema = Schema::of(&**source);
            ClipTextModel::load(&schema.weights(), config)?;
            networks.push((*component, schema.tensors()));
        }
        let schema = Schema::of(&*unet.1);
        UNet2DConditionModel::load(&schema.weights(), unet.0)?;
        networks.push((&UNET, schema.tensors()));
        drop(schema);
        let of_text = text_encoders.iter().map(|encoder| (encoder.component, Arc::clone(&encoder.source)));
        let widths: Vec<TextWidth> =
            text_encoders.iter().map(|encoder| (encoder.component, encoder.config.hidden_size)).collect();
        let mut made = Self {
            spec: spec.clone(),
            targets: Targets::new(&networks),
            embeddings: Vec::new(),
            plain: of_text.chain([(&UNET, unet.1)]).collect(),
            given: Mutex::new(spec.loras.clone()),
            current: Mutex::default(),
            hashes: Mutex::default(),
        };
        let given = made.spec.loras.iter().map(|lora| made.adapter(lora)).collect::<Result<Vec<_>>>()?;
        for path in &spec.embeddings {
            if path.is_dir() {
                // Folders hold embeddings for several families; those for others are left where
                // they are.
                let files = files_below(path)?;
                made.embeddings
                    .extend(files.iter().filter_map(|file| TextualInversion::open(file, &widths).ok()));
            } else {
                made.embeddings.push(TextualInversion::open(path, &widths)?);
            }
        }
        for adapter in &given {
            made.embeddings.extend(TextualInversion::of_adapter(adapter, &widths)?);
        }
        *made.current() = given;
        Ok(made)
    }

    /// The source of a network with the adapters that are applied.
    ///
    /// # Panics
    /// If adapters cannot change this network.
    pub(crate) fn source(&self, component: &Component) -> Arc<dyn TensorSource> {
        let found = self.plain.iter().find(|(other, _)| *other == component);
        let (_, plain) = found.expect("adapters change text encoders and UNets");
        let current = self.current();
        match current.is_empty() {
            true => Arc::clone(plain),
            false => Arc::new(Adapted::new(Arc::clone(plain), component, &current)),
        }
    }

    /// Teaches the tokenizer of text encoder number `encoder` the words of the embeddings; returns
    /// their vectors in the order of the numbers.
    pub(super) fn learn(&self, tokenizer: &mut Tokenizer, encoder: usize, vocab_size: usize) -> Arc<[f32]> {
        let mut vectors = Vec::new();
        let mut first = vocab_size as u32;
        for embedding in &self.embeddings {
            let count = embedding.count as u32;
            for name in &embedding.names {
                tokenizer.learn(name, first, count);
            }
            vectors.extend(&embedding.vectors[encoder]);
            first += count;
        }
        vectors.into()
    }

    /// A line about each file that was given.
    pub(super) fn notes(&self) -> Vec<String> {
        let adapters = self.current().iter().map(|adapter| adapter.describe()).collect::<Vec<_>>();
        let given = self.embeddings.iter().filter(|embedding| self.spec.embeddings.contains(&embedding.path));
        adapters.into_iter().chain(given.map(TextualInversion::describe)).collect()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.current().iter().filter_map(|adapter| adapter.warning()).collect()
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Vec<Arc<LoraAdapter>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is applied now.
    pub(super) fn applied(&self) -> Vec<LoraSpec> {
        self.current().iter().map(|adapter| adapter.spec().clone()).collect()
    }

    /// Applies these from now on; the sources of before do not change.
    pub(super) fn apply(&self, adapters: Vec<Arc<LoraAdapter>>) {
        *self.current() = adapters;
    }

    /// Asks for these from now on, whatever a prompt says.
    pub(super) fn give(&self, loras: Vec<LoraSpec>) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = loras;
    }

    fn given(&self) -> Vec<LoraSpec> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens a file, unless it is applied already with these weights.
    ///
    /// # Errors
    /// If it is no adapter for this model, or if a part of it is left although nothing may be.
    pub(super) fn adapter(&self, lora: &LoraSpec) -> Result<Arc<LoraAdapter>> {
        let applied = self.current().iter().find(|adapter| adapter.spec() == lora).cloned();
        if let Some(applied) = applied {
            return Ok(applied);
        }
        let adapter = LoraAdapter::open(lora, &self.targets)?;
        match adapter.left().first() {
            Some(first) if self.spec.strict => Err(Error::in_file(
                &lora.path,
                format_args!(
                    "{} of {} layers are not in this model, the first is `{first}`; nothing may be left out",
                    adapter.left().len(),
                    adapter.counts().1
                ),
            )),
            _ => Ok(Arc::new(adapter)),
        }
    }

    /// The adapters for a request: those that were given, but for those that a tag names as well,
    /// and those of the tags.
    pub(super) fn wanted(&self, request: &TextToImage) -> Result<Vec<LoraSpec>> {
        let tags = match request.prompt_syntax {
            PromptSyntax::A1111 => extra_networks::tags(&request.prompt)?,
            PromptSyntax::Plain => Vec::new(),
        };
        let named = |lora: &LoraSpec| tags.iter().any(|tag| stem(&lora.path) == tag.name);
        let mut wanted: Vec<_> = self.given().into_iter().filter(|lora| !named(lora)).collect();
        for Tag { name, text_encoder, unet } in &tags {
            let path = self.find(name)?;
            wanted.push(LoraSpec { path, unet: *unet, text_encoder: *text_encoder });
        }
        Ok(wanted)
    }

    /// The preset that suits an adapter for which a request's prompt asks.
    pub(super) fn preset_of_tags(&self, request: &TextToImage) -> Result<Option<Recognised>> {
        let mut wanted = self.wanted(request)?;
        wanted.retain(|lora| !self.spec.loras.contains(lora));
        Ok(presets::of_adapters(&wanted))
    }

    /// The file of a name.
    fn find(&self, name: &str) -> Result<PathBuf> {
        if let Some(given) = self.given().into_iter().find(|lora| stem(&lora.path) == name) {
            return Ok(given.path);
        }
        find_adapter(&self.spec.lora_folders, name)
    }

    fn hash(&self, path: &Path, without_header: bool) -> Option<String> {
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hash) = hashes.get(path) {
            return Some(hash.clone());
        }
        let hash = hash::short_hash(path, without_header).ok()?;
        hashes.insert(path.to_owned(), hash.clone());
        Some(hash)
    }

    /// Writes down what the request is made with, as A1111 does.
    pub(super) fn describe(&self, request: &TextToImage, parameters: &mut Parameters) -> Result<()> {
        let wanted = self.wanted(request)?;
        let hashed = |lora: &LoraSpec| {
            self.hash(&weights_of(&lora.path), true).map(|hash| format!("{}: {hash}", stem(&lora.path)))
        };
        push(parameters, "Lora hashes", wanted.iter().filter_map(hashed));
        let all = self.given();
        let given = wanted.iter().filter(|lora| all.contains(lora));
        push(parameters, LORAS, given.map(LoraSpec::to_string));
        let used = self.embeddings.iter().filter(|embedding| {
            let is_in = |text: &str| embedding.names.iter().any(|name| contains_word(text, name));
            is_in(&request.prompt) || is_in(&request.negative_prompt)
        });
        let hashed = used.filter_map(|embedding| {
            self.hash(&embedding.path, false).map(|hash| format!("{}: {hash}", embedding.names[0]))
        });
        push(parameters, "TI hashes", hashed);
        Ok(())
    }
}

/// "detail:0.8", or "detail:0.8:0.5" if the text encoder's weight is another.
impl Display for LoraSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", stem(&self.path), self.unet)?;
        if self.unet != self.text_encoder {
            write!(f, ":{}", self.text_encoder)?;
        }
        Ok(())
    }
}

fn push(parameters: &mut Parameters, key: &str, values: impl Iterator<Item = String>) {
    let values: Vec<String> = values.collect();
    if !values.is_empty() {
        parameters.push(key, values.join(", "));
    }
}

/// Whether a word is in a text; enough to say by which hash a picture knows it.
fn contains_word(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(&word.to_lowercase())
}
