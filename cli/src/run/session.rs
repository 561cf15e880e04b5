//! A loaded model, and the pictures that it is asked for, one batch after the other.

use std::path::PathBuf;
use std::time::Instant;

use aquatint_model::generate::infotext::VAE_KEY;
use aquatint_model::generate::presets::NO_PRESET;
use aquatint_model::generate::{PartialRequest, Preset};
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{Error, Footprint, Image, LoadOptions, Pipeline, RunCheckpoint, Task, TextToImage};

use crate::flags::generate::GenerateFlags;
use crate::flags::precision::Precision;
use crate::flags::run::Preview;
use crate::platform::console::{self, warn};
use crate::platform::signals;
use crate::run::callbacks::RunCallbacks;
use crate::run::memory;
use crate::run::model::{computing, machine};
use crate::run::output::Output;
use crate::run::pattern::Fields;
use crate::run::progress::{Display, elapsed};

/// A loaded model and the flags.
pub(crate) struct Session<'a> {
    args: &'a GenerateFlags,
    footprint: Footprint,
    /// Memory that was free before the model was loaded.
    free: Option<u64>,
    pub(crate) pipeline: Pipeline,
}

/// Pictures of one task that differ in their seeds.
pub(crate) struct Batch<'a> {
    /// With the seed of picture 0.
    pub(crate) task: Task,
    pub(crate) settings: &'a PartialRequest,
    /// Which pictures; the seed of picture i is that of picture 0 plus i.
    pub(crate) wanted: Vec<usize>,
    /// How many are made together, at most.
    pub(crate) together: usize,
    /// The line of the manifest.
    pub(crate) job: Option<usize>,
    /// The run to go on with.
    pub(crate) resumed: Option<RunCheckpoint>,
}

/// A picture that is done.
pub(crate) struct GeneratedImage {
    /// Where it is; `None` for stdout.
    pub(crate) path: Option<PathBuf>,
    pub(crate) picture: Image,
    pub(crate) seed: u64,
    pub(crate) parameters: String,
    /// Of the whole run.
    pub(crate) seconds: f64,
    /// Whether the run was ended early.
    pub(crate) partial: bool,
}

/// Says if a picture was made with another VAE than this one will be; both are names of VAEs that
/// replace the model's own.
pub(crate) fn warn_of_other_vae(theirs: Option<&str>, ours: Option<&str>) {
    let theirs = theirs.filter(|&name| !["None", "Automatic"].contains(&name)); // as A1111 says it
    if let Some(theirs) = theirs
        && ours.is_none_or(|ours| !theirs.starts_with(ours))
    {
        let ours = ours.map_or("the model's own".to_owned(), |name| format!("`{name}`"));
        warn(format_args!("the picture was made with the VAE `{theirs}`, this one is made with {ours}"));
    }
}

impl Batch<'_> {
    fn seed(&self, picture: usize) -> u64 {
        self.task.text().seed_of(picture)
    }

    /// The task of the pictures from `picture` on, with words in place of its wildcards.
    fn task_of(&self, picture: usize, pipeline: &Pipeline) -> Result<Task, Error> {
        let mut task = self.task.clone();
        task.text_mut().seed = self.seed(picture);
        pipeline.with_words(&task)
    }

    /// The text of picture `picture`, but for what is known only after the run.
    pub(crate) fn parameters(&self, picture: usize, pipeline: &Pipeline) -> Result<Parameters, Error> {
        let mut parameters = pipeline.task_parameters(&self.task_of(picture, pipeline)?)?;
        self.settings.describe(&mut parameters);
        Ok(parameters)
    }

    /// Leaves out the pictures that were done before the run that is resumed.
    pub(crate) fn skip_finished(&mut self) -> Result<(), Error> {
        let Some(run_checkpoint) = &self.resumed else { return Ok(()) };
        let seed: Option<u64> = run_checkpoint.parameters().parsed("Seed", "a whole number")?;
        let first = self.wanted.iter().position(|&picture| Some(self.seed(picture)) == seed);
        self.wanted.drain(..first.unwrap_or(0)); // a seed that is none of these is refused with the settings
        self.together = run_checkpoint.pictures().min(self.wanted.len());
        if run_checkpoint.pictures() != self.together {
            return Err(Error::request(format_args!(
                "the checkpoint is of {} pictures made together; expected --batch-count of as many or more",
                run_checkpoint.pictures()
            )));
        }
        Ok(())
    }

    /// Takes the next pictures: neighbours, as many as are made together. Returns the first, and
    /// how many they are.
    fn next_together(&mut self) -> Option<(usize, usize)> {
        let first = *self.wanted.first()?;
        let neighbours = self.wanted.iter().enumerate().take_while(|&(i, &picture)| picture == first + i);
        let count = neighbours.count().min(self.together);
        self.wanted.drain(..count);
        Some((first, count))
    }
}

