//! The models on this machine: those of Hugging Face's cache, and what is in folders of one's own.
//!
//! ```text
//! FOLDER/*                                         models, adapters, embeddings, VAEs in any mixture
//! FOLDER/models/Stable-diffusion, Lora, VAE        and below, as A1111 has them
//! FOLDER/embeddings
//! FOLDER/models/checkpoints, loras, embeddings     and below, as ComfyUI has them
//! ```
//!
//! `FOLDER` may also be the folder `models` itself. What a file is, its tensors say, not the folder
//! in which it is. Each goes by its name without ending.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::adapters::{Summary, TextualInversion, files_below, stem};
use super::hub::{HubId, HubSettings, Wanted};
use super::model::ModelSpec;
use super::{Component, ModelSource, Naming, StoredTensor, TensorFile, UNET, VAE, files, foreign};
use crate::error::{Error, Result};

/// Folders of models, in A1111 and in ComfyUI.
const MODELS: [&str; 3] = ["Stable-diffusion", "checkpoints", "diffusers"];
/// Folders of adapters.
const ADAPTERS: [&str; 3] = ["Lora", "LyCORIS", "loras"];
/// Folders of embeddings.
const EMBEDDINGS: [&str; 1] = ["embeddings"];
/// Folders of components of their own.
const COMPONENTS: [&str; 5] = ["VAE", "vae", "text_encoders", "clip", "diffusion_models"];

/// Something that was found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalModel {
    /// What to call it: its id on the Hub, or its name without ending.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is, as in "Stable Diffusion 1.x", or why it cannot be used.
    pub kind: std::result::Result<String, String>,
    /// Whether it is a whole model, and no adapter or component.
    pub is_model: bool,
    /// The type of most of its numbers: "F16".
    pub dtype: String,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Folders with models and what belongs to them.
#[derive(Clone, Debug, Default)]
pub struct Library {
    roots: Vec<PathBuf>,
}

impl Library {
    /// That of these folders.
    ///
    /// # Errors
    /// `Request` if one is none.
    pub fn new(roots: Vec<PathBuf>) -> Result<Self> {
        match roots.iter().find(|root| !root.is_dir()) {
            Some(root) => Err(Error::request(format_args!(
                "there is no folder `{}`; expected one with models in it",
                root.display()
            ))),
            None => Ok(Self { roots }),
        }
    }

    /// Everything in them, in the order of the paths.
    pub fn entries(&self) -> Vec<LocalModel> {
        self.paths(&Self::all()).into_iter().map(|path| local(stem_of(&path), path)).collect()
    }

    /// Its models.
    pub fn models(&self) -> Vec<LocalModel> {
        let found = self.paths(&MODELS).into_iter().map(|path| local(stem_of(&path), path));
        found.filter(|found| found.is_model).collect()
    }

    /// The model of a name; nothing if there is none.
    ///
    /// # Errors
    /// `Request` if there are several.
    pub fn model(&self, name: &str) -> Result<Option<PathBuf>> {
        let named = self.paths(&MODELS).into_iter().filter(|path| is_called(path, name));
        one_of(name, named.collect())
    }

    /// Whatever goes by this name; nothing if there is none.
    ///
    /// # Errors
    /// `Request` if several do.
    pub fn find(&self, name: &str) -> Result<Option<PathBuf>> {
        let named = self.paths(&Self::all()).into_iter().filter(|path| is_called(path, name));
        one_of(name, named.collect())
    }

    /// The names of its models.
    pub fn model_names(&self) -> Vec<String> {
        self.paths(&MODELS).iter().map(|path| stem_of(path)).collect()
    }

    fn all() -> Vec<&'static str> {
        [&MODELS[..], &ADAPTERS, &EMBEDDINGS, &COMPONENTS].concat()
    }

    /// Folders in which adapters are looked for by name.
    pub fn adapter_folders(&self) -> Vec<PathBuf> {
        self.folders(&ADAPTERS)
    }

    /// Folders of embeddings.
    pub fn embedding_folders(&self) -> Vec<PathBuf> {
        self.folders(&EMBEDDINGS)
    }

    /// What is right in the roots, and in and below their folders of these names.
    fn paths(&self, names: &[&str]) -> Vec<PathBuf> {
        let own = self.roots.iter().flat_map(|root| top(root));
        let folders = self.folders(names);
        distinct(own.chain(folders.iter().flat_map(|folder| below_of(folder))))
    }

    /// The folders of these names that there are.
    fn folders(&self, names: &[&str]) -> Vec<PathBuf> {
        let bases = self.roots.iter().flat_map(|root| [root.clone(), root.join("models")]);
        distinct(
            bases.flat_map(|base| names.iter().map(move |name| base.join(name))).filter(|path| path.is_dir()),
        )
    }
}

