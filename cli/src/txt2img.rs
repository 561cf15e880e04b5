//! `aquatint txt2img`: a picture from a text.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::Instant;

use aquatint_model::{Error, LoadOptions, Pipeline, TextToImage};

use crate::args::{Precision, Txt2img};
use crate::progress::Display;
use crate::{machine, output, settings, warn};

pub(crate) fn run(args: &Txt2img) -> Result<(), Error> {
    // Everything that can be refused at once comes before anything that takes time.
    let isa = machine(args.threads.map(usize::from))?;
    let stored = args.from_image.as_deref().map(settings::stored).transpose()?;
    let request = |defaults: TextToImage| settings::request(args, stored.as_ref(), defaults);
    let seed = request(TextToImage { seed: random_seed(), ..TextToImage::default() })?.seed;
    let name = format!("aquatint-{seed}.png");
    let path = output::reserve(args.output.as_deref().unwrap_or(Path::new(&name)), args.force)?;
    let precision = match args.precision {
        Precision::Auto | Precision::F32 => "f32",
    };

    let start = Instant::now();
    let pipeline = Pipeline::load(&args.model, &LoadOptions { isa })?;
    for warning in pipeline.warnings() {
        warn(warning);
    }
    let threads = rayon::current_num_threads();
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("model loaded in {seconds:.1} s; computing with {precision}, {isa}, {threads} threads");

    let request = TextToImage { seed, ..request(pipeline.defaults())? };
    let TextToImage { width, height, steps, .. } = request;
    eprintln!("seed {seed}, {width}×{height}, {steps} steps");

    let start = Instant::now();
    let mut display = Display::new();
    let picture = pipeline.text_to_image(&request, &mut |event| display.update(event));
    display.finish();
    picture?.save(&path)?;
    eprintln!("done in {:.1} s", start.elapsed().as_secs_f64());
    println!("{}", path.display());
    Ok(())
}

/// A seed that nobody chose: 32 bits, so that it is easy to type again. The standard library seeds its hash tables
/// from the operating system's random numbers.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
