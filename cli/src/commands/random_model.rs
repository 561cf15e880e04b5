//! `aquatint random-model`: a published architecture with random weights.

use std::path::{Path, PathBuf};

use aquatint_model::Error;
use aquatint_model::tools::random_model::{DType, RandomModel};

use crate::flags::args;
use crate::flags::args::WeightType;
use crate::platform::signals;

pub(crate) fn run(args: &args::RandomModel) -> Result<(), Error> {
    crate::machine(None)?;
    let dtype = match args.dtype {
        WeightType::F32 => DType::F32,
        WeightType::F16 => DType::F16,
        WeightType::Bf16 => DType::Bf16,
    };
    let model = RandomModel { architecture: args.arch, dtype, seed: args.seed };
    signals::listen_and_remove(unfinished(&args.folder))?;
    let written = model.write(&args.folder, &mut |part, parameters| {
        eprintln!("{part}: {:.1} M parameters", parameters as f64 / 1e6);
    });
    // An error may be due to the folder's removal.
    written.map_err(|error| if signals::requested() { Error::Interrupted } else { error })?;
    println!("{}", args.folder.display());
    Ok(())
}

/// The folder in which [`RandomModel::write`] works until the model is complete.
fn unfinished(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    folder.with_file_name(name)
}
