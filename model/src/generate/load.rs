//! From a folder, as diffusers writes and Hugging Face publishes it, to a [`Pipeline`].
//!
//! ```text
//! model_index.json         the components and their classes
//! tokenizer/               vocab.json and merges.txt, or tokenizer.json
//! text_encoder/            config.json, model.safetensors
//! tokenizer_2/, text_encoder_2/   the same of Stable Diffusion XL's second
//! unet/                    config.json, diffusion_pytorch_model.safetensors
//! vae/                     config.json, diffusion_pytorch_model.safetensors
//! scheduler/               scheduler_config.json
//! generation_config.json   optional: steps and guidance, by the names of diffusers' arguments
//! ```
//!
//! A safety checker and its feature extractor, where a folder has them, play no part in making a
//! picture and are not read.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::adapters::{AdapterSet, TextEncoderSource};
use super::callbacks::{Callbacks, Progress};
use super::estimate::Arithmetic;
use super::load_options::{Defaults, LoadOptions, scheduler_of};
use super::pipeline::Pipeline;
use super::presets::Recognised;
use super::size_conditions::XlSettings;
use crate::error::{Error, Result};
use crate::networks::clip::{ClipTextConfig, ClipTextModel, TextOutput};
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::networks::vae::{Decoder, Encoder, VaeConfig};
use crate::samplers::SchedulerConfig;
use crate::source::lazy::LazyNetwork;
use crate::source::{
    Account, Component, ModelSource, ModelSpec, TEXT_ENCODER_2, TEXT_ENCODERS, UNET, VAE, accounts,
};
use crate::source::{ModelId, model_id};
use crate::text::encode::TextEncoder;
use crate::text::tokenizer::Tokenizer;

impl Pipeline {
    /// Loads a model: a folder, or a single file.
    ///
    /// # Errors
    /// If it is no Stable Diffusion model, if a component is missing, or if a component does not
    /// fit its config or another one.
    pub fn load(model: impl Into<ModelSpec>, options: &LoadOptions) -> Result<Self> {
        Self::load_reporting(model, options, &mut |_| {})
    }

    /// The same; `callbacks` hear of each network that is loaded now. Without
    /// [`LoadOptions::keep`], there are none.
    ///
    /// # Errors
    /// The same.
    pub fn load_reporting(
        model: impl Into<ModelSpec>,
        options: &LoadOptions,
        callbacks: &mut dyn Callbacks,
    ) -> Result<Self> {
        let mut spec = model.into();
        let refiner = spec.refiner.take();
        let mut pipeline = Self::load_alone(spec, options, false, callbacks)?;
        if let Some(refiner) = refiner {
            let refiner = Self::load_alone(refiner.into(), options, true, callbacks)?;
            pipeline.check_fit_of(&refiner)?;
            pipeline.warnings.extend(refiner.warnings.iter().cloned());
            pipeline.refiner = Some(Box::new(refiner));
        }
        Ok(pipeline)
    }

