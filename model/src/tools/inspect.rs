//! What a folder or a file is, and what it lacks, without loading its weights.
//!
//! Only configs and the headers of safetensors files are read. What a part should hold is asked of its own load code, by
//! way of a [`Schema`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::generate;
use crate::networks::{self, Architecture};
use crate::samplers::{SamplerChoice, SchedulerConfig};
use crate::source::config::ConfigFile;
use crate::source::files;
use crate::source::{
    Checkpoint, Component, Mismatch, ModelSource, SCHEDULER, Schema, TOKENIZER, TensorSource, accounts,
    read_index,
};
use crate::text::tokenizer::Tokenizer;

/// What was found.
pub enum Report {
    /// A model folder.
    Folder(FolderReport),
    /// A single safetensors file.
    File(Contents),
}

/// What a model folder holds.
pub struct FolderReport {
    /// The pipeline's class, from `model_index.json`.
    pub class: String,
    /// Its parts, in the order of that file.
    pub parts: Vec<PartReport>,
    /// Why it cannot be loaded: a sentence each. Empty if it can.
    pub problems: Vec<String>,
}

/// What a part of a model folder is.
pub struct PartReport {
    /// The folder's name: "unet".
    pub name: String,
    /// Its class, from `model_index.json`: "UNet2DConditionModel".
    pub class: String,
    /// What is worth knowing about its settings.
    pub notes: Vec<String>,
    /// Its weights, if it has any and they can be read.
    pub contents: Option<Contents>,
}

/// What the headers of safetensors files say.
pub struct Contents {
    /// What the names of the tensors look like: "weights of a UNet".
    pub kind: &'static str,
    /// The files.
    pub files: Vec<WeightFile>,
    /// Element type, as the files spell it ("F16") → how much is stored in it.
    pub dtypes: BTreeMap<String, Count>,
}

/// A file and its size.
pub struct WeightFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// How many tensors, and how many numbers in them.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Count {
    /// Tensors.
    pub tensors: usize,
    /// Numbers.
    pub parameters: usize,
}

/// Looks at a model folder or a safetensors file.
///
/// # Errors
/// If there is nothing at `path`, or nothing that is understood. What is wrong *inside* a model folder is no error but
/// one of [`FolderReport::problems`].
pub fn inspect(path: &Path) -> Result<Report> {
    if files::is_file(path) {
        return Ok(Report::File(contents(&Checkpoint::from_files(&[path.to_owned()])?)));
    }
    let (_, index) = read_index(path)?;
    let mut report = FolderReport {
        class: index["_class_name"].as_str().unwrap_or("(no class)").to_owned(),
        parts: Vec::new(),
        problems: Vec::new(),
    };
    for (name, entry) in index.as_object().into_iter().flatten() {
        let Some(class) = entry[1].as_str() else { continue }; // a setting, or a part that is switched off
        let mut part =
            PartReport { name: name.clone(), class: class.to_owned(), notes: Vec::new(), contents: None };
        if let Err(error) = inspect_part(path, &mut part, &mut report.problems) {
            report.problems.push(error.to_string());
        }
        report.parts.push(part);
    }
    if let Err(error) = ModelSource::open(path).and_then(|source| generate::check(&source)) {
        let problem = error.to_string();
        if !report.problems.contains(&problem) {
            report.problems.push(problem);
        }
    }
    Ok(Report::Folder(report))
}

fn inspect_part(model: &Path, part: &mut PartReport, problems: &mut Vec<String>) -> Result<()> {
    let Some(component) = Component::named(&part.name) else {
        part.notes.push("not used".to_owned());
        return Ok(());
    };
    let folder = component.folder(model);
    if *component == TOKENIZER {
        let tokenizer = Tokenizer::load(&folder)?;
        let (words, length) = (tokenizer.vocab_size(), tokenizer.max_length());
        part.notes.push(format!("{words} tokens, texts of {length}"));
    } else if *component == SCHEDULER {
        let config = SchedulerConfig::load(component.config_path(model))?;
        let (sampler, schedule) = config.resolve(SamplerChoice::default())?;
        part.notes.push(format!("sampler {}, schedule {}", sampler.label(), schedule.label()));
    } else {
        let config = ConfigFile::open(&component.config_path(model))?;
        let architecture = networks::architecture(component, config)?;
        part.notes.push(architecture.describe());
        weights(&Checkpoint::open(&folder, component)?, &*architecture, part, problems)?;
    }
    Ok(())
}

/// Compares the headers of a network's files with what its load code asks for.
fn weights(
    checkpoint: &Checkpoint,
    architecture: &dyn Architecture,
    part: &mut PartReport,
    problems: &mut Vec<String>,
) -> Result<()> {
    part.contents = Some(contents(checkpoint));
    let schema = Schema::of(checkpoint);
    architecture.read(&schema.weights())?;
    let mismatches = schema.mismatches(checkpoint);
    if mismatches.is_empty() {
        architecture.read(&checkpoint.weights().without_numbers())?; // are they of types that can be read?
    }
    let files = checkpoint.describe();
    for Mismatch { expected, found } in mismatches {
        let (name, shape) = (&expected.name, &expected.shape);
        problems.push(match found {
            Some(found) => format!("{files}: tensor `{name}`: expected {shape:?}, found {found:?}"),
            None => format!("{files}: tensor `{name}` ({shape:?}) is missing"),
        });
    }
    for account in accounts(&[checkpoint]) {
        if let Some(first) = account.unknown.first() {
            part.notes.push(format!(
                "{} tensors are not part of this architecture, the first is `{first}`",
                account.unknown.len()
            ));
        }
    }
    Ok(())
}

fn contents(checkpoint: &Checkpoint) -> Contents {
    let mut dtypes: BTreeMap<String, Count> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let count = dtypes.entry(tensor.dtype.to_string()).or_default();
        count.tensors += 1;
        count.parameters += tensor.shape.iter().product::<usize>();
    }
    let size = |path: &Path| files::open(path).map_or(0, |bytes| bytes.len() as u64);
    let files =
        checkpoint.paths().map(|path| WeightFile { path: path.to_owned(), bytes: size(path) }).collect();
    Contents { kind: kind(checkpoint), files, dtypes }
}

/// A tensor that only one kind of model has, and the kind.
const LANDMARKS: [(&str, &str); 7] = [
    (
        "model.diffusion_model.input_blocks.0.0.weight",
        "a checkpoint in Stable Diffusion's original layout; convert it to a folder to use it",
    ),
    ("down_blocks.0.resnets.0.time_emb_proj.weight", "weights of a UNet"),
    ("encoder.down_blocks.0.resnets.0.conv1.weight", "weights of a VAE"),
    ("text_model.embeddings.token_embedding.weight", "weights of a CLIP text encoder"),
    ("embeddings.token_embedding.weight", "weights of a CLIP text encoder"),
    ("vision_model.embeddings.class_embedding", "weights of a safety checker"),
    ("vision_model.vision_model.embeddings.class_embedding", "weights of a safety checker"),
];

fn kind(checkpoint: &Checkpoint) -> &'static str {
    let has = |name: &str| checkpoint.tensors().any(|tensor| tensor.name == name);
    let found = LANDMARKS.iter().find(|(name, _)| has(name));
    found.map_or("tensors of a kind that is not known here", |(_, kind)| kind)
}
