//! Making pictures: what `txt2img`, `img2img` and `inpaint` do alike, once it is known what is wished for.

use std::path::Path;
use std::process::ExitCode;

use aquatint_model::{Error, RunCheckpoint, TextToImage};

use crate::flags::args::Txt2img;
use crate::run::output::Output;
use crate::run::partial::{Kind, Wish};
use crate::run::session::{Order, Session, random_seed};
use crate::run::{batch, settings};
use crate::warn;

/// Refuses what can be refused at once, loads the model, makes the pictures.
pub(crate) fn run(wish: Wish, args: &Txt2img) -> Result<ExitCode, Error> {
    if let Some(manifest) = &args.several.batch {
        return batch::run(manifest, &wish, args);
    }
    let resumed = args.control.resume.as_ref().map(RunCheckpoint::open).transpose()?;
    let stored = match (&resumed, args.from_image.as_deref()) {
        (Some(run_checkpoint), _) => Some(run_checkpoint.parameters()),
        (None, picture) => picture.map(settings::stored).transpose()?,
    };
    let mut wish = wish;
    if let Some(stored) = &stored {
        if wish.kind == Kind::TextToImage && Wish::stored_kind(stored) != Kind::TextToImage {
            warn(
                "the settings are those of a picture that was made from another one; this one is made from the text alone",
            );
        }
        wish = wish.or(Wish::stored(stored)?);
    }
    let inputs = wish.inputs()?;
    // Names and numbers are judged before the model is loaded.
    let unseeded = TextToImage { seed: random_seed(), ..TextToImage::default() };
    let seed = wish.request(stored.as_ref(), unseeded)?.seed;
    let pattern = args.output.as_deref().unwrap_or(Path::new("aquatint-{seed}.png"));
    let mut output = Output::new(pattern, args.force, args.quality);
    output.check(seed)?;
    args.control.check()?;
    let (count, together) = (args.several.batch_count as usize, args.several.batch_size as usize);
    if count > 1 && output.is_stdout() {
        return Err(Error::request("stdout takes one picture; give -o a name, or make one"));
    }

    let first = |defaults: &TextToImage| wish.request(stored.as_ref(), wish.sized(&inputs, defaults.clone()));
    let session = Session::start(args, stored.as_ref(), first)?;
    let mut task = wish.task(inputs, stored.as_ref(), &session.pipeline)?;
    task.text_mut().seed = seed;
    let mut order = Order { task, wish: &wish, wanted: (0..count).collect(), together, job: None, resumed };
    order.skip_what_came_before()?;
    session.fill(order, &mut output, &mut |_| {})?;
    Ok(ExitCode::SUCCESS)
}
