//! What a model is, and what it lacks, without loading its weights.
//!
//! Only configs and the headers of files are read. What a network should hold is asked of its own
//! load code, by way of a [`Schema`]; what became of every other tensor, of [`accounts`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::Result;
use crate::generate;
use crate::networks;
use crate::samplers::{SamplerChoice, SchedulerConfig};
use crate::source::adapters::{Summary, TextualInversion, training};
use crate::source::{
    Account, Checkpoint, Component, Mismatch, ModelSource, ModelSpec, SCHEDULER, Schema, TOKENIZER,
    TOKENIZER_2, TensorFile, TensorSource, UNET, accounts, files, foreign, read_index,
};
use crate::text::tokenizer::Tokenizer;

/// What was found.
pub struct Report {
    /// What it is: a pipeline's class, a family, a kind of file.
    pub kind: String,
    /// Its components, if it is a model.
    pub parts: Vec<PartReport>,
    /// Its contents, if it is no model.
    pub contents: Option<Contents>,
    /// What became of each tensor of its files.
    pub accounts: Vec<Account>,
    /// What the file says of itself, in lines.
    pub metadata: Vec<String>,
    /// Why it cannot be loaded: a sentence each. Empty if it can.
    pub problems: Vec<String>,
}

/// What a component of a model is.
pub struct PartReport {
    /// Its name: "unet".
    pub name: String,
    /// Its class: "UNet2DConditionModel".
    pub class: String,
    /// What is worth knowing about its settings.
    pub notes: Vec<String>,
    /// Its weights, if it has any and they can be read.
    pub contents: Option<Contents>,
}

