//! `aquatint img2img`: a picture from a text and another picture.

use std::path::PathBuf;
use std::process::ExitCode;

use aquatint_model::{Error, ResizeMode};
use clap::{Args, ValueEnum};

use crate::flags::args::Txt2img;
use crate::run::generate;
use crate::run::partial::{Kind, Wish};

#[derive(Args)]
pub(crate) struct Img2img {
    #[command(flatten)]
    pub(crate) text: Txt2img,

    #[command(flatten)]
    pub(crate) source: Source,

    /// How much of the picture is replaced, from above 0 to 1 (all); so many of the steps are made, at least one [default: 0.75].
    #[arg(long, value_parser = strength, allow_negative_numbers = true)]
    pub(crate) strength: Option<f64>,
}

/// The picture to start from.
#[derive(Args)]
pub(crate) struct Source {
    /// Image to start from: PNG, JPEG or WebP. Transparent parts are laid over white.
    #[arg(short, long, alias = "init-img", value_name = "PICTURE", required_unless_present = "batch")]
    pub(crate) image: Option<PathBuf>,

    /// How the picture is brought to --width and --height. Without them, it keeps its size, but for what is beyond a multiple
    /// of 8; with one of them, it keeps its proportions [default: crop].
    #[arg(long, value_enum)]
    pub(crate) resize: Option<Resize>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Resize {
    /// Fill the size; what sticks out is cut off evenly.
    Crop,
    /// The whole picture; bars are filled with its outermost pixels.
    Fit,
    /// The whole picture, distorted; diffusers' way.
    Stretch,
}

impl From<Resize> for ResizeMode {
    fn from(resize: Resize) -> Self {
        match resize {
            Resize::Crop => Self::Crop,
            Resize::Fit => Self::Fit,
            Resize::Stretch => Self::Stretch,
        }
    }
}

pub(crate) fn strength(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(strength) if (0.0..=1.0).contains(&strength) => Ok(strength),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

pub(crate) fn run(args: &Img2img) -> Result<ExitCode, Error> {
    let wish = Wish {
        kind: Kind::ImageToImage,
        image: args.source.image.clone(),
        resize: args.source.resize.map(Into::into),
        strength: args.strength,
        ..Wish::from(&args.text)
    };
    generate::run(wish, &args.text)
}
