//! Making pictures: what `txt2img`, `img2img` and `inpaint` do alike, once it is known what is
//! asked for.

use std::path::Path;

use aquatint_model::generate::{PartialRequest, TaskKind};
use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::rng::random_seed;
use aquatint_model::{Error, Footprint, Image, RunCheckpoint, TextToImage};

use crate::flags::generate::GenerateFlags;
use crate::platform::console::warn;
use crate::platform::stdin as input;
use crate::run::files;
use crate::run::model::warn_of_other_model;
use crate::run::output::Output;
use crate::run::pattern::Fields;

use crate::run::{callbacks, manifest};

use crate::run::session::{Batch, Session};

/// Refuses what can be refused at once, loads the model, makes the pictures.
pub(crate) fn run(mut settings: PartialRequest, args: &GenerateFlags) -> Result<u8, Error> {
    if let Some(path) = &args.several.batch {
        return manifest::run(path, &settings, args);
    }
    settings.prompt = match settings.prompt.as_deref() {
        Some("-") => Some(String::from_utf8_lossy(&input::stdin()?).trim().to_owned()),
        _ => settings.prompt,
    };
    let resumed = args.run.resume.as_ref().map(RunCheckpoint::open).transpose()?;
    let stored = match (&resumed, args.from_image.as_deref()) {
        (Some(run_checkpoint), _) => Some(run_checkpoint.parameters()),
        (None, picture) => picture.map(stored_parameters).transpose()?,
    };
    if let Some(stored) = &stored {
        if settings.kind == TaskKind::TextToImage && TaskKind::of(stored) != TaskKind::TextToImage {
            warn(
                "the settings are those of a picture that was made from another one; this one is made from the text alone",
            );
        }
        settings = settings.or(PartialRequest::from_parameters(stored)?);
    }
    let images = settings.open_images()?;
    // Names and numbers are judged before the model is loaded.
    let unseeded = TextToImage { seed: random_seed()?, ..TextToImage::default() };
    let request = settings.request(stored.as_ref(), unseeded)?;
    let seed = request.seed;
    if request.hires.is_some() && (resumed.is_some() || args.run.checkpoint.is_some()) {
        return Err(Error::request(
            "a run with a second pass cannot be saved: leave --checkpoint away, or the second pass with --hires-scale 0",
        ));
    }
    let pattern = args.output.as_deref().unwrap_or(Path::new("aquatint-{seed}.png"));
    let mut output = Output::new(pattern, &args.model.model, args.force, args.quality)?;
    output.check(&Fields::of(&request, None))?;
    if let Some(grid) = &args.several.grid {
        files::reserve(grid, files::PICTURES, args.force)?;
    }
    callbacks::check(&args.run)?;
    let (count, together) = (args.several.batch_count as usize, args.several.batch_size as usize);
    if count > 1 && output.is_stdout() {
        return Err(Error::request("stdout takes one picture; give -o a name, or make one"));
    }

    let first = |footprint: &Footprint| {
        let defaults = settings.sized(&images, footprint.defaults.clone(), footprint.size_multiple());
        settings.request(stored.as_ref(), defaults)
    };
    let session = Session::start(args, stored.as_ref(), first)?;
    if let Some(stored) = stored.as_ref().filter(|_| args.from_image.is_some()) {
        warn_of_other_model(stored, &session.pipeline, &args.model.model);
    }
    let mut task = settings.task(images, stored.as_ref(), &session.pipeline)?;
    task.text_mut().seed = seed;
    session.fit_memory(&mut task, together.min(count));
    let mut batch =
        Batch { task, settings: &settings, wanted: (0..count).collect(), together, job: None, resumed };
    batch.skip_finished()?;
    let mut pictures = Vec::new();
    session.run(batch, &mut output, &mut |made| {
        if args.several.grid.is_some() {
            pictures.push(made.picture);
        }
    })?;
    if let Some(grid) = args.several.grid.as_deref().filter(|_| !pictures.is_empty()) {
        files::tell(&files::save(&sheet(&pictures), grid, args.quality, args.force)?);
    }
    Ok(0)
}

/// All pictures on one, nearly a square; like A1111's, it says how the first was made.
fn sheet(pictures: &[Image]) -> Image {
    let columns = (1..).find(|side| side * side >= pictures.len()).unwrap_or(1);
    let sheet = Image::sheet(pictures, columns);
    match pictures[0].parameters().cloned() {
        Some(mut parameters) => {
            let rows = pictures.len().div_ceil(columns);
            parameters.insert_after("Version", "Grid", format_args!("{columns}x{rows}"));
            sheet.with_parameters(parameters)
        }
        None => sheet,
    }
}

/// The settings that a picture contains.
///
/// # Errors
/// If it is no picture, or contains none.
pub(crate) fn stored_parameters(picture: &Path) -> Result<Parameters, Error> {
    input::refuse_stdin(picture, "a picture whose settings are taken")?;
    let parameters = metadata::read_parameters(picture)?.ok_or_else(|| {
        Error::request(format_args!(
            "`{}` does not say how it was made; expected a PNG, JPEG or WebP with the text of aquatint, A1111 and its relatives, \
             stable-diffusion.cpp, ComfyUI, InvokeAI, NovelAI or Fooocus",
            picture.display()
        ))
    })?;
    let ignored = parameters.ignored().map(|key| format!("`{key}`")).collect::<Vec<_>>();
    if !ignored.is_empty() {
        warn(format_args!("the picture's {} are not supported and ignored", ignored.join(", ")));
    }
    Ok(parameters)
}
