//! Making one picture: what `txt2img`, `img2img` and `inpaint` share before and after their own request.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::Instant;

use aquatint_model::parameters::Parameters;
use aquatint_model::{EMBEDDED, Error, LoadOptions, Picture, Pipeline, Progress, TextToImage};

use crate::args::{Precision, Txt2img};
use crate::output::Destination;
use crate::progress::Display;
use crate::{machine, settings, warn};

/// A loaded model, a reserved name, and the flags.
pub(crate) struct Session<'a> {
    args: &'a Txt2img,
    stored: Option<Parameters>,
    seed: u64,
    destination: Destination,
    pub(crate) pipeline: Pipeline,
}

impl<'a> Session<'a> {
    /// Refuses what can be refused at once, then loads the model.
    pub(crate) fn start(args: &'a Txt2img) -> Result<Self, Error> {
        let isa = machine(args.threads.map(usize::from))?;
        let stored = args.from_image.as_deref().map(settings::stored).transpose()?;
        let unseeded = TextToImage { seed: random_seed(), ..TextToImage::default() };
        let seed = settings::request(args, stored.as_ref(), unseeded)?.seed;
        let output = args.output.as_deref().unwrap_or(Path::new("aquatint-{seed}.png"));
        let destination = Destination::reserve(output, seed, args.force)?;
        let precision = match args.precision {
            Precision::Auto | Precision::F32 => "f32",
        };

        let start = Instant::now();
        let pipeline = Pipeline::load(&args.model, &LoadOptions { isa })?;
        for warning in pipeline.warnings() {
            warn(warning);
        }
        if args.model.as_os_str() == EMBEDDED {
            eprintln!(
                "drawing with the small embedded model: emoji-like things, 128×128; `-m FOLDER` names a real Stable Diffusion model"
            );
        }
        let threads = rayon::current_num_threads();
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("model loaded in {seconds:.1} s; computing with {precision}, {isa}, {threads} threads");
        Ok(Self { args, stored, seed, destination, pipeline })
    }

    /// The request, checked, of the given size unless the flags or the stored settings name another.
    pub(crate) fn request(&self, size: Option<[usize; 2]>) -> Result<TextToImage, Error> {
        let mut defaults = self.pipeline.defaults();
        if let Some([width, height]) = size {
            (defaults.width, defaults.height) = (width, height);
        }
        let request = settings::request(self.args, self.stored.as_ref(), defaults)?;
        self.pipeline.check(&request)?;
        Ok(TextToImage { seed: self.seed, ..request })
    }

    /// Makes the picture, shows progress, saves it and says where.
    pub(crate) fn make(
        self,
        request: &TextToImage,
        make: impl FnOnce(&Pipeline, &mut dyn FnMut(Progress)) -> Result<Picture, Error>,
    ) -> Result<(), Error> {
        let TextToImage { seed, width, height, steps, .. } = request;
        eprintln!("seed {seed}, {width}×{height}, {steps} steps");
        let start = Instant::now();
        let mut display = Display::new();
        let picture = make(&self.pipeline, &mut |event| display.update(event));
        display.finish();
        self.destination.save(&picture?)?;
        eprintln!("done in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// A seed that nobody chose: 32 bits, so that it is easy to type again. The standard library seeds its hash tables
/// from the operating system's random numbers.
fn random_seed() -> u64 {
    RandomState::new().build_hasher().finish() >> 32
}
