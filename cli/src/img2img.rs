//! `aquatint img2img`: a picture from a text and another picture.

use std::path::PathBuf;

use aquatint_model::{Error, ImageToImage, Photo, Picture, ResizeMode};
use clap::{Args, ValueEnum};

use crate::args::Txt2img;
use crate::session::Session;

#[derive(Args)]
pub(crate) struct Img2img {
    #[command(flatten)]
    pub(crate) text: Txt2img,

    #[command(flatten)]
    pub(crate) source: Source,

    /// How much of the picture is replaced, from 0 (nothing) to 1 (all); so many of the steps are made.
    #[arg(long, default_value_t = 0.75, value_parser = strength, allow_negative_numbers = true)]
    pub(crate) strength: f64,
}

/// The picture to start from.
#[derive(Args)]
pub(crate) struct Source {
    /// Picture to start from: PNG, JPEG or WebP. Transparent parts are laid over white.
    #[arg(short, long, alias = "init-img", value_name = "PICTURE")]
    pub(crate) image: PathBuf,

    /// How the picture is brought to --width and --height. Without them, it keeps its size, but for what is beyond a multiple
    /// of 8; with one of them, it keeps its proportions.
    #[arg(long, value_enum, default_value = "crop")]
    pub(crate) resize: Resize,
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

/// The size at which to work on a picture, `[width, height]`: its own, or that of its proportions with the given side.
pub(crate) fn size(picture: &Picture, args: &Txt2img) -> [usize; 2] {
    let (width, height) = (picture.width(), picture.height());
    let nearest = |side: f64| ((side / 8.0).round() as usize).max(1) * 8;
    let proportional =
        |given: usize, this: usize, other: usize| nearest(given as f64 * other as f64 / this as f64);
    match (args.width, args.height) {
        (Some(given), None) => [given, proportional(given, width, height)],
        (None, Some(given)) => [proportional(given, height, width), given],
        _ => [width, height].map(|side| (side / 8 * 8).max(8)),
    }
}

pub(crate) fn run(args: &Img2img) -> Result<(), Error> {
    let picture = Photo::open(&args.source.image)?.picture;
    let session = Session::start(&args.text)?;
    let text = session.request(Some(size(&picture, &args.text)))?;
    let image = picture.resized(text.width, text.height, args.source.resize.into());
    let request = ImageToImage { text, image, strength: args.strength };
    session.make(&request.text, |pipeline, progress| pipeline.image_to_image(&request, progress))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn the_size_follows_the_picture() {
        let picture = Picture::from_rgb(101, 75, vec![0; 3 * 101 * 75]);
        for (flags, expected) in
            [("", [96, 72]), ("-W 200", [200, 152]), ("-H 64", [88, 64]), ("-W 64 -H 64", [96, 72])]
        {
            let line = format!("aquatint img2img -m sd15 -p fox -i fox.jpg {flags}");
            let args = Args::try_parse_from(line.split_whitespace()).expect("all these flags exist");
            let Command::Img2img(args) = args.command else { panic!("another command was found") };
            assert_eq!(size(&picture, &args.text), expected, "{flags}"); // two flags are settings::request's to apply
        }
    }
}
