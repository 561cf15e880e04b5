//! Opening a model for the flags.

use std::path::Path;

use aquatint_kernels::Isa;
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{Error, Footprint, Image, LoadOptions, Pipeline, Precisions, TextToImage};

use crate::flags::model::ModelFlags;
use crate::flags::precision::Precision;
use crate::platform::console::warn;
use crate::platform::threads;

/// The instruction set to compute with; starts the threads to do it on.
///
/// # Errors
/// `Request` if the environment asks for an instruction set that the CPU lacks.
pub(crate) fn machine(threads: Option<usize>) -> Result<Isa, Error> {
    let isa = Isa::from_env().map_err(Error::request)?;
    threads::start(threads)?;
    Ok(isa)
}

/// A phrase that says how pictures are computed.
pub(crate) fn computing(isa: Isa, precision: Precisions) -> String {
    let (unit, threads) = (isa.name_for(precision.products()), rayon::current_num_threads());
    let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    format!("computing with {precision}, {unit}, {threads}")
}

/// Opens the model, if `fits` says that memory suffices.
pub(crate) fn load(
    flags: &ModelFlags,
    fits: impl FnOnce(&Footprint) -> Result<(), Error>,
) -> Result<Pipeline, Error> {
    let isa = machine(flags.threads.map(usize::from))?;
    let precision = flags.precision.unwrap_or(Precision::Auto).on(isa);
    let options = LoadOptions { isa, precision, keep: false };
    let spec = flags.choice.spec()?;
    fits(&Footprint::of(spec.clone(), &options)?)?;
    let pipeline = Pipeline::load(spec, &options)?;
    pipeline.warnings().iter().for_each(warn);
    inform!("{}", computing(isa, precision));
    Ok(pipeline)
}

/// Warns if a picture was made by another model than the one that is loaded from `path`.
pub(crate) fn warn_of_other_model(stored: &Parameters, pipeline: &Pipeline, path: &Path) {
    if let (Some(theirs), Some(ours)) = (stored.get("Model hash"), pipeline.model().hash()) {
        if theirs != ours {
            let name = stored.get("Model").map(|name| format!("`{name}`, ")).unwrap_or_default();
            warn(format_args!(
                "the picture was made by another model: {name}the hash {theirs}; `{}` has {ours}",
                path.display()
            ));
        }
    } else if let Some(theirs) = stored.get("Model").filter(|name| *name != pipeline.model().name()) {
        warn(format_args!(
            "the picture was made by the model `{theirs}`; this one is `{}`",
            pipeline.model().name()
        ));
    }
}

/// The text of a picture that no prompt made: how it came about, and by which model.
///
/// # Errors
/// `Request` if the model's sampler lacks its own schedule.
pub(crate) fn parameters_of(
    pipeline: &Pipeline,
    picture: &Image,
    how: &[(&str, String)],
) -> Result<Parameters, Error> {
    let size = TextToImage { width: picture.width(), height: picture.height(), ..pipeline.defaults() };
    let mut parameters = pipeline.parameters(&size)?;
    let kept = ["Size", "Model hash", "Model", "Version", "Precision"];
    parameters.settings.retain(|(key, _)| kept.contains(&key.as_str()));
    for (key, value) in how.iter().rev() {
        parameters.settings.insert(0, ((*key).to_owned(), value.clone()));
    }
    Ok(parameters)
}
