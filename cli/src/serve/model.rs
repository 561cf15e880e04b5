//! The model that is loaded, and those that could be.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use aquatint_kernels::Isa;
use aquatint_model::source::adapters::files_below;
use aquatint_model::source::hub::HubSettings;
use aquatint_model::source::library::{Library, LocalModel, cached_models};
use aquatint_model::{EMBEDDED, Error, Footprint, LoadOptions, ModelSource, ModelSpec, Pipeline, Precisions};

use crate::platform::console::warn;
use crate::run::memory;
use crate::serve::preview::Preview;

/// What requests call the model inside of the program.
pub(crate) const EMBEDDED_NAME: &str = "embedded";

/// A loaded model.
pub(crate) struct Loaded {
    /// As requests call it.
    pub(crate) name: String,
    /// What it is, in words.
    pub(crate) family: String,
    pub(crate) pipeline: Pipeline,
    pub(crate) footprint: Footprint,
    /// Memory that was free before it was loaded.
    pub(crate) free: Option<u64>,
    /// Whether its weights stay in memory.
    kept: bool,
    pub(crate) preview: Preview,
}

/// Models: which is loaded, which there are, and how they are loaded.
pub(crate) struct Models {
    /// The model of the command line, with adapters and all else.
    spec: ModelSpec,
    /// As requests call it.
    given: String,
    library: Library,
    pub(crate) isa: Isa,
    pub(crate) precision: Precisions,
    current: RwLock<Arc<Loaded>>,
    /// The model of requests that name none.
    chosen: RwLock<String>,
}

/// A model that could be loaded.
#[derive(Clone, Debug)]
pub(crate) struct Available {
    /// As requests call it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) family: String,
    pub(crate) bytes: u64,
}

impl Models {
    /// Loads the model of the command line.
    ///
    /// # Errors
    /// If it cannot be loaded, or does not fit into memory.
    pub(crate) fn load(
        spec: ModelSpec,
        library: Library,
        isa: Isa,
        precision: Precisions,
    ) -> Result<Self, Error> {
        let given = match spec.model.as_os_str() == EMBEDDED {
            true => EMBEDDED_NAME.to_owned(),
            false => spec.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let loaded = load(given.clone(), spec.clone(), LoadOptions { isa, precision, keep: true })?;
        let (current, chosen) = (RwLock::new(Arc::new(loaded)), RwLock::new(given.clone()));
        Ok(Self { spec, given, library, isa, precision, current, chosen })
    }

    /// The model that is loaded.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The models of this machine: the embedded one, that of the command line, those in the cache
    /// of Hugging Face's libraries and in the folders of the command line.
    pub(crate) fn available(&self) -> Vec<Available> {
        let embedded = Available {
            name: EMBEDDED_NAME.into(),
            path: EMBEDDED.into(),
            family: "emoji art".into(),
            bytes: 0,
        };
        let mut found = vec![embedded];
        if self.given != EMBEDDED_NAME {
            let path = self.spec.model.clone();
            found.push(Available { name: self.given.clone(), path, family: String::new(), bytes: 0 });
        }
        // An environment that is not sound was refused at the start.
        let cached = HubSettings::from_env().map(|settings| cached_models(&settings)).unwrap_or_default();
        // Of a file or folder the whole name, of a model in the cache its id.
        let own = self.library.models().into_iter().map(|model| {
            let name = model.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            LocalModel { name, ..model }
        });
        for model in cached.into_iter().chain(own) {
            let (name, Ok(family)) = (model.name, model.kind) else { continue };
            let (path, bytes) = (model.path, model.bytes);
            match found.iter_mut().find(|known| known.path == path) {
                Some(known) => (known.family, known.bytes) = (family, bytes),
                None => found.push(Available { name, path, family, bytes }),
            }
        }
        found
    }

    /// The model of a name, as listed, without its ending, or as A1111's clients send it back: with
    /// its hash behind it.
    ///
    /// # Errors
    /// `Request` if there is none, with those that there are.
    pub(crate) fn find(&self, name: &str) -> Result<Available, Error> {
        let plain = name.split(" [").next().unwrap_or_default();
        let found = self.available();
        let called = |model: &&Available| {
            model.name == plain || Path::new(&model.name).file_stem().is_some_and(|stem| stem == plain)
        };
        found.iter().find(called).cloned().ok_or_else(|| {
            let names = found.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
            Error::request(format_args!("there is no model `{plain}`; there are: {names}"))
        })
    }

    /// The model of requests that name none.
    pub(crate) fn chosen(&self) -> String {
        self.chosen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a model that of requests that name none.
    pub(crate) fn choose(&self, name: &str) {
        name.clone_into(&mut self.chosen.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Loads a model in place of the one that is loaded.
    ///
    /// # Errors
    /// If there is none of this name, or it cannot be loaded.
    pub(crate) fn switch(&self, name: &str) -> Result<Arc<Loaded>, Error> {
        let current = self.current();
        if current.name == name && current.kept {
            return Ok(current);
        }
        drop(current);
        let model = self.find(name)?;
        // Two models at a time may not fit into memory: the new one is opened, the old one goes,
        // the new one's weights are read.
        for keep in [false, true] {
            self.open(&model, keep)?;
        }
        Ok(self.current())
    }

    /// Frees the weights of the model that is loaded; they are read again when they are needed.
    ///
    /// # Errors
    /// If its files are gone.
    pub(crate) fn unload(&self) -> Result<(), Error> {
        let model = self.find(&self.current().name)?;
        self.open(&model, false)
    }

    fn open(&self, model: &Available, keep: bool) -> Result<(), Error> {
        let spec = match model.name == self.given {
            true => self.spec.clone(),
            // Another model has its own VAE and text encoder; folders of adapters are for all.
            false => ModelSpec {
                model: model.path.clone(),
                lora_folders: self.spec.lora_folders.clone(),
                embeddings: self.spec.embeddings.iter().filter(|path| path.is_dir()).cloned().collect(),
                ..ModelSpec::default()
            },
        };
        let options = LoadOptions { isa: self.isa, precision: self.precision, keep };
        let loaded = Arc::new(load(model.name.clone(), spec, options)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The files of adapters for prompts.
    pub(crate) fn loras(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = self.spec.loras.iter().map(|lora| lora.path.clone()).collect();
        found.extend(self.spec.lora_folders.iter().filter_map(|folder| files_below(folder).ok()).flatten());
        found
    }

    /// The files of embeddings for prompts.
    pub(crate) fn embeddings(&self) -> Vec<PathBuf> {
        let files = |path: &PathBuf| match path.is_dir() {
            true => files_below(path).unwrap_or_default(),
            false => vec![path.clone()],
        };
        self.spec.embeddings.iter().flat_map(files).collect()
    }
}

fn load(name: String, spec: ModelSpec, options: LoadOptions) -> Result<Loaded, Error> {
    let footprint = Footprint::of(spec.clone(), &options)?;
    let free = memory::free()?;
    memory::check(&footprint, &footprint.defaults, 1, free)?;
    let family = ModelSource::open(spec.clone())?.describe();
    let start = Instant::now();
    let pipeline = Pipeline::load(spec, &options)?;
    pipeline.warnings().iter().for_each(warn);
    pipeline.notes().iter().for_each(|note| eprintln!("{note}"));
    let (done, seconds) = (if options.keep { "loaded" } else { "opened" }, start.elapsed().as_secs_f64());
    eprintln!("model `{name}` {done} in {seconds:.1} s");
    Ok(Loaded { name, family, pipeline, footprint, free, kept: options.keep, preview: Preview::default() })
}

/// A file's name without its ending.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
