//! `aquatint verify`: is a picture what its own text says?

use std::ops::ControlFlow;
use std::path::PathBuf;

use aquatint_model::generate::infotext::VAE_KEY;
use aquatint_model::generate::{PartialRequest, TaskKind};
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{
    Callbacks, Error, Footprint, Format, Image, ImageFile, Interrupt, LoadOptions, Pipeline, Progress,
    StepInfo, Task, TextToImage,
};
use clap::Args;

use crate::flags::image::mask;
use crate::flags::model::ModelChoice;
use crate::platform::console::warn;
use crate::platform::stdin as input;
use crate::run::generate::stored_parameters;
use crate::run::memory;
use crate::run::model::{machine, warn_of_other_model};

use crate::run::progress::Display;
use crate::run::session::warn_of_other_vae;

#[derive(Args)]
pub(crate) struct Verify {
    /// A PNG, JPEG or WebP that aquatint made.
    picture: PathBuf,

    #[command(flatten)]
    model: ModelChoice,

    /// The picture from which it was made, if it was.
    #[arg(short, long, alias = "init-img", value_name = "PICTURE")]
    image: Option<PathBuf>,

    /// The mask with which it was made, if it was; otherwise what is transparent in -i.
    #[arg(long, value_name = "PICTURE", requires = "image")]
    mask: Option<PathBuf>,

    /// The file of the upscaler with which its second pass was enlarged, if it was one.
    #[arg(long, value_name = "FILE")]
    hires_upscaler: Option<String>,

