//! `aquatint models`: what is on this machine.

use aquatint_model::Error;
use aquatint_model::source::hub::HubSettings;
use aquatint_model::source::library::cached_models;
use clap::Args;

use crate::flags::library::{LibraryFlags, VARIABLE};

#[derive(Args)]
pub(crate) struct Models {
    #[command(flatten)]
    library: LibraryFlags,
}

/// A line for each: name, what it is, type of its numbers, size, path.
pub(crate) fn run(args: &Models) -> Result<(), Error> {
    let settings = HubSettings::from_env()?;
    let models = [cached_models(&settings), args.library.open()?.entries()].concat();
    if models.is_empty() {
        eprintln!(
            "no models in the cache `{}`, nor in folders of --models-dir or {VARIABLE}",
            settings.cache.display()
        );
    }
    for model in models {
        match model.kind {
            Ok(kind) => {
                let (size, path) = (size(model.bytes), model.path.display());
                println!("{}\t{kind}\t{}\t{size}\t{path}", model.name, model.dtype);
            }
            Err(reason) => eprintln!("{}: cannot be used: {reason}", model.name),
        }
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    match bytes {
        0..100_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
