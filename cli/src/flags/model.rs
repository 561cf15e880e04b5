//! Which model is meant, and the flags of the commands that need one but make no picture of a
//! prompt.

use std::path::{Path, PathBuf};

use aquatint_model::generate::infotext::LORAS;
use aquatint_model::image::metadata::Parameters;
use aquatint_model::source::hub::Wanted;
use aquatint_model::source::library::Library;
use aquatint_model::source::{TEXT_ENCODER, TEXT_ENCODER_2, VAE};
use aquatint_model::{EMBEDDED, Error, ModelSpec};
use clap::{Args, ValueEnum};

use crate::flags::adapters::AdapterFlags;
use crate::flags::hub::located;
use crate::flags::library::LibraryFlags;
use crate::flags::precision::Precision;

/// A model.
#[derive(Args)]
pub(crate) struct ModelChoice {
    /// Model: a folder as diffusers saves it, a single file (.safetensors, .ckpt), a name that
    /// `aquatint models` lists, or an id on Hugging Face (org/name, org/name:file,
    /// org/name@revision), downloaded once into its cache; the default is the small model inside
    /// this program.
    #[arg(short, long, default_value = EMBEDDED)]
    pub(crate) model: PathBuf,

    /// A second model for the last steps: Stable Diffusion XL's refiner, a folder, a file or an id.
    #[arg(long, value_name = "MODEL")]
    refiner: Option<PathBuf>,

    #[command(flatten)]
    parts: ModelParts,
}

/// What is not as a model's own files say.
#[derive(Args)]
pub(crate) struct ModelParts {
    /// VAE in place of the model's: a file, a folder or an id on Hugging Face.
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,

    /// Tiny VAE (TAESD, AutoencoderTiny) in place of the model's: a folder, one file, an id on
    /// Hugging Face, or one of taesd_encoder and taesd_decoder with the other beside it. Decodes
    /// with a fraction of the work and memory; faces and other fine details are better with the
    /// model's own.
    #[arg(long, value_name = "PATH")]
    taesd: Option<PathBuf>,

    /// Take --taesd for --preview taesd alone, and the VAE for the picture.
    #[arg(long, requires = "taesd")]
    taesd_preview_only: bool,

    /// Text encoder in place of the model's: a file, a folder or an id on Hugging Face.
    #[arg(long, value_name = "PATH")]
    text_encoder: Option<PathBuf>,

    /// Second text encoder of SDXL in place of the model's: a file or a folder.
    #[arg(long, value_name = "PATH")]
    text_encoder_2: Option<PathBuf>,

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
    pub(crate) library: LibraryFlags,

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
    /// `Model` if an id is not in the cache and cannot be downloaded.
    pub(crate) fn spec(&self) -> Result<ModelSpec, Error> {
        let refiner = self.refiner.as_ref().map(|path| located(path, Wanted::Model)).transpose()?;
        Ok(ModelSpec { refiner, ..self.parts.spec(&self.model)? })
    }

    /// What the library is asked for to make a picture again, or another with its settings.
    ///
    /// # Errors
    /// The same; `Request` if an adapter with which it was made cannot be found.
    pub(crate) fn spec_for(&self, stored: Option<&Parameters>) -> Result<ModelSpec, Error> {
        let loras = stored.and_then(|stored| stored.get(LORAS));
        self.parts.adapters.add_stored(self.spec()?, loras)
    }

    /// The folders in which models are found by their names.
    ///
    /// # Errors
    /// `Request` if one is none.
    pub(crate) fn library(&self) -> Result<Library, Error> {
        self.parts.library.open()
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
    /// `Model` if an id is not in the cache and cannot be downloaded; `Request` if two VAEs are to
    /// make the picture.
    pub(crate) fn spec(&self, model: &Path) -> Result<ModelSpec, Error> {
        let library = self.library.open()?;
        self.spec_of(self.library.model(model, &library)?, &library)
    }

    /// The same of a model, or of another file that goes by a name.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn spec_of_anything(&self, path: &Path) -> Result<ModelSpec, Error> {
        let library = self.library.open()?;
        self.spec_of(self.library.anything(path, &library)?, &library)
    }

    fn spec_of(&self, model: PathBuf, library: &Library) -> Result<ModelSpec, Error> {
        let (taesd, preview) = match self.taesd_preview_only {
            true => (&None, &self.taesd),
            false => (&self.taesd, &None),
        };
        if taesd.is_some() && self.vae.is_some() {
            return Err(Error::request(
                "--vae and --taesd both name what makes the picture; expected one of them, or --taesd-preview-only",
            ));
        }
        let given =
            |path: &Option<PathBuf>, wanted| path.as_ref().map(|path| located(path, wanted)).transpose();
        let prediction = self.prediction.map(|prediction| match prediction {
            Prediction::Epsilon => "epsilon".to_owned(),
            Prediction::V => "v_prediction".to_owned(),
        });
        let spec = ModelSpec {
            model,
            vae: given(if taesd.is_some() { taesd } else { &self.vae }, Wanted::Component(&VAE))?,
            preview_vae: given(preview, Wanted::Component(&VAE))?,
            text_encoder: given(&self.text_encoder, Wanted::Component(&TEXT_ENCODER))?,
            text_encoder_2: given(&self.text_encoder_2, Wanted::Component(&TEXT_ENCODER_2))?,
            config: given(&self.config, Wanted::Settings)?,
            ema: self.ema,
            prediction,
            ..ModelSpec::default()
        };
        self.adapters.add_to(spec, library)
    }
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