/// The path that `name` means in the cache of the Hub, if it is the last part of an id in it.
///
/// # Errors
/// `Request` if it is that of several.
pub fn cached_model(name: &str, settings: &HubSettings) -> Result<Option<PathBuf>> {
    let ids = cached_ids(settings).into_iter().filter(|id| id.repository.ends_with(&format!("/{name}")));
    one_of(name, ids.filter_map(|id| id.cached(Wanted::Model, settings)).collect())
}

/// The models of the Hub's cache.
pub fn cached_models(settings: &HubSettings) -> Vec<LocalModel> {
    let found = cached_ids(settings).into_iter();
    found.filter_map(|id| Some(local(id.to_string(), id.cached(Wanted::Model, settings)?))).collect()
}

fn cached_ids(settings: &HubSettings) -> Vec<HubId> {
    let id = |folder: &PathBuf| {
        let name = folder.file_name()?.to_string_lossy().strip_prefix("models--")?.replacen("--", "/", 1);
        HubId::parse(&name)
    };
    inside(&settings.cache).iter().filter_map(id).collect()
}

fn one_of(name: &str, paths: Vec<PathBuf>) -> Result<Option<PathBuf>> {
    match &paths[..] {
        [first, second, ..] => Err(Error::request(format_args!(
            "`{name}` may be `{}` or `{}`; expected one of these paths",
            first.display(),
            second.display()
        ))),
        _ => Ok(paths.into_iter().next()),
    }
}

/// Paths without repetitions, as of folders whose names differ in their case alone.
fn distinct(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let canonical = |path: PathBuf| (path.canonicalize().unwrap_or_else(|_| path.clone()), path);
    paths.map(canonical).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn is_model_folder(path: &Path) -> bool {
    path.join("model_index.json").is_file()
}

/// What is in a folder, sorted; nothing if it cannot be read.
fn inside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Models and files of weights right in a folder.
fn top(folder: &Path) -> Vec<PathBuf> {
    let is_known = |path: &PathBuf| match path.is_dir() {
        true => is_model_folder(path),
        false => files::has_weights_ending(path),
    };
    inside(folder).into_iter().filter(is_known).collect()
}

/// The same in a folder and below it.
fn below_of(folder: &Path) -> Vec<PathBuf> {
    let files = files_below(folder).unwrap_or_default();
    let of_folder = |path: PathBuf| {
        let mut folders = path.ancestors().skip(1).take_while(|above| above.starts_with(folder));
        folders.find(|above| is_model_folder(above)).map_or(path.clone(), Path::to_owned)
    };
    files.into_iter().map(of_folder).collect()
}

fn stem_of(path: &Path) -> String {
    match path.is_dir() {
        true => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        false => stem(path),
    }
}

/// Whether a path goes by this name, with or without its ending.
fn is_called(path: &Path, name: &str) -> bool {
    stem_of(path) == name || path.file_name().is_some_and(|file| file == name)
}

fn local(name: String, path: PathBuf) -> LocalModel {
    let found = if path.is_dir() { model(&path) } else { file(&path) };
    let (kind, dtype) = match found {
        Ok((kind, dtype)) => (Ok(kind), dtype),
        Err(error) => (Err(error.to_string()), String::new()),
    };
    let is_model = kind.is_ok() && (path.is_dir() || is_whole(&path));
    LocalModel { name, bytes: size(&path), kind, is_model, dtype, path }
}

/// Whether a file of weights holds a UNet and a VAE.
fn is_whole(path: &Path) -> bool {
    let holds = |file: &TensorFile, component| Naming::of(component, file).is_some();
    TensorFile::open(path).is_ok_and(|file| holds(&file, &UNET) && holds(&file, &VAE))
}

/// What a model is, and the type of most of its UNet's numbers.
fn model(path: &Path) -> Result<(String, String)> {
    let source = ModelSource::open(ModelSpec::from(path))?;
    let unet = source.checkpoint(&UNET)?;
    Ok((source.describe(), dtype(unet.tensors())))
}

/// What a file of weights is, and the type of most of its numbers.
fn file(path: &Path) -> Result<(String, String)> {
    let file = TensorFile::open(path)?;
    let has = |component: &Component| Naming::of(component, &file).is_some();
    let kind = match (Summary::of(&file), TextualInversion::summary(&file), foreign(&file)) {
        _ if is_whole(path) => return model(path),
        (Some(summary), ..) => summary.title(),
        (None, Some(vectors), _) => format!("embedding, {vectors}"),
        (None, None, Some(kind)) => return Err(Error::in_file(path, format_args!("this is {kind}"))),
        (None, None, None) => match Component::networks().find(|component| has(component)) {
            Some(component) => format!("{} alone", component.title),
            None => return Err(Error::in_file(path, "holds tensors of a kind that is not known here")),
        },
    };
    Ok((kind, dtype(file.tensors())))
}

/// The type of the largest tensor.
fn dtype<'a>(tensors: impl Iterator<Item = StoredTensor<'a>>) -> String {
    let largest = tensors.max_by_key(StoredTensor::len);
    largest.map_or(String::new(), |tensor| tensor.dtype.to_string())
}

