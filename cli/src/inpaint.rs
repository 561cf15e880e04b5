//! `aquatint inpaint`: a part of a picture made anew, or what lies beyond its edges.

use std::path::PathBuf;

use aquatint_model::photo::mask::Margins;
use aquatint_model::{Error, Inpaint as Request, Mask, Photo, Picture};
use clap::Args;

use crate::args::Txt2img;
use crate::img2img::{Source, size, strength};
use crate::session::Session;

#[derive(Args)]
pub(crate) struct Inpaint {
    #[command(flatten)]
    text: Txt2img,

    #[command(flatten)]
    source: Source,

    /// Mask of the picture's size: white is repainted, black is kept [default: what is transparent is repainted].
    #[arg(long, value_name = "PICTURE")]
    mask: Option<PathBuf>,

    /// Repaint what is black, or opaque, and keep the rest.
    #[arg(long)]
    invert_mask: bool,

    /// Paint beyond the edges as well: pixels at the left, right, top and bottom.
    #[arg(long, value_name = "LEFT,RIGHT,TOP,BOTTOM", value_parser = margins)]
    expand: Option<Margins>,

    /// How much of the masked part is replaced, from 0 (nothing) to 1 (all); so many of the steps are made.
    #[arg(long, default_value_t = 1.0, value_parser = strength, allow_negative_numbers = true)]
    strength: f64,

    /// Work on the mask and so many pixels around it only, enlarged to --width and --height [default: the model's own], for
    /// more detail; the picture keeps its size.
    #[arg(long, value_name = "PADDING", num_args = 0..=1, require_equals = true, default_missing_value = "32")]
    only_masked: Option<usize>,

    /// Pixels within the mask over which new and old are blended.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16))]
    mask_blur: u16,

    /// Leave the picture as the model decodes it; otherwise the pixels outside the mask are those of the input, bit for bit.
    #[arg(long, conflicts_with_all = ["mask_blur", "only_masked"])]
    no_composite: bool,
}

/// Beyond this a typing error is likelier than a wish.
const LARGEST_MARGIN: usize = 4096;

fn margins(text: &str) -> Result<Margins, String> {
    let numbers: Option<Vec<usize>> = text.split(',').map(|number| number.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[left, right, top, bottom]) if left.max(right).max(top).max(bottom) <= LARGEST_MARGIN => {
            Ok(Margins { left, right, top, bottom })
        }
        _ => Err(format!("expected four numbers of pixels up to {LARGEST_MARGIN}, as in 64,64,0,0")),
    }
}

pub(crate) fn run(args: &Inpaint) -> Result<(), Error> {
    let (picture, hole) = read(args)?;
    let session = Session::start(&args.text)?;
    let (text, image, mask);
    if args.only_masked.is_some() {
        text = session.request(None)?;
        (image, mask) = (picture, hole);
    } else {
        text = session.request(Some(size(&picture, &args.text)))?;
        let (width, height, mode) = (text.width, text.height, args.source.resize.into());
        (image, mask) = (picture.resized(width, height, mode), hole.resized(width, height, mode));
    }
    let request = Request {
        text,
        image,
        mask,
        strength: args.strength,
        only_masked: args.only_masked,
        keep_outside: (!args.no_composite).then_some(usize::from(args.mask_blur)),
    };
    session.make(&request.text, |pipeline, progress| pipeline.inpaint(&request, progress))
}

/// The picture and its mask, margins included.
fn read(args: &Inpaint) -> Result<(Picture, Mask), Error> {
    let Photo { picture, transparent } = Photo::open(&args.source.image)?;
    let given = match &args.mask {
        Some(path) => Some(Mask::from_picture(&Photo::open(path)?.picture)),
        None => transparent,
    };
    let hole = match given {
        Some(mask) if args.invert_mask => mask.inverted(),
        Some(mask) => mask,
        None if args.expand.is_some() => {
            Mask::from_grey(picture.width(), picture.height(), vec![0; picture.width() * picture.height()])
        }
        None => {
            return Err(Error::request(format_args!(
                "`{}` has no transparent parts; expected --mask or --expand",
                args.source.image.display()
            )));
        }
    };
    let sizes = [(hole.width(), hole.height()), (picture.width(), picture.height())];
    if sizes[0] != sizes[1] {
        let [mask, picture] = sizes.map(|(width, height)| format!("{width}×{height}"));
        return Err(Error::request(format_args!(
            "the mask is {mask} and the picture {picture}; expected a mask of the picture's size"
        )));
    }
    Ok(match args.expand {
        Some(margins) => (picture.expanded(margins), hole.expanded(margins)),
        None => (picture, hole),
    })
}
