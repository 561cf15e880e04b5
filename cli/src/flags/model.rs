//! Which model is meant, and the flags of the commands that need one but make no picture of a
//! prompt.

use std::path::{Path, PathBuf};

use aquatint_model::generate::infotext::LORAS;
use aquatint_model::image::metadata::Parameters;
use aquatint_model::source::hub;
use aquatint_model::{EMBEDDED, Error, ModelSpec};
use clap::{Args, ValueEnum};

use crate::flags::adapters::AdapterFlags;
use crate::flags::precision::Precision;

/// A model.
#[derive(Args)]
pub(crate) struct ModelChoice {
    /// Model: a folder as diffusers saves it, a single file (.safetensors, .ckpt), or an id in
    /// Hugging Face's cache (org/name, org/name:file, org/name@revision); the default is the small
    /// model inside this program.
    #[arg(short, long, default_value = EMBEDDED)]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    parts: ModelParts,
}

/// What is not as a model's own files say.
#[derive(Args)]
pub(crate) struct ModelParts {
    /// VAE in place of the model's: a file or a folder.
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,

    /// Tiny VAE (TAESD, AutoencoderTiny) in place of the model's: a folder, one file, or one of
    /// taesd_encoder and taesd_decoder with the other beside it. Decodes with a fraction of the
    /// work and memory; faces and other fine details are better with the model's own.
    #[arg(long, value_name = "PATH")]
    taesd: Option<PathBuf>,

    /// Take --taesd for --preview taesd alone, and the VAE for the picture.
    #[arg(long, requires = "taesd")]
    taesd_preview_only: bool,

    /// Text encoder in place of the model's: a file or a folder.
    #[arg(long, value_name = "PATH")]
    text_encoder: Option<PathBuf>,

    /// Folder with the settings of a single file that is like no published model.
    #[arg(long, value_name = "FOLDER")]
    config: Option<PathBuf>,

    /// Take the averaged (EMA) weights of the UNet, if a single file has both.
    #[arg(long)]
    ema: bool,

    /// What the UNet predicts [default: what the model says].
    #[arg(long, value_enum)]
    prediction: Option<Prediction>,

    #[command(flatten)]
    adapters: AdapterFlags,
}

/// What a UNet predicts.
#[derive(Clone, Copy, ValueEnum)]
enum Prediction {
    /// The noise.
    #[value(alias = "eps")]
    Epsilon,
    /// Noise and picture, weighted by the step.
    #[value(alias = "v_prediction")]
    V,
}

impl ModelChoice {
    /// What the library is asked for.
    ///
    /// # Errors
    /// `Model` if an id is not in the cache.
    pub(crate) fn spec(&self) -> Result<ModelSpec, Error> {
        self.parts.spec(&self.model)
    }

    /// What the library is asked for to make a picture again, or another with its settings.
    ///
    /// # Errors
    /// The same; `Request` if an adapter with which it was made cannot be found.
    pub(crate) fn spec_for(&self, stored: Option<&Parameters>) -> Result<ModelSpec, Error> {
        let loras = stored.and_then(|stored| stored.get(LORAS));
        self.parts.adapters.add_stored(self.spec()?, loras)
    }

    /// Whether it is the model inside of this program.
    pub(crate) fn is_embedded(&self) -> bool {
        self.model.as_os_str() == EMBEDDED
    }
}

impl ModelParts {
    /// The same of a model that is named by itself.
    ///
    /// # Errors
    /// `Model` if an id is not in the cache; `Request` if two VAEs are to make the picture.
    pub(crate) fn spec(&self, model: &Path) -> Result<ModelSpec, Error> {
        let (taesd, preview) = match self.taesd_preview_only {
            true => (&None, &self.taesd),
            false => (&self.taesd, &None),
        };
        if taesd.is_some() && self.vae.is_some() {
            return Err(Error::request(
                "--vae and --taesd both name what makes the picture; expected one of them, or --taesd-preview-only",
            ));
        }
        let located = |path: &Option<PathBuf>| path.as_ref().map(|path| hub::locate(path)).transpose();
        let prediction = self.prediction.map(|prediction| match prediction {
            Prediction::Epsilon => "epsilon".to_owned(),
            Prediction::V => "v_prediction".to_owned(),
        });
        Ok(self.adapters.add_to(ModelSpec {
            model: hub::locate(model)?,
            vae: located(if taesd.is_some() { taesd } else { &self.vae })?,
            preview_vae: located(preview)?,
            text_encoder: located(&self.text_encoder)?,
            config: located(&self.config)?,
            ema: self.ema,
            prediction,
            ..ModelSpec::default()
        }))
    }
}

/// Folders of models: those of the flag `--models-dir`, and those that the environment variable
/// AQUATINT_MODELS lists.
pub(crate) fn model_folders(given: &[PathBuf]) -> Vec<PathBuf> {
    let listed = std::env::var_os("AQUATINT_MODELS").unwrap_or_default();
    given.iter().cloned().chain(std::env::split_paths(&listed)).collect()
}

/// What the commands without the flags of `txt2img` have in common.
#[derive(Args)]
pub(crate) struct ModelFlags {
    #[command(flatten)]
    pub(crate) choice: ModelChoice,

    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Number format of the large products [default: auto].
    #[arg(long, value_enum)]
    pub(crate) precision: Option<Precision>,
}
