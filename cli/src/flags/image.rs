//! Flags of the commands that begin with a picture.

use std::path::{Path, PathBuf};

use aquatint_model::generate::{ImageInput, MaskInput};
use aquatint_model::{Error, ResizeMode};
use clap::{Args, ValueEnum};

use crate::platform::stdin as input;

/// The picture to start from.
#[derive(Args)]
pub(crate) struct ImageFlags {
    /// Picture to start from: PNG, JPEG or WebP; - is stdin. Transparent parts are laid over white.
    #[arg(short, long, alias = "init-img", value_name = "PICTURE", required_unless_present = "batch")]
    pub(crate) image: Option<PathBuf>,

    /// How the picture is brought to --width and --height. Without them, it keeps its size, but for
    /// what is beyond a multiple of 8; with one of them, it keeps its proportions [default: crop].
    #[arg(long, value_enum)]
    pub(crate) resize: Option<Resize>,
}

impl ImageFlags {
    /// The picture; `-` is stdin.
    ///
    /// # Errors
    /// `Request` if stdin cannot be read.
    pub(crate) fn input(&self) -> Result<Option<ImageInput>, Error> {
        self.image.as_deref().map(input::image).transpose()
    }
}

/// A mask: rectangles, a file, or `-` for stdin.
///
/// # Errors
/// `Request` if a rectangle is empty, or stdin cannot be read.
pub(crate) fn mask(path: &Path) -> Result<MaskInput, Error> {
    match path.to_str().filter(|text| !path.exists() && !text.starts_with("data:")).map(MaskInput::parse) {
        Some(Ok(MaskInput::Boxes(boxes))) => Ok(MaskInput::Boxes(boxes)),
        Some(Err(error)) => Err(error),
        _ => input::image(path).map(MaskInput::from),
    }
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
