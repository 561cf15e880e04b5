//! `aquatint demo`: a contact sheet of a dozen prompts, to see at a glance what the program and its
//! model do.

use std::path::PathBuf;

use aquatint_model::{Footprint, Format, Image, TextToImage};
use clap::Args;

use crate::flags::model::ModelFlags;
use crate::run::{files, memory, model};

#[derive(Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    model: ModelFlags,

    /// The number from which the noise of every picture is drawn.
    #[arg(short, long, default_value_t = 1)]
    seed: u64,

    /// File to write; a file of that name is kept, and the next free number is taken.
    #[arg(short, long, default_value = "demo.png")]
    output: PathBuf,
}

/// Things that the embedded model was trained on; any model can draw them.
const PROMPTS: [&str; 12] = [
    "a penguin in the snow",
    "a red car in the city",
    "a castle at night",
    "a blue butterfly",
    "two green apples",
    "a sailboat on the sea",
    "a cactus in the desert",
    "a fox in the forest",
    "a slice of pizza",
    "a rocket in space",
    "an orange fish under water",
    "a house in autumn",
];

/// Pictures in a row.
const COLUMNS: usize = 4;

pub(crate) fn run(args: &Demo) -> Result<(), aquatint_model::Error> {
    files::reserve(&args.output, files::PICTURES, args.model.force)?;
    let fits =
        |footprint: &Footprint| memory::check(footprint, &footprint.defaults, 1, memory::free()?).map(drop);
    let pipeline = model::load(&args.model, fits)?;
    let draw = |prompt: &&str| {
        inform!("{prompt}");
        let request = TextToImage { prompt: (*prompt).to_owned(), seed: args.seed, ..pipeline.defaults() };
        pipeline.text_to_image(&request, &mut |_| {})
    };
    let pictures: Vec<Image> = PROMPTS.iter().map(draw).collect::<Result<_, _>>()?;
    let mut parameters = pictures[0].parameters().cloned().unwrap_or_default();
    parameters.prompt = PROMPTS.join("\n");
    parameters.insert_after("Version", "Grid", format_args!("{COLUMNS}x{}", PROMPTS.len().div_ceil(COLUMNS)));
    let sheet = Image::sheet(&pictures, COLUMNS).with_parameters(parameters);
    let path = files::save(&sheet, &args.output, Format::QUALITY, args.model.force)?;
    files::tell(&path);
    Ok(())
}
