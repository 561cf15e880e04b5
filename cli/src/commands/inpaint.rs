//! `aquatint inpaint`: a part of a picture made anew, or what lies beyond its edges.

use std::path::PathBuf;

use aquatint_model::Error;
use aquatint_model::generate::values::margins;
use aquatint_model::generate::{PartialRequest, TaskKind};
use aquatint_model::image::mask::Margins;
use clap::Args;

use crate::flags::generate::GenerateFlags;
use crate::flags::image::{ImageFlags, mask, strength};
use crate::run::generate;

#[derive(Args)]
pub(crate) struct Inpaint {
    #[command(flatten)]
    text: GenerateFlags,

    #[command(flatten)]
    source: ImageFlags,

    /// Mask of the picture's size: white is repainted, black is kept. Or rectangles,
    /// left,top,right, bottom in pixels, as in 40,40,80,80 or 40,40,80,80;0,0,16,16 [default: what
    /// is transparent is repainted].
    #[arg(long, value_name = "PICTURE|BOXES")]
    mask: Option<PathBuf>,

    /// Repaint what is black, or opaque, and keep the rest.
    #[arg(long)]
    invert_mask: bool,

    /// Paint beyond the edges as well: pixels at the left, right, top and bottom.
    #[arg(long, value_name = "LEFT,RIGHT,TOP,BOTTOM", value_parser = margins)]
    expand: Option<Margins>,

    /// How much of the masked part is replaced, from above 0 to 1 (all); that share of the
    /// steps is made, and a share of less than one step is refused [default: 1].
    #[arg(long, value_parser = strength, allow_negative_numbers = true)]
    strength: Option<f64>,

    /// Work on the mask and this many pixels around it only, enlarged to --width and --height
    /// [default: the model's own], for more detail; the picture keeps its size.
    #[arg(long, value_name = "PADDING", num_args = 0..=1, require_equals = true, default_missing_value = "32")]
    only_masked: Option<u16>,

    /// Pixels within the mask over which new and old are blended [default: 4].
    #[arg(long, value_parser = clap::value_parser!(u16))]
    mask_blur: Option<u16>,

    /// Leave the picture as the model decodes it; otherwise the pixels outside the mask are those
    /// of the input, bit for bit.
    #[arg(long, conflicts_with_all = ["mask_blur", "only_masked"])]
    no_composite: bool,
}

pub(crate) fn run(args: &Inpaint) -> Result<u8, Error> {
    let settings = PartialRequest {
        kind: TaskKind::Inpaint,
        image: args.source.input()?,
        resize: args.source.resize.map(Into::into),
        strength: args.strength,
        mask: args.mask.as_deref().map(mask).transpose()?,
        invert_mask: args.invert_mask.then_some(true),
        expand: args.expand,
        only_masked: args.only_masked.map(|_| true),
        padding: args.only_masked.map(usize::from),
        mask_blur: args.mask_blur.map(usize::from),
        composite: match (args.no_composite, args.mask_blur) {
            (true, _) => Some(false),
            (false, Some(_)) => Some(true),
            (false, None) => None,
        },
        ..PartialRequest::from(&args.text)
    };
    generate::run(settings, &args.text)
}
