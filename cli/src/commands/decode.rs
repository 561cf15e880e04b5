//! `aquatint decode`: a picture of latents.

use std::path::PathBuf;

use aquatint_model::generate::infotext::DECODED_FROM;
use aquatint_model::networks::vae::open_latents;
use aquatint_model::{Error, Format};
use clap::Args;

use crate::flags::model::ModelFlags;
use crate::run::{files, memory, model};

#[derive(Args)]
pub(crate) struct Decode {
    #[command(flatten)]
    model: ModelFlags,

    /// Work on a strip of rows at a time: 2048×2048 in 3 GB, in about twice the time, and without
    /// seams [default: where memory demands it].
    #[arg(long)]
    vae_tiling: bool,

    /// Safetensors file with a tensor `latents`, as `encode` writes it.
    latents: PathBuf,

    /// File to write; a file of that name is kept, and the next free number is taken.
    #[arg(short, long, default_value = "decoded.png")]
    output: PathBuf,
}

pub(crate) fn run(args: &Decode) -> Result<(), Error> {
    let latents = open_latents(&args.latents)?;
    files::reserve(&args.output, files::PICTURES, args.model.force)?;
    let [_, _, height, width] = latents.shape().map(|side| side.saturating_mul(8));
    let mut vae_tiling = args.vae_tiling;
    let pipeline = model::load(&args.model, |footprint| {
        vae_tiling = memory::check_vae(footprint, [width, height], vae_tiling)?;
        Ok(())
    })?;
    let picture = match vae_tiling {
        true => pipeline.decode_latents_in_strips(latents.view())?,
        false => pipeline.decode_latents(latents.view())?,
    };
    let how = [(DECODED_FROM, args.latents.to_string_lossy().into_owned())];
    let parameters = model::parameters_of(&pipeline, &picture, &how)?;
    let picture = picture.with_parameters(parameters);
    let path = files::save(&picture, &args.output, Format::QUALITY, args.model.force)?;
    files::tell(&path);
    Ok(())
}
