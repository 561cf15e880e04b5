//! Folders with models and what belongs to them, and models by their names.

use std::path::{Path, PathBuf};

use aquatint_model::Error;
use aquatint_model::source::hub::{HubSettings, Wanted};
use aquatint_model::source::library::{Library, cached_model};
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
        let word = name.to_str().filter(|word| !word.contains(['/', '\\', '<']) && !name.exists());
        if let Some(word) = word {
            if let Some(path) = library.model(word)? {
                return Ok(path);
            }
            if let Some(path) = cached_model(word, &HubSettings::from_env()?)? {
                return Ok(path);
            }
        }
        located(name, Wanted::Model)
    }
}