    /// A model without its refiner, or the refiner itself, whose VAE is not needed.
    fn load_alone(
        spec: ModelSpec,
        options: &LoadOptions,
        is_refiner: bool,
        callbacks: &mut dyn Callbacks,
    ) -> Result<Self> {
        let source = ModelSource::open(spec)?;
        let Settings { texts, scheduler, unet_config, vae, defaults, xl } = Settings::read(&source)?;
        let model = ModelId::new(&source.spec().model, source.identity()?);
        let arithmetic = Arithmetic::of(&unet_config, &vae)?;
        let LoadOptions { isa, precision, keep } = *options;
        // In the order in which a model's errors are best reported; what is missing is found before
        // anything is loaded.
        let mut text_files = Vec::new();
        let mut text_encoders = Vec::new();
        let mut learned = Vec::new();
        for TextSettings { component, tokenizer, config } in texts {
            let file = Arc::new(source.checkpoint(component)?);
            let own = config.clone();
            let text_precision = precision.for_text(isa).into();
            let known = Arc::new(OnceLock::<Arc<[f32]>>::new()); // when the adapters are
            let vectors = Arc::clone(&known);
            let network = LazyNetwork::new(file.clone(), text_precision, keep, move |w| {
                let text_encoder = ClipTextModel::load(w, &own)?;
                Ok(text_encoder.with_learned(vectors.get().cloned().unwrap_or_default()))
            });
            network.check()?;
            text_files.push(file);
            learned.push(known);
            text_encoders.push(TextEncoder { component, tokenizer, network, config });
        }

        let unet_file = Arc::new(source.checkpoint(&UNET)?);
        let config = unet_config.clone();
        let unet = LazyNetwork::new(unet_file.clone(), precision, keep, move |w| {
            UNet2DConditionModel::load(w, &config)
        });
        unet.check()?;

        let vae_file = Arc::new(source.checkpoint(&VAE)?);
        let config = vae.clone();
        let vae_decoder =
            LazyNetwork::new(vae_file.clone(), precision, keep, move |w| Decoder::load(w, &config));
        vae_decoder.check()?;
        let config = vae.clone();
        let vae_encoder =
            LazyNetwork::new(vae_file.clone(), precision, keep, move |w| Encoder::load(w, &config));
        // Not every picture needs it, and some files lack it: an error is reported when there is
        // something to encode.
        let _ = vae_encoder.check();
        let preview = match source.preview_vae()? {
            None => None,
            Some((config, file)) => {
                let config = VaeConfig::from_config(config)?;
                check_preview(&source.spec().model, &vae, &config)?;
                let own = config.clone();
                // It is small, and asked for again and again.
                let decoder =
                    LazyNetwork::new(Arc::new(file), precision, true, move |w| Decoder::load(w, &own));
                decoder.check()?;
                Some((decoder, config))
            }
        };
        let files = text_files.iter().chain([&unet_file, &vae_file]).map(Arc::as_ref);
        let accounts = accounts(&files.collect::<Vec<_>>());
        let mut warnings: Vec<_> = accounts.iter().flat_map(Account::warnings).collect();

        let sources: Vec<_> = (text_encoders.iter().zip(&text_files))
            .map(|(TextEncoder { component, config, .. }, file)| TextEncoderSource {
                component,
                config,
                source: file.clone(),
            })
            .collect();
        let adapters = AdapterSet::open(source.spec(), &sources, (&unet_config, unet_file.clone()))?;
        warnings.extend(adapters.warnings());
        for (i, (encoder, learned)) in text_encoders.iter_mut().zip(learned).enumerate() {
            let vocab_size = encoder.config.vocab_size;
            learned.get_or_init(|| adapters.learn(&mut encoder.tokenizer, i, vocab_size));
            encoder.network.set_source(adapters.source(encoder.component));
        }
        unet.set_source(adapters.source(&UNET));

        if keep {
            for encoder in &text_encoders {
                loaded(&encoder.network, encoder.component, callbacks)?;
            }
            loaded(&unet, &UNET, callbacks)?;
            if !is_refiner {
                loaded(&vae_decoder, &VAE, callbacks)?; // the encoder when there is something to encode
            }
        }
        Ok(Self {
            text_encoders,
            unet,
            unet_config,
            vae_decoder,
            vae_encoder,
            vae,
            preview,
            other_vae: source.spec().vae.as_deref().map(model_id::name_of),
            scheduler,
            defaults: defaults.request,
            preset: defaults.preset,
            arithmetic,
            model,
            adapters,
            wildcards: source.spec().wildcards.clone(),
            xl,
            refiner: None,
            isa,
            precision,
            warnings,
        })
    }

    /// Can the other model go on with this one's latents?
    fn check_fit_of(&self, refiner: &Self) -> Result<()> {
        if self.xl.is_none() || refiner.xl.is_none() {
            let which = if self.xl.is_none() { "the model" } else { "the refiner" };
            return Err(Error::model(format_args!(
                "a refiner belongs to Stable Diffusion XL, and {which} is none of it"
            )));
        }
        let latents = |vae: &VaeConfig| (vae.latent_channels, vae.scale_factor());
        let (own, its) = (latents(&self.vae), latents(&refiner.vae));
        if own != its || refiner.is_inpainting_model() {
            return Err(Error::model(format_args!(
                "the refiner takes latents of {} channels; expected {} as the model has",
                refiner.unet_config.in_channels, self.vae.latent_channels
            )));
        }
        Ok(())
    }
}

/// A network from memory or, with reports, from its file.
///
/// # Errors
/// If it cannot be loaded.
pub(super) fn loaded<T>(
    network: &LazyNetwork<T>,
    component: &Component,
    callbacks: &mut dyn Callbacks,
) -> Result<Arc<T>> {
    let network_name = component.title;
    network.get_reporting(&mut |percent| {
        callbacks.progress(Progress::Loading { network: network_name, percent });
    })
}

/// All of a model but its weights.
struct Settings {
    texts: Vec<TextSettings>,
    scheduler: SchedulerConfig,
    unet_config: UNetConfig,
    vae: VaeConfig,
    defaults: Defaults,
    xl: Option<XlSettings>,
}

/// A text encoder but its weights.
struct TextSettings {
    component: &'static Component,
    tokenizer: Tokenizer,
    config: ClipTextConfig,
}

