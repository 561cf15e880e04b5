//! Models in the cache that Hugging Face's libraries share, by their ids.
//!
//! ```text
//! stabilityai/sd-turbo                          the repository's newest snapshot
//! stabilityai/sd-turbo@fp16                     that of a branch, a tag or a commit
//! org/name:v1-5-pruned-emaonly.safetensors      one file of it
//!
//! cache/models--org--name/refs/main             the commit that a branch points to
//! cache/models--org--name/snapshots/COMMIT/     its files
//! ```
//!
//! The cache is `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`, as
//! `huggingface_hub` has it. Nothing is downloaded here.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::model::ModelSpec;
use super::{ModelSource, UNET};
use crate::error::{Error, Result};

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

    /// Its folder in the cache.
    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.repository.replace('/', "--")))
    }

    /// Where it is in the cache, if it is there.
    pub fn cached_in(&self, cache: &Path) -> Option<PathBuf> {
        let folder = self.folder(cache);
        let commit = fs::read_to_string(folder.join("refs").join(&self.revision));
        let commit = commit.map_or(self.revision.clone(), |commit| commit.trim().to_owned());
        let snapshot = folder.join("snapshots").join(commit);
        let path = self.file.as_ref().map_or(snapshot.clone(), |file| snapshot.join(file));
        path.exists().then_some(path)
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

/// The path that `name` means: a file or folder of this name, else the model of this id in the
/// cache.
///
/// # Errors
/// If `name` is the id of a model that is not in the cache.
pub fn locate(name: &Path) -> Result<PathBuf> {
    let id = name.to_str().and_then(HubId::parse);
    let (false, Some(id)) = (name.exists(), id) else { return Ok(name.to_owned()) };
    let cache = cache(|variable| std::env::var_os(variable));
    id.cached_in(&cache).ok_or_else(|| {
        Error::model(format_args!(
            "there is no file or folder `{}`, and `{id}` is not in the cache `{}`; download it, as with `hf download {}`",
            name.display(),
            cache.display(),
            id.repository
        ))
    })
}

/// The folder of the cache.
fn cache(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given("HF_HUB_CACHE")
        .or_else(|| given("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| given("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| given("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| given("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub"))
}

/// A model that was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalModel {
    /// What to call it: its id on the Hub, or its path.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Which family it is, or why it cannot be used.
    pub kind: std::result::Result<String, String>,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The models of the cache, and those in `folders`: model folders and single files.
pub fn local_models(folders: &[PathBuf]) -> Vec<LocalModel> {
    let cache = cache(|variable| std::env::var_os(variable));
    let mut found = in_cache(&cache);
    for folder in folders {
        for path in entries(folder) {
            let weights = path
                .extension()
                .is_some_and(|ending| ["safetensors", "ckpt", "pt"].iter().any(|known| ending == *known));
            if path.join("model_index.json").is_file() || (path.is_file() && weights) {
                found.push(local_model(path.display().to_string(), path));
            }
        }
    }
    found
}

fn in_cache(cache: &Path) -> Vec<LocalModel> {
    let mut found = Vec::new();
    for folder in entries(cache) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some(id) =
            name.strip_prefix("models--").and_then(|name| HubId::parse(&name.replacen("--", "/", 1)))
        else {
            continue;
        };
        if let Some(path) = id.cached_in(cache).filter(|path| path.join("model_index.json").is_file()) {
            found.push(local_model(id.to_string(), path));
        }
    }
    found
}

fn local_model(name: String, path: PathBuf) -> LocalModel {
    let opened = ModelSource::open(ModelSpec::from(&path));
    let kind = opened.and_then(|source| source.checkpoint(&UNET).map(|_| source.describe()));
    LocalModel { name, bytes: size(&path), kind: kind.map_err(|error| error.to_string()), path }
}

/// Bytes of all files at and below `path`; links are followed, as the cache consists of them.
fn size(path: &Path) -> u64 {
    if path.is_dir() {
        return entries(path).iter().map(|entry| size(entry)).sum();
    }
    fs::metadata(path).map_or(0, |file| file.len())
}

/// What is in a folder, sorted; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
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
    fn the_cache_is_where_hugging_face_has_it() {
        let with = |variables: &'static [(&str, &str)]| {
            cache(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into()))
        };
        assert_eq!(with(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(with(&[("HOME", "/h"), ("HF_HOME", "/f")]), Path::new("/f/hub"));
        assert_eq!(with(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
        assert_eq!(with(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/f")]), Path::new("/f/hub"));
    }

    #[test]
    fn models_of_a_cache_are_found_by_branch_and_by_commit() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let folder = cache.path().join("models--org--tiny");
        let snapshot = folder.join("snapshots/0123abcd");
        fs::create_dir_all(folder.join("refs")).expect("writable");
        fs::create_dir_all(folder.join("snapshots")).expect("writable");
        fs::write(folder.join("refs/main"), "0123abcd\n").expect("writable");
        let model = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        model.write(&snapshot, &mut |_, _| {}).expect("writable");
        for name in ["org/tiny", "org/tiny@0123abcd"] {
            assert_eq!(HubId::parse(name).expect("an id").cached_in(cache.path()), Some(snapshot.clone()));
        }
        for name in ["org/tiny@other", "org/other", "org/tiny:absent.safetensors"] {
            assert_eq!(HubId::parse(name).expect("an id").cached_in(cache.path()), None, "{name}");
        }
        let [found] = &in_cache(cache.path())[..] else { panic!("one model") };
        assert_eq!((found.name.as_str(), &found.path), ("org/tiny", &snapshot));
        assert!(found.kind.is_ok() && found.bytes > 1_000_000, "{found:?}");
    }
}
