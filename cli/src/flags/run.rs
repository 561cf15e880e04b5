//! Flags that concern the denoising loop while it runs: checkpoints, interruption, previews.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "While it is made")]
pub(crate) struct RunFlags {
    /// Save the run to this file after every step (latents, outputs, settings), so that --resume
    /// can go on from there.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Go on from a --checkpoint, to the same bits as without a break. Settings are taken from it;
    /// what else the command needs (-m, -i, --mask) is given again; of several pictures also -s and
    /// -b, and those after it are made as well.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_image", "batch"])]
    pub(crate) resume: Option<PathBuf>,

    /// When interrupted (Ctrl-C), finish the step, and save the picture at which it has
    /// arrived as NAME-partial.
    #[arg(long)]
    pub(crate) save_partial: bool,

    /// Save a strip beside the picture, NAME-steps: of every Nth step the predicted picture
    /// (above) and what the UNet saw (below).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) save_steps: Option<u16>,

    /// How the strip is made.
    #[arg(long, value_enum, default_value = "linear", requires = "save_steps")]
    pub(crate) preview: Preview,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preview {
    /// Red, green and blue as sums of the latents' channels, fitted to the finished picture: costs
    /// nothing; a quarter of the size, or 128 pixels.
    #[default]
    Linear,
    /// Each decoded by the tiny VAE: that of --taesd, or the model's if it is one.
    #[value(alias = "tae")]
    Taesd,
    /// Each decoded by the VAE: exact, and as slow as finishing a picture each time.
    Vae,
}
