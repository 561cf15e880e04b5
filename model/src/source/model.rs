//! A model: where its settings are, and the tensors of each network.
//!
//! ```text
//! a folder        model_index.json    which components there are, and of which classes
//!                 unet/, vae/, …      config.json and weights of each
//! a single file   the tensors of all networks, told apart by their names (naming.rs); which family it is, their shapes
//!                 say, and the settings are those that were published with it (published.rs)
//! ```
//!
//! A VAE or a text encoder may come from a place of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::adapters::LoraSpec;
use super::checkpoint::Checkpoint;
use super::component::{
    COMPONENTS, Component, SCHEDULER, TEXT_ENCODER, TEXT_ENCODER_2, TEXT_ENCODERS, UNET, VAE,
};
use super::config::ConfigFile;
use super::family::Family;
use super::files;
use super::folder::WeightFiles;
use super::naming::Naming;
use super::taesd::{self, Halves};
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};

/// What a model is loaded from.
#[derive(Clone, Debug, Default)]
pub struct ModelSpec {
    /// A folder as diffusers saves it, or a single file.
    pub model: PathBuf,
    /// A VAE in place of the model's: a file or a folder.
    pub vae: Option<PathBuf>,
    /// A VAE for previews alone, beside the model's: a file or a folder.
    pub preview_vae: Option<PathBuf>,
    /// A text encoder in place of the model's: a file or a folder.
    pub text_encoder: Option<PathBuf>,
    /// The same for the second text encoder of Stable Diffusion XL.
    pub text_encoder_2: Option<PathBuf>,
    /// A second model that takes the last steps: Stable Diffusion XL's refiner.
    pub refiner: Option<PathBuf>,
    /// A folder with the settings of a single file, if it is of no published family.
    pub config: Option<PathBuf>,
    /// Whether the UNet's averaged (EMA) weights are taken, where a file has both.
    pub ema: bool,
    /// What the UNet predicts, `epsilon` or `v_prediction`, where it is not what the model says.
    pub prediction: Option<String>,
    /// Adapters, in the order in which they are applied.
    pub loras: Vec<LoraSpec>,
    /// Folders in which prompts find adapters by name.
    pub lora_folders: Vec<PathBuf>,
    /// The folder in which `__name__` in a prompt finds `name.txt`.
    pub wildcards: Option<PathBuf>,
    /// Embeddings: files, or folders of them.
    pub embeddings: Vec<PathBuf>,
    /// Whether an adapter that holds more than the model has is refused.
    pub strict: bool,
}

macro_rules! from_path {
    ($($path:ty),*) => {
        $(impl From<$path> for ModelSpec {
            fn from(model: $path) -> Self {
                Self { model: PathBuf::from(model), ..Self::default() }
            }
        })*
    };
}
from_path!(&Path, PathBuf, &PathBuf, &str, String);

/// An opened model.
pub struct ModelSource {
    spec: ModelSpec,
    /// The folder of the settings.
    settings: PathBuf,
    /// Those of the pipeline: `model_index.json`.
    index: Value,
    /// Settings that are not as that folder has them.
    overrides: Vec<(&'static Component, &'static str, Value)>,
    places: Vec<(&'static Component, Place)>,
    /// Where the VAE for previews is.
    preview: Option<Place>,
    /// What it is, in words.
    kind: String,
}

/// Where the weights of a component are.
enum Place {
    Folder(PathBuf),
    File(Arc<TensorFile>, Naming),
    /// The tiny VAE in its first form.
    Taesd(Halves),
}

impl ModelSource {
    /// Looks at a model; of its weights only the headers of single files are read.
    ///
    /// # Errors
    /// If it is no Stable Diffusion model, or if a component is missing.
    pub fn open(spec: impl Into<ModelSpec>) -> Result<Self> {
        let spec = spec.into();
        let mut source = match files::is_file(&spec.model) {
            true => Self::of_file(spec)?,
            false => Self::of_folder(spec)?,
        };
        let replacements = [
            (&VAE, source.spec.vae.clone()),
            (&TEXT_ENCODER, source.spec.text_encoder.clone()),
            (&TEXT_ENCODER_2, source.spec.text_encoder_2.clone()),
        ];
        for (component, path) in replacements {
            if let Some(path) = path {
                if !source.has(component) {
                    return Err(Error::request(format_args!(
                        "a {} was given, and this model ({}) has none to be replaced",
                        component.title, source.kind
                    )));
                }
                let place = Place::of(component, &path)?;
                source.places.retain(|(other, _)| *other != component);
                source.places.push((component, place));
            }
        }
        source.preview = source.spec.preview_vae.as_ref().map(|path| Place::of(&VAE, path)).transpose()?;
        for component in [&UNET, &VAE, &TEXT_ENCODER, &TEXT_ENCODER_2] {
            if source.has(component) && source.place(component).is_none() {
                return Err(source.missing(component));
            }
        }
        if let Some(prediction) = source.spec.prediction.clone() {
            source.overrides.push((&SCHEDULER, "prediction_type", prediction.into()));
        }
        Ok(source)
    }

