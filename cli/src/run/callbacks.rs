//! Flags that watch over a walk, and the observer that they make: checkpoints, an end before the end, strips of the steps.

use std::ops::ControlFlow;
use std::path::PathBuf;

use aquatint_model::generate::RunInfo;
use aquatint_model::{Callbacks, Error, Image, Interrupt, Progress, RunCheckpoint, StepInfo};
use clap::{Args, ValueEnum};

use crate::platform::signals;
use crate::run::output;
use crate::run::progress::Display;
use crate::run::strip::Strip;

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "While it is made")]
pub(crate) struct Control {
    /// Save the walk to this file after every step (latents, outputs, settings), so that --resume can go on from there.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Go on from a --checkpoint, to the same bits as without a break. Settings are taken from it; what else the command needs
    /// (-m, -i, --mask) is given again; of several pictures also -s and -b, and those after it are made as well.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_image", "batch"])]
    pub(crate) resume: Option<PathBuf>,

    /// When interrupted (Ctrl-C), finish the step, and save the picture at which the walk has arrived as NAME-partial.
    #[arg(long)]
    pub(crate) save_partial: bool,

    /// Save a strip beside the picture, NAME-steps: of every Nth step the guess of the picture (above) and what the UNet saw
    /// (below).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) save_steps: Option<u16>,

    /// How the strip is made.
    #[arg(long, value_enum, default_value = "linear", requires = "save_steps")]
    pub(crate) preview: Preview,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preview {
    /// Red, green and blue as sums of the latents' channels, fitted to the finished picture: costs nothing, a quarter of the size.
    #[default]
    Linear,
    /// Each decoded by the VAE: exact, and as slow as finishing a picture each time.
    Vae,
}

impl Control {
    /// Makes sure that the checkpoint can be written, and over no other file.
    ///
    /// # Errors
    /// If it cannot, or `Request` if there is a file that is none.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Some(file) = &self.checkpoint else { return Ok(()) };
        if file.exists() && RunCheckpoint::open(file).is_err() {
            return Err(Error::request(format_args!(
                "`{}` exists and is no checkpoint; expected a new name for --checkpoint, or that of a checkpoint to replace",
                file.display()
            )));
        }
        output::check_writable(file)
    }
}

/// Follows a walk as the flags say.
pub(crate) struct Watcher<'a> {
    control: &'a Control,
    pub(crate) display: Display,
    run_checkpoint: Option<RunCheckpoint>,
    pub(crate) strip: Option<Strip>,
    /// Whether the user ended the walk.
    pub(crate) stopped: bool,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(control: &'a Control, run_checkpoint: Option<RunCheckpoint>, pictures: usize) -> Self {
        let strip = control.save_steps.map(|every| Strip::new(every.into()));
        let known = run_checkpoint.as_ref().map_or(0, |run_checkpoint| run_checkpoint.steps().0);
        Self { control, display: Display::new(pictures, known), run_checkpoint, strip, stopped: false }
    }
}

impl Callbacks for Watcher<'_> {
    fn progress(&mut self, event: Progress) {
        self.display.update(event);
    }

    fn on_run_start(&mut self, run: &RunInfo) -> Result<(), Error> {
        self.run_checkpoint.as_mut().map_or(Ok(()), |run_checkpoint| run_checkpoint.begin(run))
    }

    fn known_output(&mut self, step: usize) -> Option<Vec<f32>> {
        self.run_checkpoint.as_ref()?.output(step)
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        if let Some(strip) = &mut self.strip {
            strip.record(info);
        }
        if let Some(run_checkpoint) = &mut self.run_checkpoint {
            let new = run_checkpoint.record(info)?;
            if let Some(file) = self.control.checkpoint.as_ref().filter(|_| new) {
                signals::whole(|| run_checkpoint.save(file))?;
            }
        }
        if !signals::requested() || info.done == info.total {
            return Ok(ControlFlow::Continue(()));
        }
        self.stopped = true;
        Ok(ControlFlow::Break(if self.control.save_partial { Interrupt::Decode } else { Interrupt::Discard }))
    }

    fn on_image(&mut self, _index: usize, latents: &[f32], picture: &Image) {
        if let Some(strip) = &mut self.strip {
            strip.finished(latents, picture);
        }
    }
}
