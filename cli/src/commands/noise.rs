//! `aquatint noise`: a strip of a picture with more and more noise. Why noise lets a model learn:
//! `model/src/tools/forward_noise.rs`.

use std::path::PathBuf;

use aquatint_model::generate::infotext::NOISED_FROM;
use aquatint_model::{Error, Format, Image};
use clap::Args;

use crate::commands::encode;
use crate::flags::model::ModelFlags;
use crate::run::{files, memory, model};

#[derive(Args)]
pub(crate) struct Noise {
    #[command(flatten)]
    model: ModelFlags,

    /// Image to drown in noise: PNG, JPEG or WebP.
    #[arg(short, long, value_name = "PICTURE")]
    image: PathBuf,

    /// Timesteps to show, from 0 (the cleanest) to 999.
    #[arg(long, value_delimiter = ',', default_value = "0,100,200,400,600,800,999")]
    timesteps: Vec<usize>,

    /// The number from which the noise is drawn.
    #[arg(short, long, default_value_t = 0)]
    seed: u64,

    /// File to write; a file of that name is kept, and the next free number is taken.
    #[arg(short, long, default_value = "noise.png")]
    output: PathBuf,
}

pub(crate) fn run(args: &Noise) -> Result<(), Error> {
    let picture = encode::open(&args.image)?;
    files::reserve(&args.output, files::PICTURES, args.model.force)?;
    let (width, height) = (picture.width(), picture.height());
    let mut vae_tiling = false;
    let pipeline = model::load(&args.model, |footprint| {
        vae_tiling = memory::check_vae(footprint, [width, height], false)?;
        Ok(())
    })?;
    let pictures = pipeline.noised(&picture, &args.timesteps, args.seed, vae_tiling)?;
    let timesteps = args.timesteps.iter().map(usize::to_string).collect::<Vec<_>>();
    let how = [
        (NOISED_FROM, args.image.to_string_lossy().into_owned()),
        ("Timesteps", timesteps.join(", ")),
        ("Seed", args.seed.to_string()),
    ];
    let parameters = model::parameters_of(&pipeline, &picture, &how)?;
    let captioned =
        pictures.into_iter().zip(&timesteps).map(|(picture, t)| picture.captioned(&format!("t = {t}")));
    let strip = Image::strip(&captioned.collect::<Vec<_>>()).with_parameters(parameters);
    let path = files::save(&strip, &args.output, Format::QUALITY, args.model.force)?;
    files::tell(&path);
    Ok(())
}