    fn of_folder(spec: ModelSpec) -> Result<Self> {
        let index = check_index(&spec.model)?;
        let settings = spec.model.clone();
        let place = |component: &'static Component| (component, Place::Folder(component.folder(&settings)));
        let held = Component::networks().filter(|component| holds(&index, component));
        let places = held.map(place).collect();
        let kind = index["_class_name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { settings, index, overrides: Vec::new(), places, preview: None, kind, spec })
    }

    fn of_file(spec: ModelSpec) -> Result<Self> {
        let file = Arc::new(TensorFile::open(&spec.model)?);
        let (settings, overrides, kind) = match &spec.config {
            Some(folder) => (folder.clone(), Vec::new(), "a model with settings of its own".to_owned()),
            None => {
                let family = Family::of(&file)?;
                (family.settings(), family.overrides(), family.describe())
            }
        };
        let (_, index) = read_index(&settings)?;
        let mut places = Vec::new();
        for component in Component::networks().filter(|component| holds(&index, component)) {
            if let Some(naming) = Naming::of(component, &file) {
                let ema = if spec.ema { naming.ema(&file) } else { None };
                places.push((component, Place::File(Arc::clone(&file), ema.unwrap_or(naming))));
            }
        }
        Ok(Self { spec, settings, index, overrides, places, preview: None, kind })
    }

    /// What it is, in words: a pipeline's class, or a family.
    pub fn describe(&self) -> String {
        self.kind.clone()
    }

    /// Whether a model of this kind has the component.
    pub fn has(&self, component: &Component) -> bool {
        holds(&self.index, component)
    }

    /// The components of a model of this kind that have weights.
    pub fn networks(&self) -> impl Iterator<Item = &'static Component> {
        Component::networks().filter(|component| self.has(component))
    }

    /// A switch of the whole pipeline, from `model_index.json`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.index[key].as_bool()
    }

    /// What was asked for.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Whether it is a single file.
    pub fn is_single_file(&self) -> bool {
        files::is_file(&self.spec.model)
    }

    /// The folder that holds the settings, perhaps one inside of the program.
    pub fn settings(&self) -> &Path {
        &self.settings
    }

    /// The settings of a component.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn config(&self, component: &Component) -> Result<ConfigFile> {
        let mut config = self.config_at(component, self.place(component))?;
        for (key, value) in self.overrides(component) {
            config.set(key, value.clone());
        }
        Ok(config)
    }

    fn config_at(&self, component: &Component, place: Option<&Place>) -> Result<ConfigFile> {
        match place {
            Some(Place::Folder(folder)) => ConfigFile::open(&folder.join(component.config)),
            Some(Place::Taesd(_)) => taesd::settings(),
            Some(Place::File(_, naming)) if naming.is_tiny_vae() => taesd::settings(),
            _ => ConfigFile::open(&component.config_path(&self.settings)),
        }
    }

    /// The settings and the tensors of the VAE for previews, if there is one.
    ///
    /// # Errors
    /// As for the components.
    pub fn preview_vae(&self) -> Result<Option<(ConfigFile, Checkpoint)>> {
        let Some(place) = &self.preview else { return Ok(None) };
        Ok(Some((self.config_at(&VAE, Some(place))?, place.checkpoint(&VAE)?)))
    }

    /// What its settings are to be read as, where the folder says something else.
    pub fn overrides<'a>(
        &'a self,
        component: &'a Component,
    ) -> impl Iterator<Item = (&'static str, &'a Value)> {
        let own = self.overrides.iter().filter(move |(other, ..)| **other == *component);
        own.map(|(_, key, value)| (*key, value))
    }

    /// The tensors of a component.
    ///
    /// # Errors
    /// If its files are missing, or are not what their headers say.
    pub fn checkpoint(&self, component: &Component) -> Result<Checkpoint> {
        self.place(component).ok_or_else(|| self.missing(component))?.checkpoint(component)
    }

    /// The files whose contents tell the model from others: the single file, or those of the UNet.
    ///
    /// # Errors
    /// If there are none.
    pub fn identity(&self) -> Result<Vec<PathBuf>> {
        match self.place(&UNET) {
            Some(Place::Folder(folder)) => Ok(WeightFiles::find(folder, &UNET)?.paths),
            _ => Ok(vec![self.spec.model.clone()]),
        }
    }

    /// Where a component is, for messages.
    pub fn location(&self, component: &Component) -> PathBuf {
        match self.place(component) {
            Some(Place::Folder(folder)) => folder.clone(),
            Some(Place::File(file, _)) => file.path().to_owned(),
            Some(Place::Taesd(halves)) => halves[0].0.path().to_owned(),
            None => component.folder(&self.settings),
        }
    }

    fn place(&self, component: &Component) -> Option<&Place> {
        self.places.iter().find(|(other, _)| **other == *component).map(|(_, place)| place)
    }

    fn missing(&self, component: &Component) -> Error {
        let held: Vec<&str> = self.places.iter().map(|(component, _)| component.title).collect();
        let held = if held.is_empty() { "nothing that is known".into() } else { held.join(" and ") };
        Error::MissingComponent {
            path: self.spec.model.clone(),
            held,
            component: component.name,
            title: component.title,
            published: Family::published_place(&self.settings, component),
        }
    }
}