/// Bytes of all files at and below `path`; links are followed, as the cache consists of them.
fn size(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum(),
        Err(_) => fs::metadata(path).map_or(0, |file| file.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::random_model::{Architecture, DType, RandomModel};

    fn tiny(path: &Path) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
        let model = RandomModel { architecture: Architecture::TINY, dtype: DType::F16, seed: 0 };
        model.write(path, &mut |_, _| {}).expect("writable");
    }

    #[test]
    fn models_of_the_cache_go_by_their_ids() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let mut settings = HubSettings::from_env().expect("the environment is sound");
        settings.cache = cache.path().to_owned();
        let snapshot = cache.path().join("models--org--tiny/snapshots/main");
        tiny(&snapshot);
        let [found] = &cached_models(&settings)[..] else { panic!("one model") };
        assert_eq!((found.name.as_str(), &found.path, &*found.dtype), ("org/tiny", &snapshot, "F16"));
        assert!(found.kind.is_ok() && found.bytes > 1_000_000, "{found:?}");
        assert_eq!(cached_model("tiny", &settings).expect("one"), Some(snapshot));
        assert_eq!(cached_model("iny", &settings).expect("none"), None);
        tiny(&cache.path().join("models--other--tiny/snapshots/main"));
        let error = cached_model("tiny", &settings).expect_err("two").to_string();
        assert!(error.contains("models--org--tiny") && error.contains("models--other--tiny"), "{error}");
    }

    /// Both programs' folders, and one of one's own, with the tiny model in each.
    #[test]
    fn models_of_folders_go_by_their_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for (root, place, name) in [
            ("a1111", "models/Stable-diffusion/sub", "fox"),
            ("comfy/models", "checkpoints", "owl"),
            ("own", "", "cat"),
        ] {
            let path = at(root).join(place).join(name);
            tiny(&path);
            let library = Library::new(vec![at(root)]).expect("a folder");
            assert_eq!(library.model(name).expect("one"), Some(path.clone()), "{root}");
            assert_eq!(library.model("dog").expect("none"), None);
            let [found] = &library.entries()[..] else { panic!("{root}: one model") };
            assert_eq!((found.name.as_str(), &found.path, found.kind.is_ok()), (name, &path, true), "{root}");
        }
        fs::create_dir(at("a1111/embeddings")).expect("writable");
        fs::create_dir(at("comfy/models/loras")).expect("writable");
        let library = Library::new(vec![at("a1111"), at("comfy")]).expect("folders");
        assert_eq!(library.adapter_folders(), [at("comfy/models/loras")]);
        assert_eq!(library.embedding_folders(), [at("a1111/embeddings")]);
        tiny(&at("comfy/models/checkpoints/fox"));
        assert!(library.model("fox").expect_err("two").to_string().contains("expected one of these paths"));
        assert!(Library::new(vec![at("none")]).is_err());
    }
}
