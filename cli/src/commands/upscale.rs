//! `aquatint upscale`: a larger picture, by a network or a filter.

use std::path::PathBuf;

use aquatint_model::generate::{LARGEST_SIDE, Upscaler};
use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::networks::upscaler::{Tiles, UpscaleModel};
use aquatint_model::{Error, Format, Image, ImageFile, ResizeMode};
use clap::Args;

use crate::flags::precision::Precision;
use crate::run::files;
use crate::run::model::{computing, machine};

#[derive(Args)]
pub(crate) struct Upscale {
    /// Picture to enlarge: PNG, JPEG or WebP. Transparent parts are laid over white.
    #[arg(value_name = "PICTURE")]
    image: PathBuf,

    /// File of an ESRGAN, Real-ESRGAN or SRVGG model, .pth or .safetensors; or lanczos, nearest.
    #[arg(long, value_name = "FILE")]
    upscaler: String,

    /// How many times wider and higher the picture becomes; what the network makes is brought to
    /// that size [default: the network's own factor, or 2].
    #[arg(long, value_name = "FACTOR")]
    scale: Option<f64>,

    /// File to write, PNG, JPEG or WebP (lossless) by its ending; a file of that name is kept, and
    /// the next free number is taken.
    #[arg(short, long, default_value = "upscaled.png")]
    output: PathBuf,

    /// Replace the output file if it exists.
    #[arg(long)]
    force: bool,

    /// Quality of a JPEG, from 1 to 100.
    #[arg(long, value_name = "N", default_value_t = Format::QUALITY, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,

    /// Threads to compute with; the picture does not depend on it [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Number format of the large products [default: auto].
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

pub(crate) fn run(args: &Upscale) -> Result<(), Error> {
    let picture = ImageFile::open(&args.image)?.image;
    let upscaler: Upscaler = args.upscaler.parse()?;
    files::reserve(&args.output, files::PICTURES, args.force)?;
    let isa = machine(args.threads.map(usize::from))?;
    let precision = args.precision.unwrap_or(Precision::Auto).on(isa);
    let model = match &upscaler {
        Upscaler::Model(path) => Some(UpscaleModel::open(path, precision)?),
        Upscaler::Lanczos | Upscaler::Nearest => None,
        Upscaler::Latent(_) => {
            return Err(Error::request(format_args!(
                "the upscaler `{upscaler}` enlarges latents, not pictures; expected a file, lanczos or nearest"
            )));
        }
    };
    let own = model.as_ref().map(UpscaleModel::scale);
    let scale = args.scale.or(own.map(|own| own as f64)).unwrap_or(2.0);
    let most = picture.width().max(picture.height());
    let largest = own.unwrap_or(1).max(scale.ceil() as usize).saturating_mul(most);
    if !(scale > 0.0 && scale.is_finite()) || largest > 4 * LARGEST_SIDE {
        return Err(Error::request(format_args!(
            "{}×{} pixels, {scale} times larger: expected sides up to {}",
            picture.width(),
            picture.height(),
            4 * LARGEST_SIDE
        )));
    }
    let [width, height] =
        [picture.width(), picture.height()].map(|side| ((side as f64 * scale).round() as usize).max(1));
    let larger = match &model {
        Some(model) => {
            inform!("{}", computing(isa, precision));
            model.upscale(isa, &picture, Tiles::default())?.resized(width, height, ResizeMode::Stretch)
        }
        None if upscaler == Upscaler::Nearest => picture.nearest(width, height),
        None => picture.resized(width, height, ResizeMode::Stretch),
    };
    let larger = described(larger, args, &upscaler, scale)?;
    inform!("{}×{} → {width}×{height} pixels", picture.width(), picture.height());
    let path = files::save(&larger, &args.output, args.quality, args.force)?;
    files::tell(&path);
    Ok(())
}

/// With the text of the small picture, and A1111's keys for what was done with it.
fn described(larger: Image, args: &Upscale, upscaler: &Upscaler, scale: f64) -> Result<Image, Error> {
    let text = metadata::read(&args.image)?.unwrap_or_default();
    let mut parameters = Parameters::parse(&text);
    parameters.set("Postprocess upscale by", scale);
    parameters.set("Postprocess upscaler", upscaler);
    Ok(larger.with_parameters(parameters))
}