/// What the headers of files of weights say.
pub struct Contents {
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

/// Looks at a model: a folder, or a file of weights.
///
/// # Errors
/// If there is nothing, or nothing that is understood. What is wrong *inside* a model is no error
/// but one of [`Report::problems`].
pub fn inspect(spec: impl Into<ModelSpec>) -> Result<Report> {
    let spec = spec.into();
    if files::is_file(&spec.model) { inspect_file(&spec) } else { inspect_folder(&spec) }
}

fn inspect_folder(spec: &ModelSpec) -> Result<Report> {
    let (_, index) = read_index(&spec.model)?;
    let mut report = Report::of_kind(index["_class_name"].as_str().unwrap_or("(no class)"));
    let source = ModelSource::open(spec.clone());
    let mut checkpoints = Vec::new();
    for (name, entry) in index.as_object().into_iter().flatten() {
        let Some(class) = entry[1].as_str() else { continue }; // a setting, or a part that is switched off
        let mut part = PartReport::new(name, class);
        match (Component::named(name), &source) {
            (Some(component), Ok(source)) => {
                match inspect_part(source, component, &mut part, &mut report.problems) {
                    Ok(checkpoint) => checkpoints.extend(checkpoint),
                    Err(error) => report.problems.push(error.to_string()),
                }
            }
            (Some(_), Err(_)) => {}
            (None, _) => part.notes.push("not used".to_owned()),
        }
        report.parts.push(part);
    }
    report.accounts = accounts(&checkpoints.iter().collect::<Vec<_>>());
    report.add_problem(source.and_then(|source| generate::check(&source)));
    Ok(report)
}

fn inspect_file(spec: &ModelSpec) -> Result<Report> {
    let file = TensorFile::open(&spec.model)?;
    let known =
        Component::networks().filter(|component| crate::source::Naming::of(component, &file).is_some());
    let known: Vec<_> = known.collect();
    if !known.contains(&&UNET)
        && let Some(report) = Report::of_adapter(&file)
    {
        return Ok(report);
    }
    if let (Some(kind), true) = (foreign(&file), !known.contains(&&UNET)) {
        return Ok(Report::of_other_file(kind, &file));
    }
    if !known.contains(&&UNET) {
        let kind = match known.first() {
            Some(component) => format!("weights of a {}", component.title),
            None => "tensors of a kind that is not known here".into(),
        };
        return Ok(Report::of_other_file(&kind, &file));
    }
    let mut report = Report::of_kind("a single file");
    report.metadata = training::lines(file.metadata());
    match ModelSource::open(spec.clone()) {
        Ok(source) => {
            report.kind = source.describe();
            let mut checkpoints = Vec::new();
            for component in source.networks() {
                let mut part = PartReport::new(component.name, component.classes[0]);
                match inspect_part(&source, component, &mut part, &mut report.problems) {
                    Ok(checkpoint) => checkpoints.extend(checkpoint),
                    Err(error) => report.problems.push(error.to_string()),
                }
                report.parts.push(part);
            }
            report.accounts = accounts(&checkpoints.iter().collect::<Vec<_>>());
            report.add_problem(generate::check(&source));
        }
        Err(error) => {
            report.contents = Some(contents(&Checkpoint::from_files(std::slice::from_ref(&spec.model))?));
            report.problems.push(error.to_string());
        }
    }
    Ok(report)
}

impl Report {
    fn of_kind(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            parts: Vec::new(),
            contents: None,
            accounts: Vec::new(),
            metadata: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// That of an adapter or an embedding.
    fn of_adapter(file: &TensorFile) -> Option<Self> {
        let (kind, notes) = match (Summary::of(file), TextualInversion::summary(file)) {
            (Some(summary), _) => (format!("an adapter ({})", summary.method), summary.lines()),
            (None, Some(vectors)) => ("an embedding (textual inversion)".to_owned(), vec![vectors]),
            (None, None) => return None,
        };
        let part = PartReport { notes, ..PartReport::new("holds", "weights that change or extend a model") };
        Some(Self { parts: vec![part], ..Self::of_other_file(&kind, file) })
    }

    fn of_other_file(kind: &str, file: &TensorFile) -> Self {
        let mut dtypes: BTreeMap<String, Count> = BTreeMap::new();
        file.tensors().for_each(|tensor| count(&mut dtypes, &tensor));
        let files = vec![WeightFile { path: file.path().to_owned(), bytes: file.size() }];
        Self {
            contents: Some(Contents { files, dtypes }),
            metadata: training::lines(file.metadata()),
            ..Self::of_kind(kind)
        }
    }

    fn add_problem(&mut self, checked: Result<()>) {
        if let Err(error) = checked {
            let problem = error.to_string();
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

impl PartReport {
    fn new(name: &str, class: &str) -> Self {
        Self { name: name.to_owned(), class: class.to_owned(), notes: Vec::new(), contents: None }
    }
}

fn inspect_part(
    source: &ModelSource,
    component: &'static Component,
    part: &mut PartReport,
    problems: &mut Vec<String>,
) -> Result<Option<Checkpoint>> {
    if [&TOKENIZER, &TOKENIZER_2].contains(&component) {
        let tokenizer = Tokenizer::load(&component.folder(source.settings()))?;
        let (words, length) = (tokenizer.vocab_size(), tokenizer.max_length());
        part.notes.push(format!("{words} tokens, texts of {length}"));
        return Ok(None);
    }
    if *component == SCHEDULER {
        let config = SchedulerConfig::load(component.config_path(source.settings()))?;
        let (sampler, schedule) = config.resolve(SamplerChoice::default())?;
        part.notes.push(format!("sampler {}, schedule {}", sampler.label(), schedule.label()));
        part.notes.extend(generate::preset(source).ok().flatten().map(|preset| preset.describe()));
        return Ok(None);
    }
    let architecture = networks::architecture(component, source.config(component)?)?;
    part.notes.push(architecture.describe());
    let checkpoint = source.checkpoint(component)?;
    part.contents = Some(contents(&checkpoint));
    if source.is_single_file() {
        part.notes.push(checkpoint.naming().describe().to_owned());
    }
    let schema = Schema::of(&checkpoint);
    architecture.read(&schema.weights())?;
    let mismatches = schema.mismatches(&checkpoint);
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
    Ok(Some(checkpoint))
}

fn contents(checkpoint: &Checkpoint) -> Contents {
    let mut dtypes: BTreeMap<String, Count> = BTreeMap::new();
    checkpoint.tensors().for_each(|tensor| count(&mut dtypes, &tensor));
    let file =
        |file: &std::sync::Arc<TensorFile>| WeightFile { path: file.path().to_owned(), bytes: file.size() };
    Contents { files: checkpoint.files().iter().map(file).collect(), dtypes }
}

fn count(dtypes: &mut BTreeMap<String, Count>, tensor: &crate::source::StoredTensor<'_>) {
    let count = dtypes.entry(tensor.dtype.to_string()).or_default();
    count.tensors += 1;
    count.parameters += tensor.len();
}
