//! `aquatint encode`: the latents of a picture, as a safetensors file.

use std::path::PathBuf;

use aquatint_model::generate::LARGEST_SIDE;
use aquatint_model::networks::vae::save_latents;
use aquatint_model::{EMBEDDED, Error, Footprint, Image, ImageFile, LoadOptions, Pipeline, ResizeMode};
use clap::Args;

use crate::flags::args::Precision;
use crate::run::{memory, output};
use crate::{computing, machine, warn};

#[derive(Args)]
pub(crate) struct Encode {
    #[command(flatten)]
    model: Model,

    /// Image to encode: PNG, JPEG or WebP. What is beyond a multiple of 8 pixels is cut off.
    #[arg(short, long, value_name = "PICTURE")]
    image: PathBuf,

    /// File to write; a file of that name is kept, and the next free number is taken.
    #[arg(short, long, default_value = "latents.safetensors")]
    output: PathBuf,
}

/// What the commands without the flags of `txt2img` have in common.
#[derive(Args)]
pub(crate) struct Model {
    /// Model folder, as Hugging Face publishes it and diffusers saves it; the default is the small model inside this program.
    #[arg(short, long, default_value = EMBEDDED)]
    model: PathBuf,

    /// Replace the output file if it exists.
    #[arg(long)]
    pub(crate) force: bool,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Number format of the large products [default: auto].
    #[arg(long, value_enum)]
    precision: Option<Precision>,
}

impl Model {
    /// Opens the model, if `fits` says that memory suffices.
    pub(crate) fn load(&self, fits: impl FnOnce(&Footprint) -> Result<(), Error>) -> Result<Pipeline, Error> {
        let isa = machine(self.threads.map(usize::from))?;
        let precision = self.precision.unwrap_or(Precision::Auto).on(isa);
        let options = LoadOptions { isa, precision, keep: false };
        fits(&Footprint::of(&self.model, &options)?)?;
        let pipeline = Pipeline::load(&self.model, &options)?;
        pipeline.warnings().iter().for_each(warn);
        eprintln!("{}", computing(isa, precision));
        Ok(pipeline)
    }
}

/// The picture of a file, its sides cut to multiples of 8.
pub(crate) fn open(path: &PathBuf) -> Result<Image, Error> {
    let picture = ImageFile::open(path)?.image;
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
    output::reserve(&args.output, &["safetensors"], args.model.force)?;
    let (width, height) = (picture.width(), picture.height());
    let pipeline = args.model.load(|footprint| memory::check_vae(footprint, width, height))?;
    let latents = pipeline.encode(&picture)?;
    eprintln!("{width}×{height} pixels → latents {:?}", latents.shape());
    let path = output::place(&args.output, args.model.force, |path| save_latents(path, latents.view()))?;
    println!("{}", path.display());
    Ok(())
}
