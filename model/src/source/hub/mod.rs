//! Models on the Hub of Hugging Face, by their ids.
//!
//! ```text
//! stabilityai/sd-turbo                          the repository's newest snapshot
//! stabilityai/sd-turbo@fp16                     that of a branch, a tag or a commit
//! org/name:v1-5-pruned-emaonly.safetensors      one file of it
//!
//! settings.rs   the environment variables of Hugging Face's libraries
//! cache.rs      their cache: what is in it, and how a file gets into it
//! complete.rs   whether all that is wanted is there
//! plan.rs       which files of a repository are needed    these three with the cargo
//! client.rs     what is asked of the server               feature `download`
//! download.rs   from the server into the cache
//! ```
//!
//! A model that is complete in the cache is taken from there, and the server is not asked.

mod cache;
#[cfg(feature = "download")]
mod client;
mod complete;
#[cfg(feature = "download")]
mod download;
#[cfg(feature = "download")]
mod plan;
mod settings;

use std::fmt;
use std::path::{Component, Path, PathBuf};

pub use complete::Wanted;
#[cfg(feature = "download")]
pub use download::{DownloadEvent, locate_or_download};
pub use settings::HubSettings;

use cache::Repository;

use crate::error::{Error, Result};
use crate::source::files;

/// The name of a model on the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `org/name`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// A file, if not the whole folder is meant.
    pub file: Option<String>,
}

impl HubId {
    /// `org/name`, perhaps with `@revision` and `:file`; `None` if `text` is no such id.
    pub fn parse(text: &str) -> Option<Self> {
        let (text, file) = match text.split_once(':') {
            Some((text, file)) => (text, Some(file.to_owned())),
            None => (text, None),
        };
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, name) = repository.split_once('/')?;
        let word = |word: &str| {
            let known = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            !word.is_empty() && !word.starts_with('.') && word.chars().all(known)
        };
        let revision_is_plain = !revision.is_empty() && stays_inside(revision);
        let file_is_plain = file.as_deref().is_none_or(|file| !file.is_empty() && stays_inside(file));
        (word(owner) && word(name) && revision_is_plain && file_is_plain).then(|| Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            file,
        })
    }

    /// Where it is in the cache, if all that is wanted of it is there.
    pub fn cached(&self, wanted: Wanted, settings: &HubSettings) -> Option<PathBuf> {
        let snapshot = Repository::of(self, &settings.cache).snapshot(&self.revision)?;
        if let Some(file) = &self.file {
            return Some(snapshot.join(file)).filter(|path| path.exists());
        }
        complete::is_complete(&snapshot, wanted).then_some(snapshot)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(f, ":{file}"))
    }
}

fn stays_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The id that `name` is, if it is no file or folder, and none that was mistyped.
fn id_of(name: &Path) -> Option<HubId> {
    let is_path = name.exists()
        || name.parent().is_some_and(|folder| folder.is_dir())
        || files::has_weights_ending(name) && !name.to_string_lossy().contains(':');
    name.to_str().filter(|_| !is_path).and_then(HubId::parse)
}

/// The path that `name` means: a file or folder of this name, else the model of this id in the
/// cache. No server is asked.
///
/// # Errors
/// If `name` is the id of a model that is not in the cache, or not all of it.
pub fn locate(name: &Path, wanted: Wanted, settings: &HubSettings) -> Result<PathBuf> {
    let Some(id) = id_of(name) else { return Ok(name.to_owned()) };
    let cached = id.cached(wanted, settings);
    cached.ok_or_else(|| {
        absent(&id, settings, format_args!("download it, as with `hf download {}`", id.repository))
    })
}

/// An id that is not in the cache, and what to do.
fn absent(id: &HubId, settings: &HubSettings, advice: impl fmt::Display) -> Error {
    Error::model(format_args!(
        "there is no file or folder `{id}`, and no complete model of this id in the cache `{}`; {advice}",
        settings.cache.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tools::random_model::{Architecture, DType, RandomModel};

    #[test]
    fn ids_and_what_is_none() {
        let id = HubId::parse("stabilityai/sd-turbo@fp16:unet/model.safetensors").expect("an id");
        assert_eq!((id.repository.as_str(), id.revision.as_str()), ("stabilityai/sd-turbo", "fp16"));
        assert_eq!(id.file.as_deref(), Some("unet/model.safetensors"));
        assert_eq!(id.to_string(), "stabilityai/sd-turbo@fp16:unet/model.safetensors");
        assert_eq!(HubId::parse("a/b").expect("an id").revision, "main");
        for text in
            ["model", "a/b/c", "/a/b", "../a", "./a", "a/", "a/b:../c", "a/b@../../c", "a b/c", "a/b:"]
        {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_mistyped_path_is_no_id() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(id_of(&folder.path().join("absent")), None);
        assert_eq!(id_of("models/dreamshaper.safetensors".as_ref()), None);
        assert!(id_of("stabilityai/sd-turbo".as_ref()).is_some());
    }

    #[test]
    fn models_of_a_cache_are_found_by_branch_and_by_commit() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let mut settings = HubSettings::from_env().expect("the environment is sound");
        settings.cache = cache.path().to_owned();
        let folder = cache.path().join("models--org--tiny");
        let snapshot = folder.join("snapshots/0123abcd");
        fs::create_dir_all(folder.join("refs")).expect("writable");
        fs::create_dir_all(folder.join("snapshots")).expect("writable");
        fs::write(folder.join("refs/main"), "0123abcd\n").expect("writable");
        let model = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        model.write(&snapshot, &mut |_, _| {}).expect("writable");
        let cached = |name: &str| HubId::parse(name).expect("an id").cached(Wanted::Model, &settings);
        for name in ["org/tiny", "org/tiny@0123abcd"] {
            assert_eq!(cached(name), Some(snapshot.clone()));
        }
        for name in ["org/tiny@other", "org/other", "org/tiny:absent.safetensors"] {
            assert_eq!(cached(name), None, "{name}");
        }
        fs::remove_file(snapshot.join("unet/diffusion_pytorch_model.safetensors")).expect("it is there");
        assert_eq!(cached("org/tiny"), None, "it is not complete");
        let error = locate("org/tiny".as_ref(), Wanted::Model, &settings).expect_err("the same").to_string();
        assert!(error.contains("`hf download org/tiny`"), "{error}");
    }
}
