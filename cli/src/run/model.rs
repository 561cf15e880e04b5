//! Opening a model for the flags.

use aquatint_kernels::Isa;
use aquatint_model::{Error, Footprint, LoadOptions, Pipeline, Precisions};

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
    format!("computing with {precision}, {unit}, {threads} threads")
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
    eprintln!("{}", computing(isa, precision));
    Ok(pipeline)
}
