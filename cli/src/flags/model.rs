//! Flags of the commands that need a model but make no picture of a prompt.

use std::path::PathBuf;

use aquatint_model::EMBEDDED;
use clap::Args;

use crate::flags::precision::Precision;

/// What the commands without the flags of `txt2img` have in common.
#[derive(Args)]
pub(crate) struct ModelFlags {
    /// Model folder, as Hugging Face publishes it and diffusers saves it; the default is the small model inside this program.
    #[arg(short, long, default_value = EMBEDDED)]
    pub(crate) model: PathBuf,

    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Number format of the large products [default: auto].
    #[arg(long, value_enum)]
    pub(crate) precision: Option<Precision>,
}
