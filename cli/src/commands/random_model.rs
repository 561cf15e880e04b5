//! `aquatint random-model`: a published architecture with random weights.

use std::path::{Path, PathBuf};

use aquatint_model::Error;
use aquatint_model::tools::random_model::{self, Architecture, DType};
use clap::{Args, ValueEnum};

use crate::platform::signals;

#[derive(Args)]
pub(crate) struct RandomModel {
    /// Folder to write; it must not exist, or be empty.
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Which architecture.
    #[arg(long, value_parser = architecture, default_value = "tiny")]
    arch: Architecture,

    /// Number format of the weights.
    #[arg(long, value_enum, default_value = "f16")]
    dtype: WeightType,

    /// The number from which all weights are drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn architecture(name: &str) -> Result<Architecture, String> {
    Architecture::parse(name).map_err(|error| error.to_string())
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum WeightType {
    F32,
    F16,
    Bf16,
}

impl From<WeightType> for DType {
    fn from(dtype: WeightType) -> Self {
        match dtype {
            WeightType::F32 => Self::F32,
            WeightType::F16 => Self::F16,
            WeightType::Bf16 => Self::Bf16,
        }
    }
}

pub(crate) fn run(args: &RandomModel) -> Result<(), Error> {
    crate::run::model::machine(None)?;
    let (architecture, dtype) = (args.arch, args.dtype.into());
    let model = random_model::RandomModel { architecture, dtype, seed: args.seed };
    signals::listen_and_remove(unfinished(&args.folder))?;
    let written = model.write(&args.folder, &mut |part, parameters| {
        inform!("{part}: {:.1} M parameters", parameters as f64 / 1e6);
    });
    // An error may be due to the folder's removal.
    written.map_err(|error| if signals::requested() { Error::Interrupted } else { error })?;
    println!("{}", args.folder.display());
    Ok(())
}

/// The folder in which [`random_model::RandomModel::write`] works until the model is complete.
fn unfinished(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    folder.with_file_name(name)
}
