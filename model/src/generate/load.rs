//! From a folder, as diffusers writes and Hugging Face publishes it, to a [`Pipeline`].
//!
//! ```text
//! model_index.json    which parts there are, and of which classes
//! tokenizer/          vocab.json and merges.txt, or tokenizer.json
//! text_encoder/       config.json, model.safetensors
//! unet/               config.json, diffusion_pytorch_model.safetensors
//! vae/                config.json, diffusion_pytorch_model.safetensors
//! scheduler/          scheduler_config.json
//! generation_config.json   perhaps: the steps and the guidance that suit the model, by the names of diffusers' arguments
//! ```
//!
//! A safety checker and its feature extractor, where a folder has them, play no part in making a picture and are not read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquatint_kernels::Isa;
use serde_json::Value;

use super::estimate::Arithmetic;
use super::{Pipeline, TextToImage};
use crate::error::{Error, Result};
use crate::networks::clip::{ClipTextConfig, ClipTextModel};
use crate::networks::unet::{UNet2DConditionModel, UNetConfig};
use crate::networks::vae::{Decoder, Encoder, VaeConfig};
use crate::precisions::Precisions;
use crate::samplers::SchedulerConfig;
use crate::source::ModelId;
use crate::source::config::ConfigFile;
use crate::source::files;
use crate::source::part::Part;
use crate::source::{Checkpoint, PartFiles, WeightFiles};
use crate::text::tokenizer::Tokenizer;

/// How a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// The precision of the large products in UNet and VAE; of the text encoder's see [`Precisions::for_text`].
    pub precision: Precisions,
    /// Whether text encoder, UNet and VAE stay in memory for the next picture. Otherwise each is loaded when a picture comes to it and freed
    /// when it leaves it, so that memory is needed for the largest and not for all.
    pub keep: bool,
}

impl Default for LoadOptions {
    /// The best instruction set that this CPU has, f32, and everything is kept.
    fn default() -> Self {
        Self { isa: Isa::best(), precision: Precisions::default(), keep: true }
    }
}

/// The parts that are loaded, and the classes that are understood.
const PARTS: [(&str, &[&str]); 5] = [
    ("tokenizer", &["CLIPTokenizer", "CLIPTokenizerFast"]),
    ("text_encoder", &["CLIPTextModel"]),
    ("unet", &["UNet2DConditionModel"]),
    ("vae", &["AutoencoderKL"]),
    ("scheduler", &[]), // the sampler's own file says which it is
];

impl Pipeline {
    /// Loads a model folder.
    ///
    /// # Errors
    /// If the folder is no Stable Diffusion 1.x or 2.x model, if a part is missing, or if a part does not fit its config or another part.
    pub fn load(folder: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let folder = folder.as_ref();
        let Settings { tokenizer, scheduler, text_config, unet_config, vae, defaults } =
            Settings::read(folder)?;
        let mut warnings = Vec::new();

        let unet_files = WeightFiles::find(&folder.join("unet"), PartFiles::Diffusers)?;
        let model = ModelId::new(folder, unet_files.paths);
        let arithmetic = Arithmetic::of(&text_config, &unet_config)?;
        let LoadOptions { isa, precision, keep } = *options;
        let open = |part: &str, files| Checkpoint::open(&folder.join(part), files).map(Arc::new);
        // In the order in which a folder's errors are best told; what is missing is known before anything is loaded.
        let file = open("text_encoder", PartFiles::Transformers)?;
        let config = text_config.clone();
        let text_precision = precision.for_text(isa).into();
        let text_encoder =
            Part::new(Arc::clone(&file), text_precision, keep, move |w| ClipTextModel::load(w, &config));
        text_encoder.check()?;
        warnings.extend(leftovers(&folder.join("text_encoder"), &file.unused()));

        let file = open("unet", PartFiles::Diffusers)?;
        let config = unet_config.clone();
        let unet =
            Part::new(Arc::clone(&file), precision, keep, move |w| UNet2DConditionModel::load(w, &config));
        unet.check()?;
        warnings.extend(leftovers(&folder.join("unet"), &file.unused()));

        let file = open("vae", PartFiles::Diffusers)?;
        let config = vae.clone();
        let vae_decoder = Part::new(Arc::clone(&file), precision, keep, move |w| Decoder::load(w, &config));
        vae_decoder.check()?;
        let mut unused = file.unused();
        unused.retain(|name| !name.starts_with("encoder.") && !name.starts_with("quant_conv."));
        warnings.extend(leftovers(&folder.join("vae"), &unused));
        let config = vae.clone();
        let vae_encoder = Part::new(file, precision, keep, move |w| Encoder::load(w, &config));

        if keep {
            text_encoder.get()?;
            unet.get()?;
            vae_decoder.get()?; // the encoder when there is something to encode
        }
        Ok(Self {
            tokenizer,
            text_encoder,
            text_config,
            unet,
            unet_config,
            vae_decoder,
            vae_encoder,
            vae,
            scheduler,
            defaults,
            arithmetic,
            model,
            isa,
            precision,
            warnings,
        })
    }
}