impl Settings {
    fn read(source: &ModelSource) -> Result<Self> {
        let folder = source.settings();
        let unet_config = UNetConfig::from_config(source.config(&UNET)?)?;
        let xl = unet_config.addition.map(|_| XlSettings {
            force_zeros_for_empty_prompt: source.flag("force_zeros_for_empty_prompt").unwrap_or(true),
            requires_aesthetics_score: source.flag("requires_aesthetics_score").unwrap_or(false),
        });
        let scheduler = scheduler_of(source, xl.is_some())?;
        let mut texts = Vec::new();
        for (tokenizer, component) in TEXT_ENCODERS.iter().filter(|(_, encoder)| source.has(encoder)) {
            let tokenizer = Tokenizer::load(&tokenizer.folder(folder))?;
            let file = source.config(component)?;
            let mut config = match **component == TEXT_ENCODER_2 {
                true => ClipTextConfig::with_projection(file)?,
                false => ClipTextConfig::from_config(file)?,
            };
            if xl.is_some() {
                config.output = TextOutput::Penultimate;
            }
            texts.push(TextSettings { component, tokenizer, config });
        }
        let vae = VaeConfig::from_config(source.config(&VAE)?)?;
        check_fit(&source.spec().model, &texts, &unet_config, &vae)?;
        if let Some(xl) = xl {
            xl.check(&source.spec().model, texts.iter().map(|text| &text.config), &unet_config)?;
        }
        let defaults = Defaults::of(source, &unet_config, &vae, &scheduler)?;
        Ok(Self { texts, scheduler, unet_config, vae, defaults, xl })
    }
}

/// Whether a model can be loaded, as far as can be seen without its weights.
///
/// # Errors
/// As [`Pipeline::load`].
pub(crate) fn check(source: &ModelSource) -> Result<()> {
    Settings::read(source).map(drop)
}

/// The preset that suits a model, if one is recognised.
///
/// # Errors
/// As [`Pipeline::load`].
pub(crate) fn preset(source: &ModelSource) -> Result<Option<Recognised>> {
    Settings::read(source).map(|settings| settings.defaults.preset)
}

/// Does the VAE for previews read the same latents?
fn check_preview(folder: &Path, vae: &VaeConfig, preview: &VaeConfig) -> Result<()> {
    let sizes = |vae: &VaeConfig| (vae.latent_channels, vae.scale_factor(), vae.out_channels);
    let ((channels, factor, _), expected) = (sizes(preview), sizes(vae));
    match sizes(preview) == expected {
        true => Ok(()),
        false => Err(Error::in_file(
            folder,
            format_args!(
                "the VAE for previews makes pictures {factor} times as large as latents of {channels} channels; expected {} \
                 times and {} channels, as the model's",
                expected.1, expected.0
            ),
        )),
    }
}

/// Each part fits its own config; do the parts fit each other?
fn check_fit(folder: &Path, texts: &[TextSettings], unet: &UNetConfig, vae: &VaeConfig) -> Result<()> {
    let expect = |what: &str, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(Error::in_file(folder, format_args!("{what}: found {found}, expected {expected}"))),
    };
    // An inpainting UNet sees the mask (1 channel) and the latents of what is kept beside the noisy
    // latents.
    if unet.in_channels != 2 * vae.latent_channels + 1 {
        expect(
            "the UNet's `in_channels` must be the VAE's `latent_channels`, or twice as many and one for inpainting",
            unet.in_channels,
            vae.latent_channels,
        )?;
    }
    expect(
        "the UNet's `out_channels` must be the VAE's `latent_channels`",
        unet.out_channels,
        vae.latent_channels,
    )?;
    expect("the VAE's `in_channels` must be red, green and blue", vae.in_channels, 3)?;
    expect("the VAE's `out_channels` must be red, green and blue", vae.out_channels, 3)?;
    let text_channels = texts.iter().map(|text| text.config.hidden_size).sum();
    for &channels in &unet.cross_attention_dim {
        expect(
            "the UNet's `cross_attention_dim` must be the text encoder's `hidden_size`, of two their sum",
            channels,
            text_channels,
        )?;
    }
    for TextSettings { tokenizer, config, .. } in texts {
        let (vocab_size, max_length) = (tokenizer.vocab_size(), tokenizer.max_length());
        if vocab_size > config.vocab_size || max_length > config.max_position_embeddings {
            return Err(Error::in_file(
                folder,
                format_args!(
                    "the tokenizer makes {max_length} tokens of a vocabulary of {vocab_size}; the text encoder takes \
                     {} of {}",
                    config.max_position_embeddings, config.vocab_size
                ),
            ));
        }
    }
    if texts.iter().any(|text| text.tokenizer.max_length() != texts[0].tokenizer.max_length()) {
        return Err(Error::in_file(
            folder,
            "the tokenizers make different numbers of tokens; expected as many",
        ));
    }
    Ok(())
}