impl<'a> Session<'a> {
    /// Loads the model, if `first`, what is to be made first, will fit into memory; that is judged
    /// for [`Footprint::defaults`]. The precision is that of `stored`, unless the flags name
    /// another.
    pub(crate) fn start(
        args: &'a GenerateFlags,
        stored: Option<&Parameters>,
        first: impl FnOnce(&Footprint) -> Result<TextToImage, Error>,
    ) -> Result<Self, Error> {
        let isa = machine(args.threads.map(usize::from))?;
        signals::listen(args.run.save_partial || args.run.checkpoint.is_some())?;
        let spec = args.model.spec_for(stored)?;
        let is_new = stored.is_none();
        let stored_vae = stored.and_then(|stored| stored.get(VAE_KEY));
        let unless_named = stored.filter(|_| args.precision.is_none());
        let stored = unless_named.map(Parameters::precision).transpose()?.flatten();
        let precision = stored.unwrap_or_else(|| args.precision.unwrap_or(Precision::Auto).on(isa));
        let several = &args.several;
        // The networks of one run are needed one after the other, those of several again and
        // again.
        let keep = several.batch.is_some() || several.batch_count > several.batch_size;
        let options = LoadOptions { isa, precision, keep };
        let footprint = Footprint::of(spec.clone(), &options)?;
        let free = memory::free()?;
        let together = match several.batch {
            Some(_) => several.batch_size,
            None => several.batch_size.min(several.batch_count),
        };
        let mut first = first(&footprint)?;
        first.vae_tiling |= memory::demands_vae_tiling(&footprint, &first, together as usize, free);
        let needed = memory::check(&footprint, &first, together as usize, free)?;
        if needed > 0 {
            inform!("about {} of memory will be needed at most", memory::gigabytes(needed));
        }
        let start = Instant::now();
        let mut display = Display::new(0);
        let pipeline = Pipeline::load_reporting(spec, &options, &mut |event| display.update(event));
        display.finish();
        let pipeline = pipeline?;
        pipeline.warnings().iter().for_each(warn);
        pipeline.notes().iter().for_each(|note| inform!("{note}"));
        match (&args.preset, pipeline.preset()) {
            (Some(name), _) if name != NO_PRESET => {
                let preset = Preset::named(name)?;
                inform!("preset {}: {}; other flags count more", preset.name, preset.describe(preset.steps));
            }
            (None, Some(preset)) if is_new => inform!("{}; flags count more", preset.describe()),
            _ => {}
        }
        warn_of_other_vae(stored_vae, pipeline.other_vae());
        if args.run.save_steps.is_some() && args.run.preview == Preview::Taesd && !pipeline.has_tiny_vae() {
            return Err(Error::request(
                "--preview taesd needs a tiny VAE, and the model has none; expected --taesd PATH (with --taesd-preview-only the \
                 picture is made by the VAE all the same)",
            ));
        }
        if args.model.is_embedded() {
            inform!(
                "drawing with the small embedded model: emoji-like things, 128×128; `-m PATH` names a real Stable Diffusion model"
            );
        }
        if console::is_verbose() {
            let loaded = if keep { "loaded" } else { "opened" };
            inform!("model {loaded} in {}; {}", elapsed(start.elapsed()), pipeline.model().name());
        }
        inform!("{}", computing(isa, precision));
        Ok(Self { args, footprint, free, pipeline })
    }

    /// Lets the VAE work in strips where `together` pictures fit into memory only so. The text of
    /// the pictures says it.
    pub(crate) fn fit_memory(&self, task: &mut Task, together: usize) {
        if memory::demands_vae_tiling(&self.footprint, task.text(), together, self.free) {
            inform!("{}", memory::VAE_TILING);
            task.text_mut().vae_tiling = true;
        }
    }

