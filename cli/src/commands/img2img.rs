//! `aquatint img2img`: a picture from a text and another picture.

use aquatint_model::Error;
use aquatint_model::generate::{PartialRequest, TaskKind};
use clap::Args;

use crate::flags::generate::GenerateFlags;
use crate::flags::image::{ImageFlags, strength};
use crate::run::generate;

#[derive(Args)]
pub(crate) struct Img2img {
    #[command(flatten)]
    pub(crate) text: GenerateFlags,

    #[command(flatten)]
    pub(crate) source: ImageFlags,

    /// How much of the picture is replaced, from above 0 to 1 (all); that share of the
    /// steps is made, and a share of less than one step is refused [default: 0.75].
    #[arg(long, value_parser = strength, allow_negative_numbers = true)]
    pub(crate) strength: Option<f64>,
}

pub(crate) fn run(args: &Img2img) -> Result<u8, Error> {
    let settings = PartialRequest {
        kind: TaskKind::ImageToImage,
        image: args.source.input()?,
        resize: args.source.resize.map(Into::into),
        strength: args.strength,
        ..PartialRequest::from(&args.text)
    };
    generate::run(settings, &args.text)
}
