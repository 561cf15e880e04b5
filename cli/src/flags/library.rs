//! Folders with models and what belongs to them, and models by their names.

use std::path::{Path, PathBuf};

use aquatint_model::Error;
use aquatint_model::source::hub::{HubSettings, Wanted};
use aquatint_model::source::library::{Library, cached_model, cached_models};
use clap::Args;

use crate::flags::hub::located;

/// The variable of the environment that lists such folders.
pub(crate) const VARIABLE: &str = "AQUATINT_MODELS";

/// Folders of models.
#[derive(Args)]
pub(crate) struct LibraryFlags {
    /// Folder with models, adapters and embeddings: of one's own, or those of A1111 or ComfyUI.
    /// Its models, <lora:name> and embeddings then go by their names. May be given several times;
    /// so may folders be listed in the environment variable AQUATINT_MODELS.
    #[arg(long, value_name = "FOLDER")]
    models_dir: Vec<PathBuf>,
}

impl LibraryFlags {
    /// What is in the folders of the flags and of the environment.
    ///
    /// # Errors
    /// `Request` if one is none.
    pub(crate) fn open(&self) -> Result<Library, Error> {
        let listed = std::env::var_os(VARIABLE).unwrap_or_default();
        let listed = std::env::split_paths(&listed).filter(|path| !path.as_os_str().is_empty());
        Library::new(self.models_dir.iter().cloned().chain(listed).collect())
    }

    /// The path of the model `name`: a path, a name in the library or in Hugging Face's cache, or
    /// an id, which is downloaded if need be.
    ///
    /// # Errors
    /// `Request` if several go by this name, `Model` if an id cannot be downloaded.
    pub(crate) fn model(&self, name: &Path, library: &Library) -> Result<PathBuf, Error> {
        let Some(word) = word(name) else { return located(name, Wanted::Model) };
        if let Some(path) = library.model(word)? {
            return Ok(path);
        }
        let settings = HubSettings::from_env()?;
        if let Some(path) = cached_model(word, &settings)? {
            return Ok(path);
        }
        let mut names = library.model_names();
        names.extend(cached_models(&settings).into_iter().map(|model| model.name));
        let advice = match names.iter().max_by(|a, b| alike(word, a).total_cmp(&alike(word, b))) {
            Some(nearest) if alike(word, nearest) > 0.7 => format!("did you mean `{nearest}`?"),
            Some(_) => format!("known are {}", names[..names.len().min(MOST_NAMES)].join(", ")),
            None => "`aquatint models` lists those that go by a name, and there are none".to_owned(),
        };
        Err(Error::model(format_args!(
            "there is no file or folder `{word}`, and no model of this name; {advice}"
        )))
    }

    /// The path of whatever goes by this name.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn anything(&self, name: &Path, library: &Library) -> Result<PathBuf, Error> {
        match word(name).map(|word| library.find(word)).transpose()?.flatten() {
            Some(path) => Ok(path),
            None => self.model(name, library),
        }
    }
}

/// Names of models in a message.
const MOST_NAMES: usize = 8;

/// What is no path and no id, but may be a name.
fn word(name: &Path) -> Option<&str> {
    name.to_str().filter(|word| !word.contains(['/', '\\', '<']) && !name.exists())
}

fn alike(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}