    /// Makes the pictures of a batch, shows progress, saves each, and tells of it.
    ///
    /// # Errors
    /// Those of the first run that fails; what was finished before is kept, and of its pictures
    /// those that can be saved.
    pub(crate) fn run(
        &self,
        mut batch: Batch<'_>,
        output: &mut Output,
        report: &mut dyn FnMut(GeneratedImage),
    ) -> Result<(), Error> {
        let all = batch.wanted.len();
        let mut done = 0;
        if self.pipeline.draws_words(batch.task.text()) {
            batch.together = 1; // each picture has a text of its own
        }
        while let Some((first, count)) = batch.next_together() {
            if signals::requested() {
                return Err(Error::Interrupted);
            }
            let task = batch.task_of(first, &self.pipeline)?;
            memory::check(&self.footprint, task.text(), count, self.free)?;
            self.select_adapters(task.text())?;
            let size = task.text().final_size(self.pipeline.size_multiple());
            output.check_room(&Fields::of(task.text(), batch.job), size)?; // rather than after the work
            let TextToImage { seed, width, height, steps, .. } = task.text();
            let number = if all > 1 { format!("picture {}/{all}, ", done + 1) } else { String::new() };
            let second = match size == [*width, *height] {
                true => String::new(),
                false => format!(", then {}×{}", size[0], size[1]),
            };
            inform!("{number}seed {seed}, {width}×{height}, {steps} steps{second}");
            let start = Instant::now();
            let mut callbacks = RunCallbacks::new(&self.args.run, self.run_checkpoint(&mut batch, first)?);
            let pictures = self.pipeline.generate(&task, count, &mut callbacks);
            callbacks.display.finish();
            let seconds = start.elapsed().as_secs_f64();
            let mut failed = None; // all are saved that can be; of several errors the last is returned
            for (i, mut picture) in pictures?.into_iter().enumerate() {
                if let Some(parameters) = picture.parameters_mut() {
                    batch.settings.describe(parameters);
                }
                let seed = batch.seed(first + i);
                let parameters = picture.parameters().map(Parameters::to_string).unwrap_or_default();
                let fields = Fields::of(task.text(), batch.job).with_seed(seed);
                match self.save(&picture, &fields, i, &callbacks, output) {
                    Ok(path) => {
                        report(GeneratedImage {
                            path,
                            picture,
                            seed,
                            parameters,
                            seconds,
                            partial: callbacks.stopped,
                        });
                    }
                    Err(error) => failed.replace(error).into_iter().for_each(warn),
                }
            }
            failed.map_or(Ok(()), Err)?;
            if callbacks.stopped {
                return Err(Error::Interrupted);
            }
            done += count;
            if all > 1 && done < all {
                inform!("{done}/{all} done, the last in {}", elapsed(start.elapsed()));
            }
        }
        Ok(())
    }

    /// Applies the adapters for which the prompt asks, and tells of them.
    fn select_adapters(&self, request: &TextToImage) -> Result<(), Error> {
        self.pipeline.select_adapters(request)?.iter().for_each(|note| inform!("{note}"));
        Ok(())
    }

    /// The checkpoint to write into: that of the resumed run, if it fits, or a new one.
    fn run_checkpoint(&self, batch: &mut Batch<'_>, first: usize) -> Result<Option<RunCheckpoint>, Error> {
        if batch.resumed.is_none() && self.args.run.checkpoint.is_none() {
            return Ok(None);
        }
        let parameters = batch.parameters(first, &self.pipeline)?;
        match batch.resumed.take() {
            None => Ok(Some(RunCheckpoint::new(&parameters))),
            Some(run_checkpoint) => {
                run_checkpoint.check(&parameters)?;
                batch.together = self.args.several.batch_size as usize;
                let (done, total) = run_checkpoint.steps();
                inform!("resuming after step {done}/{total}");
                Ok(Some(run_checkpoint))
            }
        }
    }

    /// Saves a picture, and its strip if there is to be one.
    fn save(
        &self,
        picture: &Image,
        fields: &Fields,
        index: usize,
        callbacks: &RunCallbacks<'_>,
        output: &mut Output,
    ) -> Result<Option<PathBuf>, Error> {
        let path = signals::whole(|| match callbacks.stopped {
            true => output.save_beside(picture, None, fields, "partial"),
            false => output.save(picture, fields),
        })?;
        let strip = match &callbacks.strip {
            Some(strip) => strip.picture(index, self.args.run.preview, &self.pipeline)?,
            None => None,
        };
        if let (Some(strip), Some(shown)) = (strip, &callbacks.strip) {
            let mut parameters = picture.parameters().cloned().unwrap_or_default();
            parameters.insert_after("Version", "Strip", shown.describe());
            let strip = strip.with_parameters(parameters);
            signals::whole(|| output.save_beside(&strip, path.as_deref(), fields, "steps"))?;
        }
        Ok(path)
    }
}
