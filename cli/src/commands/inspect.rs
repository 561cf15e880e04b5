//! `aquatint inspect`: what a folder or file is, without loading its weights.

use std::path::PathBuf;

use aquatint_model::tools::inspect::{self, Contents, Report};
use aquatint_model::{EMBEDDED, Error};
use clap::Args;

#[derive(Args)]
pub(crate) struct Inspect {
    /// Model folder or safetensors file.
    #[arg(default_value = EMBEDDED)]
    path: PathBuf,
}

pub(crate) fn run(args: &Inspect) -> Result<(), Error> {
    let report = inspect::inspect(&args.path)?;
    let problems = match &report {
        Report::File(contents) => {
            println!("{}: a safetensors file, {}", args.path.display(), contents.kind);
            print_contents(contents);
            &[][..]
        }
        Report::Folder(folder) => {
            println!("{}: {}", args.path.display(), folder.class);
            for part in &folder.parts {
                println!("  {}: {}", part.name, part.class);
                for line in &part.notes {
                    println!("    {line}");
                }
                if let Some(contents) = &part.contents {
                    print_contents(contents);
                }
            }
            &folder.problems[..]
        }
    };
    match problems {
        [] => Ok(()),
        [first, rest @ ..] => {
            rest.iter().for_each(|problem| eprintln!("error: {problem}"));
            Err(Error::model(first))
        }
    }
}

fn print_contents(contents: &Contents) {
    for file in &contents.files {
        println!("    {} ({:.1} MB)", file.path.display(), file.bytes as f64 / 1e6);
    }
    for (dtype, count) in &contents.dtypes {
        println!("    {dtype}: {} tensors, {:.2} M parameters", count.tensors, count.parameters as f64 / 1e6);
    }
}
