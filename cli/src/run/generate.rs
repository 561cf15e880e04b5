//! Making pictures: what `txt2img`, `img2img` and `inpaint` do alike, once it is known what is
//! asked for.

use std::path::Path;

use aquatint_model::generate::{PartialRequest, TaskKind};
use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::rng::random_seed;
use aquatint_model::{Error, Footprint, RunCheckpoint, TextToImage};

use crate::flags::generate::GenerateFlags;
use crate::platform::console::warn;
use crate::run::output::Output;

use crate::run::{callbacks, manifest};

use crate::run::session::{Batch, Session};

/// Refuses what can be refused at once, loads the model, makes the pictures.
pub(crate) fn run(settings: PartialRequest, args: &GenerateFlags) -> Result<u8, Error> {
    if let Some(path) = &args.several.batch {
        return manifest::run(path, &settings, args);
    }
    let resumed = args.run.resume.as_ref().map(RunCheckpoint::open).transpose()?;
    let stored = match (&resumed, args.from_image.as_deref()) {
        (Some(run_checkpoint), _) => Some(run_checkpoint.parameters()),
        (None, picture) => picture.map(stored_parameters).transpose()?,
    };
    let mut settings = settings;
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
    let TextToImage { seed, hires, .. } = settings.request(stored.as_ref(), unseeded)?;
    if hires.is_some() && (resumed.is_some() || args.run.checkpoint.is_some()) {
        return Err(Error::request(
            "a run with a second pass cannot be saved: leave --checkpoint away, or the second pass with --hires-scale 0",
        ));
    }
    let pattern = args.output.as_deref().unwrap_or(Path::new("aquatint-{seed}.png"));
    let mut output = Output::new(pattern, args.force, args.quality);
    output.check(seed)?;
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
    let mut task = settings.task(images, stored.as_ref(), &session.pipeline)?;
    task.text_mut().seed = seed;
    session.fit_memory(&mut task, together.min(count));
    let mut batch =
        Batch { task, settings: &settings, wanted: (0..count).collect(), together, job: None, resumed };
    batch.skip_finished()?;
    session.run(batch, &mut output, &mut |_| {})?;
    Ok(0)
}

/// The settings that a picture contains.
///
/// # Errors
/// If it is no picture, or contains none.
pub(crate) fn stored_parameters(picture: &Path) -> Result<Parameters, Error> {
    let parameters = metadata::read(picture)?.map(|text| Parameters::parse(&text));
    let parameters = parameters.filter(|parameters| !parameters.settings.is_empty()).ok_or_else(|| {
        Error::request(format_args!(
            "`{}` does not say how it was made; expected a PNG with a text chunk `parameters`, or a JPEG or WebP with an EXIF \
             user comment, as aquatint and A1111 write",
            picture.display()
        ))
    })?;
    let ignored = parameters.ignored().map(|key| format!("`{key}`")).collect::<Vec<_>>();
    if !ignored.is_empty() {
        warn(format_args!("the picture's {} are not supported and ignored", ignored.join(", ")));
    }
    Ok(parameters)
}