impl Place {
    fn checkpoint(&self, component: &Component) -> Result<Checkpoint> {
        match self {
            Self::Folder(folder) => Checkpoint::open(folder, component),
            Self::File(file, naming) => Ok(Checkpoint::within(Arc::clone(file), naming.clone())),
            Self::Taesd(halves) => Ok(Checkpoint::of_parts(halves.clone(), Naming::taesd(""))),
        }
    }

    /// A component that is given on its own: its folder, a model's folder, or a file.
    fn of(component: &'static Component, path: &Path) -> Result<Self> {
        if files::is_file(path) {
            let file = TensorFile::open(path)?;
            if let Some(naming) = Naming::of(component, &file) {
                return Ok(Self::File(Arc::new(file), naming));
            }
            let halves = if *component == VAE { taesd::halves_of_file(file)? } else { None };
            return halves.map(Self::Taesd).ok_or_else(|| {
                Error::in_file(path, format_args!("holds no {}; expected its weights", component.title))
            });
        }
        for folder in [path.to_owned(), component.folder(path)] {
            if files::is_file(&folder.join(component.config)) {
                return Ok(Self::Folder(folder));
            }
        }
        if *component == VAE
            && let Some(halves) = taesd::halves_of_folder(path)?
        {
            return Ok(Self::Taesd(halves));
        }
        Err(Error::in_file(
            path,
            format_args!(
                "holds no {}; expected a file of weights, or a folder with a `{}`",
                component.title, component.config
            ),
        ))
    }
}

/// The path and the contents of `model_index.json`, a JSON object.
///
/// # Errors
/// If there is none.
pub fn read_index(folder: &Path) -> Result<(PathBuf, Value)> {
    const EXPECTED: &str = "expected a model folder with a `model_index.json`, as Hugging Face publishes it, or a file of weights";
    let path = folder.join("model_index.json");
    if !files::is_file(&path) {
        let found = match folder.is_dir() {
            false => "there is no such folder or file",
            true => "this folder has none",
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

/// Classes of pipelines, and whether they are of Stable Diffusion XL.
const PIPELINES: [(&str, bool); 7] = [
    ("StableDiffusionPipeline", false),
    ("StableDiffusionImg2ImgPipeline", false),
    ("StableDiffusionInpaintPipeline", false),
    ("LatentConsistencyModelPipeline", false),
    ("StableDiffusionXLPipeline", true),
    ("StableDiffusionXLImg2ImgPipeline", true),
    ("StableDiffusionXLInpaintPipeline", true),
];

/// Whether a `model_index.json` names a class for the component: `["diffusers", "AutoencoderKL"]`.
fn holds(index: &Value, component: &Component) -> bool {
    index[component.name][1].is_string()
}

/// Is this a Stable Diffusion folder, and are all components there?
fn check_index(folder: &Path) -> Result<Value> {
    let (path, index) = read_index(folder)?;
    check_classes(&path, &index)?;
    for Component { name, .. } in COMPONENTS.into_iter().filter(|component| holds(&index, component)) {
        if !files::is_dir(&folder.join(name)) {
            return Err(Error::in_file(
                folder,
                format_args!("the component `{name}` is missing; is the download complete?"),
            ));
        }
    }
    Ok(index)
}

/// Whether an index is that of a model which can be loaded, and its components are of classes that
/// are known.
///
/// # Errors
/// If not.
pub(super) fn check_classes(path: &Path, index: &Value) -> Result<()> {
    let class = &index["_class_name"];
    let known = PIPELINES.iter().find(|(name, _)| class.as_str() == Some(name));
    let Some((_, xl)) = known else {
        let names = PIPELINES.map(|(name, _)| name).join(" or ");
        return Err(Error::in_file(path, format_args!("`_class_name` is {class}; expected {names}")));
    };
    for component in COMPONENTS {
        let Component { name, classes, .. } = component;
        let is_of =
            |(tokenizer, encoder): (&Component, &Component)| tokenizer == component || encoder == component;
        // XL's refiner lacks the first text encoder; the others have no second one.
        let optional = if *xl { TEXT_ENCODERS[0] } else { TEXT_ENCODERS[1] };
        if !holds(index, component) && is_of(optional) {
            continue;
        }
        let class = &index[*name][1]; // ["diffusers", "AutoencoderKL"]
        let known = class.as_str().is_some_and(|class| classes.is_empty() || classes.contains(&class));
        if !known {
            let expected = if classes.is_empty() { "a scheduler".into() } else { classes.join(" or ") };
            return Err(Error::in_file(
                path,
                format_args!("`{name}` is {}; expected {expected}", index[*name]),
            ));
        }
    }
    for (tokenizer, encoder) in TEXT_ENCODERS {
        if holds(index, tokenizer) != holds(index, encoder) {
            return Err(Error::in_file(
                path,
                format_args!(
                    "has one of `{}` and `{}`; expected both or neither",
                    tokenizer.name, encoder.name
                ),
            ));
        }
    }
    Ok(())
}
