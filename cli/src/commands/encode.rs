//! `aquatint encode`: the latents of a picture, as a safetensors file.

use std::path::{Path, PathBuf};

use aquatint_model::generate::LARGEST_SIDE;
use aquatint_model::networks::vae::latents_to_bytes;
use aquatint_model::{Error, Image, ResizeMode};
use clap::Args;

use crate::flags::model::ModelFlags;
use crate::platform::stdin as input;
use crate::run::{files, memory, model};

#[derive(Args)]
pub(crate) struct Encode {
    #[command(flatten)]
    model: ModelFlags,

    /// Work on a strip of rows at a time: 2048×2048 in 3 GB, in about twice the time, and without
    /// seams [default: where memory demands it].
    #[arg(long)]
    vae_tiling: bool,

    /// Picture to encode: PNG, JPEG or WebP. What is beyond a multiple of 8 pixels is cut off.
    #[arg(short, long, value_name = "PICTURE")]
    image: PathBuf,

    /// File to write; a file of that name is kept, and the next free number is taken.
    #[arg(short, long, default_value = "latents.safetensors")]
    output: PathBuf,
}

/// The picture of a file, its sides cut to multiples of 8.
pub(crate) fn open(path: &Path) -> Result<Image, Error> {
    let picture = input::image(path)?.open()?.image;
    let [width, height] = [picture.width(), picture.height()].map(|side| side / 8 * 8);
    if width == 0 || height == 0 || width > LARGEST_SIDE || height > LARGEST_SIDE {
        return Err(Error::request(format_args!(
            "`{}` is {}×{}; expected sides of 8 to {LARGEST_SIDE} pixels",
            path.display(),
            picture.width(),
            picture.height()
        )));
    }
    Ok(picture.resized(width, height, ResizeMode::Crop))
}

pub(crate) fn run(args: &Encode) -> Result<(), Error> {
    let picture = open(&args.image)?;
    files::reserve(&args.output, &["safetensors"], args.model.force)?;
    let (width, height) = (picture.width(), picture.height());
    let mut vae_tiling = args.vae_tiling;
    let pipeline = model::load(&args.model, |footprint| {
        vae_tiling = memory::check_vae(footprint, [width, height], vae_tiling)?;
        Ok(())
    })?;
    let latents = match vae_tiling {
        true => pipeline.encode_in_strips(&picture)?,
        false => pipeline.encode(&picture)?,
    };
    inform!("{width}×{height} pixels → latents {:?}", latents.shape());
    let path = files::place(&args.output, args.model.force, &latents_to_bytes(latents.view())?)?;
    files::tell(&path);
    Ok(())
}
