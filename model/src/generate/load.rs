//! From a folder, as diffusers writes and Hugging Face publishes it, to a [`Pipeline`].
//!
//! ```text
//! model_index.json         the components and their classes
//! tokenizer/               vocab.json and merges.txt, or tokenizer.json
//! text_encoder/            config.json, model.safetensors
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

use super::adapters::AdapterSet;
use super::callbacks::{Callbacks, Progress};
use super::estimate::Arithmetic;
use super::load_options::{Defaults, LoadOptions, scheduler_of};
use super::pipeline::Pipeline;
use super::presets::Recognised;
use crate::error::{Error, Result};
use crate::networks::clip::{ClipTextConfig, ClipTextModel};
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::networks::vae::{Decoder, Encoder, VaeConfig};
use crate::samplers::SchedulerConfig;
use crate::source::lazy::LazyNetwork;
use crate::source::{
    Account, Component, ModelSource, ModelSpec, TEXT_ENCODER, TOKENIZER, UNET, VAE, accounts,
};
use crate::source::{ModelId, model_id};
use crate::text::encode::TextEncoder;
use crate::text::tokenizer::Tokenizer;

impl Pipeline {
    /// Loads a model: a folder, or a single file.
    ///
    /// # Errors
    /// If it is no Stable Diffusion 1.x or 2.x model, if a component is missing, or if a component
    /// does not fit its config or another one.
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
        let source = ModelSource::open(model)?;
        let Settings { mut tokenizer, scheduler, text_config, unet_config, vae, defaults } =
            Settings::read(&source)?;
        let model = ModelId::new(&source.spec().model, source.identity()?);
        let arithmetic = Arithmetic::of(&unet_config, &vae)?;
        let LoadOptions { isa, precision, keep } = *options;
        // In the order in which a model's errors are best reported; what is missing is found before
        // anything is loaded.
        let text_file = Arc::new(source.checkpoint(&TEXT_ENCODER)?);
        let config = text_config.clone();
        let text_precision = precision.for_text(isa).into();
        let learned = Arc::new(OnceLock::<Arc<[f32]>>::new()); // known when the adapters are
        let vectors = Arc::clone(&learned);
        let text_encoder = LazyNetwork::new(text_file.clone(), text_precision, keep, move |w| {
            let text_encoder = ClipTextModel::load(w, &config)?;
            Ok(text_encoder.with_learned(vectors.get().cloned().unwrap_or_default()))
        });
        text_encoder.check()?;

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
        let accounts = accounts(&[&text_file, &unet_file, &vae_file]);
        let mut warnings: Vec<_> = accounts.iter().flat_map(Account::warnings).collect();

        let adapters = AdapterSet::open(
            source.spec(),
            (&text_config, text_file.clone()),
            (&unet_config, unet_file.clone()),
        )?;
        warnings.extend(adapters.warnings());
        learned.get_or_init(|| adapters.learn(&mut tokenizer, text_config.vocab_size));
        text_encoder.set_source(adapters.source(&TEXT_ENCODER));
        unet.set_source(adapters.source(&UNET));

        if keep {
            loaded(&text_encoder, &TEXT_ENCODER, callbacks)?;
            loaded(&unet, &UNET, callbacks)?;
            loaded(&vae_decoder, &VAE, callbacks)?; // the encoder when there is something to encode
        }
        Ok(Self {
            text_encoders: vec![TextEncoder { tokenizer, network: text_encoder, config: text_config }],
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
            isa,
            precision,
            warnings,
        })
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
    tokenizer: Tokenizer,
    scheduler: SchedulerConfig,
    text_config: ClipTextConfig,
    unet_config: UNetConfig,
    vae: VaeConfig,
    defaults: Defaults,
}

impl Settings {
    fn read(source: &ModelSource) -> Result<Self> {
        let folder = source.settings();
        let tokenizer = Tokenizer::load(&TOKENIZER.folder(folder))?;
        let scheduler = scheduler_of(source)?;
        let text_config = ClipTextConfig::from_config(source.config(&TEXT_ENCODER)?)?;
        let unet_config = UNetConfig::from_config(source.config(&UNET)?)?;
        let vae = VaeConfig::from_config(source.config(&VAE)?)?;
        check_fit(&source.spec().model, &tokenizer, &text_config, &unet_config, &vae)?;
        let defaults = Defaults::of(source, &unet_config, &vae, &scheduler)?;
        Ok(Self { tokenizer, scheduler, text_config, unet_config, vae, defaults })
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
fn check_fit(
    folder: &Path,
    tokenizer: &Tokenizer,
    text: &ClipTextConfig,
    unet: &UNetConfig,
    vae: &VaeConfig,
) -> Result<()> {
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
    for &channels in &unet.cross_attention_dim {
        expect(
            "the UNet's `cross_attention_dim` must be the text encoder's `hidden_size`",
            channels,
            text.hidden_size,
        )?;
    }
    if tokenizer.vocab_size() > text.vocab_size || tokenizer.max_length() > text.max_position_embeddings {
        return Err(Error::in_file(
            folder,
            format_args!(
                "the tokenizer makes {} tokens of a vocabulary of {}; the text encoder takes {} of {}",
                tokenizer.max_length(),
                tokenizer.vocab_size(),
                text.max_position_embeddings,
                text.vocab_size
            ),
        ));
    }
    Ok(())
}
