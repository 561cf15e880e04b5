//! `aquatint random-model`: a published architecture with random weights.

use aquatint_model::Error;
use aquatint_model::random_model::{DType, RandomModel};

use crate::args;
use crate::args::WeightType;

pub(crate) fn run(args: &args::RandomModel) -> Result<(), Error> {
    crate::machine(None)?;
    let dtype = match args.dtype {
        WeightType::F32 => DType::F32,
        WeightType::F16 => DType::F16,
        WeightType::Bf16 => DType::Bf16,
    };
    let model = RandomModel { architecture: args.arch, dtype, seed: args.seed };
    model.write(&args.folder, &mut |part, parameters| {
        eprintln!("{part}: {:.1} M parameters", parameters as f64 / 1e6);
    })?;
    println!("{}", args.folder.display());
    Ok(())
}
