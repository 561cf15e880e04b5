//! `aquatint convert`: the same model in another form.

use std::path::PathBuf;

use aquatint_model::Error;
use aquatint_model::tools::convert;
use clap::Args;

use crate::commands::random_model::WeightType;
use crate::flags::model::ModelParts;

#[derive(Args)]
pub(crate) struct Convert {
    /// The model: a folder, a single file, or an id on Hugging Face.
    #[arg(value_name = "IN")]
    model: PathBuf,

    /// What to write: a single file if it ends in .safetensors, else a folder as diffusers saves
    /// it.
    #[arg(value_name = "OUT")]
    out: PathBuf,

    #[command(flatten)]
    parts: ModelParts,

    /// Number format of the weights [default: that of the model].
    #[arg(long, value_enum)]
    dtype: Option<WeightType>,
}

pub(crate) fn run(args: &Convert) -> Result<(), Error> {
    crate::run::model::machine(None)?;
    convert::convert(args.parts.spec(&args.model)?, &args.out, args.dtype.map(Into::into))?;
    println!("{}", args.out.display());
    Ok(())
}
