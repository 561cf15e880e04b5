//! `aquatint inspect`: what a model or another file of weights is, without loading it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use aquatint_model::source::Account;
use aquatint_model::tools::inspect::{self, Contents};
use aquatint_model::{EMBEDDED, Error};
use clap::Args;

use crate::flags::model::ModelParts;

#[derive(Args)]
pub(crate) struct Inspect {
    /// A model, or another file of weights; a path or a name.
    #[arg(default_value = EMBEDDED)]
    path: PathBuf,

    #[command(flatten)]
    parts: ModelParts,
}

/// What a file is that is no file of weights, and what to do with it.
fn misunderstood(path: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(64).read_to_end(&mut start).ok()?;
    match &start[..] {
        s if s.starts_with(b"\x89PNG") || s.starts_with(b"\xff\xd8\xff") || s.starts_with(b"RIFF") => {
            Some("this is a picture; `--from-image` takes its settings, `aquatint verify` makes it again")
        }
        s if s.starts_with(b"version https://git-lfs") => {
            Some("this is a pointer of Git LFS in place of the file; `git lfs pull` fetches it")
        }
        _ => None,
    }
}

pub(crate) fn run(args: &Inspect) -> Result<(), Error> {
    if let Some(sentence) = misunderstood(&args.path) {
        return Err(Error::model(format_args!("`{}`: {sentence}", args.path.display())));
    }
    let report = inspect::inspect(args.parts.spec_of_anything(&args.path)?)?;
    println!("{}: {}", args.path.display(), report.kind);
    for part in &report.parts {
        println!("  {}: {}", part.name, part.class);
        for line in &part.notes {
            println!("    {line}");
        }
        part.contents.iter().for_each(print_contents);
    }
    report.contents.iter().for_each(print_contents);
    report.accounts.iter().for_each(print_account);
    report.metadata.iter().for_each(|line| println!("  {line}"));
    match &report.problems[..] {
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

/// What is not used, and why.
fn print_account(account: &Account) {
    if account.ignored.is_empty() && account.unknown.is_empty() {
        return;
    }
    println!("  of `{}`: {} tensors are used", account.path.display(), account.used);
    for (reason, names) in &account.ignored {
        println!("    {} not: {reason} ({})", names.len(), names[0]);
    }
    if let Some(first) = account.unknown.first() {
        println!("    {} are not part of this architecture, the first is `{first}`", account.unknown.len());
    }
}