/// All of a folder but its weights.
struct Settings {
    tokenizer: Tokenizer,
    scheduler: SchedulerConfig,
    text_config: ClipTextConfig,
    unet_config: UNetConfig,
    vae: VaeConfig,
    defaults: TextToImage,
}

impl Settings {
    fn read(folder: &Path) -> Result<Self> {
        check_index(folder)?;
        let tokenizer = Tokenizer::load(&folder.join("tokenizer"))?;
        let scheduler = SchedulerConfig::load(folder.join("scheduler/scheduler_config.json"))?
            // diffusers' StableDiffusionPipeline overrides these two in every folder, as corrections of early files.
            .with("steps_offset", 1)
            .with("clip_sample", false);
        let text_config = ClipTextConfig::open(&folder.join("text_encoder/config.json"))?;
        let unet_config = UNetConfig::open(&folder.join("unet/config.json"))?;
        let vae = VaeConfig::open(&folder.join("vae/config.json"))?;
        check_fit(folder, &tokenizer, &text_config, &unet_config, &vae)?;
        let defaults = defaults(folder, &unet_config, &vae)?;
        Ok(Self { tokenizer, scheduler, text_config, unet_config, vae, defaults })
    }
}

/// Whether a folder holds a model that can be loaded, as far as can be told without its weights.
///
/// # Errors
/// As [`Pipeline::load`].
pub(crate) fn check(folder: &Path) -> Result<()> {
    Settings::read(folder).map(drop)
}

/// What a request asks for unless it says otherwise: the size for which the model was trained, and what its folder recommends.
pub(super) fn defaults(folder: &Path, unet: &UNetConfig, vae: &VaeConfig) -> Result<TextToImage> {
    let [height, width] = unet.sample_size.map(|side| side * vae.scale_factor());
    let mut defaults = TextToImage { width, height, ..TextToImage::default() };
    let path = folder.join("generation_config.json");
    if files::is_file(&path) {
        let file = ConfigFile::open(&path)?;
        defaults.steps = file.count("num_inference_steps", defaults.steps, 1..=1000)?;
        let scale = file.number("guidance_scale", defaults.guidance_scale.into(), 0.0..=1000.0)?;
        defaults.guidance_scale = scale as f32;
    }
    Ok(defaults)
}

/// The path and the contents of `model_index.json`, a JSON object.
pub(crate) fn read_index(folder: &Path) -> Result<(PathBuf, Value)> {
    const EXPECTED: &str = "expected a model folder with a `model_index.json`, as Hugging Face publishes it";
    let path = folder.join("model_index.json");
    if !files::is_file(&path) {
        let found = match (folder.exists(), folder.is_dir()) {
            (false, _) => "there is no such folder",
            (true, false) => "this is a file",
            (true, true) => "this folder has none",
        };
        return Err(Error::in_file(folder, format_args!("{found}; {EXPECTED}")));
    }
    let text = files::read_to_string(&path)?;
    let index: Value = serde_json::from_str(&text).map_err(|error| Error::in_file(&path, error))?;
    if !index.is_object() {
        return Err(Error::in_file(&path, "expected a JSON object"));
    }
    Ok((path, index))
}

/// Is this a Stable Diffusion folder, and are all parts there?
pub(super) fn check_index(folder: &Path) -> Result<()> {
    const PIPELINES: [&str; 3] =
        ["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"];
    let (path, index) = read_index(folder)?;
    let class = &index["_class_name"];
    if !class.as_str().is_some_and(|class| PIPELINES.contains(&class)) {
        return Err(Error::in_file(
            &path,
            format_args!("`_class_name` is {class}; expected {}", PIPELINES.join(" or ")),
        ));
    }
    for (part, classes) in PARTS {
        let class = &index[part][1]; // ["diffusers", "AutoencoderKL"]
        let known = class.as_str().is_some_and(|class| classes.is_empty() || classes.contains(&class));
        if !known {
            let expected = if classes.is_empty() { "a scheduler".into() } else { classes.join(" or ") };
            return Err(Error::in_file(
                &path,
                format_args!("`{part}` is {}; expected {expected}", index[part]),
            ));
        }
        if !files::is_dir(&folder.join(part)) {
            return Err(Error::in_file(
                folder,
                format_args!("the part `{part}` is missing; is the download complete?"),
            ));
        }
    }
    Ok(())
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
    // An inpainting UNet sees the mask (1 channel) and the latents of what is kept beside the noisy latents.
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

/// A sentence about tensors that no layer asked for.
fn leftovers(part: &Path, unused: &[String]) -> Option<String> {
    let first = unused.first()?;
    let count = unused.len();
    let part = part.display();
    Some(format!("`{part}`: {count} tensors of the file are not part of this model, the first is `{first}`"))
}
