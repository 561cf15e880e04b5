//! Opening a model: its folder, the same as a single file, and with three adapters.
//!
//! ```text
//! load folder      text encoder, UNet and VAE decoder from their files to packed weights
//! load file        the same from one file
//! load adapters    the folder with three LoRAs of rank 16 in all attentions of the UNet
//! load change      another weight for one of them, in a model that is loaded
//! ```
//!
//! Behind each time is the peak of memory that the process had meanwhile. File and adapters are
//! written into a folder for temporary files, which needs as much room as the model, and removed.
//! Files are read before by the first run, so that the times are those of the page cache.

use std::path::{Path, PathBuf};

use aquatint_model::source::ModelSpec;
use aquatint_model::source::adapters::LoraSpec;
use aquatint_model::tools::convert;
use aquatint_model::tools::random_adapter::RandomAdapter;
use aquatint_model::{Error, LoadOptions, Pipeline, TextToImage};

use super::probe::Probe;
use super::report::Row;
use super::stages::Stages;
use super::timing::measure;
use crate::platform::peak_memory;

/// The word that asks for these measurements; they write large files.
pub(super) const LOAD: &str = "load";
/// Adapters, and their rank.
const ADAPTERS: u64 = 3;
const RANK: usize = 16;

/// Measures all of them that the filter names; each is handed to `found` when it is done.
///
/// # Errors
/// If the model cannot be loaded, or the files cannot be written.
pub(super) fn run(
    stages: &Stages<'_>,
    budget: f64,
    probe: &Probe,
    found: &mut dyn FnMut(Row),
) -> Result<(), Error> {
    let options = LoadOptions { isa: stages.isa, precision: stages.precision, keep: true };
    let mut load = |name: &str, spec: &ModelSpec| -> Result<(), Error> {
        let mut failed = None;
        peak_memory::reset();
        let before = peak_memory::bytes();
        let timing = measure(budget, probe, || {
            failed = Pipeline::load(spec.clone(), &options).err().or(failed.take());
        });
        let peak = peak_memory::bytes().zip(before).map(|(peak, before)| peak.saturating_sub(before));
        found(stages.row_of(name, stages.precision, shape(peak), timing));
        failed.map_or(Ok(()), Err)
    };
    let folder = ModelSpec::from(stages.folder);
    let files = Temporary::new()?;
    let wanted = |name: &str| stages.wanted(name, stages.precision, "");
    if wanted("load folder") {
        load("load folder", &folder)?;
    }
    if wanted("load file") {
        let path = files.0.join("model.safetensors");
        convert::convert(folder.clone(), &path, None)?;
        let config = Some(stages.folder.to_owned());
        load("load file", &ModelSpec { config, ..ModelSpec::from(&path) })?;
    }
    if wanted("load adapters") || wanted("load change") {
        let spec = ModelSpec { loras: adapters(stages.folder, &files.0)?, ..folder };
        if wanted("load adapters") {
            load("load adapters", &spec)?;
        }
        if wanted("load change") {
            let pipeline = Pipeline::load(spec.clone(), &options)?;
            let (mut failed, mut turn) = (None, 0);
            let timing = measure(budget, probe, || {
                turn += 1;
                let mut loras = spec.loras.clone();
                loras[0].unet = if turn % 2 == 0 { 1.0 } else { 0.5 };
                failed = change(&pipeline, loras).err().or(failed.take());
            });
            found(stages.row_of("load change", stages.precision, "1 of 3".into(), timing));
            failed.map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

/// Another weight, and everything packed that it changes.
fn change(pipeline: &Pipeline, loras: Vec<LoraSpec>) -> Result<(), Error> {
    pipeline.set_adapters(loras)?;
    pipeline.select_adapters(&TextToImage::default())?;
    pipeline.preload()
}

fn shape(peak: Option<u64>) -> String {
    peak.map_or(String::new(), |bytes| format!("peak {:.2} GB more", bytes as f64 / 1e9))
}

fn adapters(model: &Path, folder: &Path) -> Result<Vec<LoraSpec>, Error> {
    let adapter = |seed| {
        let path = folder.join(format!("adapter-{seed}.safetensors"));
        RandomAdapter { rank: RANK, seed }.write(model, &path)?;
        Ok(LoraSpec { path, unet: 1.0, text_encoder: 1.0 })
    };
    (0..ADAPTERS).map(adapter).collect()
}

/// A folder for large files, which is removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("aquatint-bench-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(Error::writing(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
