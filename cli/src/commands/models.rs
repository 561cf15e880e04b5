//! `aquatint models`: the models on this machine.

use std::path::PathBuf;

use aquatint_model::source::hub;
use clap::Args;

use crate::flags::model::model_folders;

#[derive(Args)]
pub(crate) struct Models {
    /// A further folder with model folders and single files, as A1111 and ComfyUI have them; so are
    /// those that the environment variable AQUATINT_MODELS lists.
    #[arg(long, value_name = "FOLDER")]
    models_dir: Vec<PathBuf>,
}

pub(crate) fn run(args: &Models) {
    let models = hub::local_models(&model_folders(&args.models_dir));
    if models.is_empty() {
        eprintln!("no models in Hugging Face's cache or in the folders of --models-dir");
    }
    for model in models {
        let size = model.bytes as f64 / 1e9;
        match model.kind {
            Ok(kind) => println!("{}\t{kind}\t{size:.2} GB", model.name),
            Err(reason) => eprintln!("{}: cannot be used: {reason}", model.name),
        }
    }
}