    /// Threads to compute with [default: one for each core].
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Makes the picture again; an error if the two are not equal, after the figures went to stdout.
pub(crate) fn run(args: &Verify) -> Result<(), Error> {
    let isa = machine(args.threads.map(usize::from))?;
    let stored = stored_parameters(&args.picture)?;
    if let Some(shown) = stored.shows() {
        return Err(Error::request(format_args!(
            "`{}` is made of other pictures ({shown}); expected one of those that can be made again",
            args.picture.display()
        )));
    }
    let expected = ImageFile::open(&args.picture)?.image;
    // What has no meaning is refused before the model is loaded.
    let named = PartialRequest { hires_upscaler: args.hires_upscaler.clone(), ..PartialRequest::default() };
    named.request(Some(&stored), TextToImage::default())?;
    let kind = TaskKind::of(&stored);
    if kind != TaskKind::TextToImage && args.image.is_none() {
        return Err(Error::request(
            "the picture was made from another picture, which it does not contain; expected that one with -i, and the mask, if \
             there was one, with --mask",
        ));
    }
    let settings = PartialRequest {
        kind,
        image: args.image.as_deref().map(input::image).transpose()?,
        mask: args.mask.as_deref().map(mask).transpose()?,
        hires_upscaler: args.hires_upscaler.clone(),
        ..PartialRequest::from_parameters(&stored)?
    };
    let inputs = settings.open_images()?;
    if !stored.is_ours() {
        warn("the picture was made by another program; an equal one is not to be expected");
    }

    let precision = stored.precision()?.unwrap_or_default();
    let options = LoadOptions { isa, precision, keep: false };
    let spec = args.model.spec_for(Some(&stored))?;
    let footprint = Footprint::of(spec.clone(), &options)?;
    let request = settings.request(
        Some(&stored),
        settings.sized(&inputs, footprint.defaults.clone(), footprint.size_multiple()),
    )?;
    memory::check(&footprint, &request, 1, memory::free()?)?;
    let pipeline = Pipeline::load(spec, &options)?;
    pipeline.warnings().iter().for_each(warn);
    warn_of_other_model(&stored, &pipeline, &args.model.model);
    warn_of_other_vae(stored.get(VAE_KEY), pipeline.other_vae());
    let parameters = pipeline.parameters(&request)?;
    for key in ["Lora hashes", "TI hashes", "Refiner"] {
        let [theirs, ours] = [&stored, &parameters].map(|parameters| parameters.get(key).unwrap_or("none"));
        if theirs != ours {
            warn(format_args!("{key}: the picture has {theirs}, these files have {ours}"));
        }
    }
    let task = settings.task(inputs, Some(&stored), &pipeline)?;
    for (what, key, found) in inputs_of(&task) {
        if let Some(expected) = stored.get(key)
            && expected != found
        {
            warn(format_args!(
                "the picture was made from a {what} with the hash {expected}, this one has {found}"
            ));
        }
    }
    let stopped = stored.parsed("Stopped after", "a number of steps")?;
    let mut follower = Follower { display: Display::new(0), stopped };
    let found = pipeline.generate(&task, 1, &mut follower);
    follower.display.finish();
    let found = as_stored(found?.remove(0), &stored)?;
    report(&found, &expected, &stored)
}

/// The pictures of a task: what they are, the key of their hash, and the hash.
fn inputs_of(task: &Task) -> Vec<(&'static str, &'static str, String)> {
    let image = |picture: &Image| ("picture", "Image hash", picture.hash());
    match task {
        Task::TextToImage(_) => Vec::new(),
        Task::ImageToImage(task) => vec![image(&task.image)],
        Task::Inpaint(task) => vec![image(&task.image), ("mask", "Mask hash", task.mask.hash())],
    }
}

/// Ends the run where that of the picture ended.
struct Follower {
    display: Display,
    stopped: Option<usize>,
}

impl Callbacks for Follower {
    fn progress(&mut self, event: Progress) {
        self.display.update(event);
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        Ok(match self.stopped {
            Some(steps) if info.done == steps => ControlFlow::Break(Interrupt::Decode),
            _ => ControlFlow::Continue(()),
        })
    }
}

/// The picture as its file would show it: a JPEG has lost something, and loses the same again.
fn as_stored(picture: Image, stored: &Parameters) -> Result<Image, Error> {
    let Some(quality) = stored.parsed("JPEG quality", "a number from 1 to 100")? else { return Ok(picture) };
    let bytes = picture.to_bytes(Format::Jpeg(quality))?;
    let parameters = picture.parameters().cloned().unwrap_or_default();
    Ok(ImageFile::from_bytes(&bytes)?.image.with_parameters(parameters))
}

fn report(found: &Image, expected: &Image, stored: &Parameters) -> Result<(), Error> {
    let [found_size, expected_size] = [found, expected].map(|picture| (picture.width(), picture.height()));
    if found_size != expected_size {
        let ((w, h), (w2, h2)) = (found_size, expected_size);
        return Err(Error::run(format_args!("the picture has {w2}×{h2} pixels, its text says {w}×{h}")));
    }
    let Difference { largest, equal, psnr } = Difference::of(found.pixels(), expected.pixels());
    if largest == 0 {
        println!("equal");
        return Ok(());
    }
    println!(
        "different: PSNR {psnr:.2} dB, largest difference {largest} of 255, {:.3} % of values equal",
        100.0 * equal
    );
    let digest = |parameters: &Parameters| parameters.get("Steps digest").map(str::to_owned);
    if let (Some(found), Some(expected)) = (found.parameters().and_then(digest), digest(stored)) {
        println!("{}", first_difference(&found, &expected));
    }
    Err(Error::run("the picture is not what its text says, or was made on another version or machine"))
}

/// The first step at which two runs differ, by the four digits of each step.
fn first_difference(found: &str, expected: &str) -> String {
    const DIGITS: usize = aquatint_model::generate::DIGITS_PER_STEP;
    let steps = |digest: &str| digest.len().div_ceil(DIGITS);
    let parted =
        found.as_bytes().chunks(DIGITS).zip(expected.as_bytes().chunks(DIGITS)).position(|(a, b)| a != b);
    let total = steps(expected);
    match parted {
        Some(step) => format!("the first step that differs is {} of {total}", step + 1),
        None if steps(found) != total => format!("{} steps were made, the picture has {total}", steps(found)),
        None => format!(
            "all {total} steps are equal: the pictures part after them, in the decoder or in the file"
        ),
    }
}

/// How far two pictures are apart.
struct Difference {
    /// The largest difference of two values.
    largest: u8,
    /// The share of equal values.
    equal: f64,
    /// 10 log₁₀(255² / mean squared difference), in dB.
    psnr: f64,
}

impl Difference {
    fn of(a: &[u8], b: &[u8]) -> Self {
        let differences = a.iter().zip(b).map(|(a, b)| a.abs_diff(*b));
        let count = a.len().max(1) as f64;
        let squares: f64 = differences.clone().map(|d| f64::from(d).powi(2)).sum();
        Self {
            largest: differences.clone().max().unwrap_or(0),
            equal: differences.filter(|&d| d == 0).count() as f64 / count,
            psnr: 10.0 * (255.0 * 255.0 * count / squares).log10(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_that_differs_is_named() {
        assert_eq!(first_difference("0123456789ab", "012345670000"), "the first step that differs is 3 of 3");
        assert_eq!(first_difference("1123", "0123"), "the first step that differs is 1 of 1");
        assert!(first_difference("0123", "0123").starts_with("all 1 steps are equal"));
        assert_eq!(first_difference("0123", "01230000"), "1 steps were made, the picture has 2");
    }

    #[test]
    fn a_difference_of_one_level_everywhere_is_48_db() {
        let Difference { largest, equal, psnr } = Difference::of(&[1, 2, 3], &[2, 1, 4]);
        assert_eq!((largest, equal), (1, 0.0));
        assert!((psnr - 48.1308).abs() < 1e-4, "{psnr}");
        assert_eq!(Difference::of(&[7, 9], &[7, 9]).largest, 0);
    }
}
