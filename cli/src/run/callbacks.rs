//! Flags that watch over a walk, and the observer that they make: checkpoints, an end before the end, strips of the steps.

use std::ops::ControlFlow;
use std::path::PathBuf;

use aquatint_model::generate::Start;
use aquatint_model::{Error, Moment, Observer, Picture, Progress, Snapshot, Stop};
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
        if file.exists() && Snapshot::open(file).is_err() {
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
    snapshot: Option<Snapshot>,
    pub(crate) strip: Option<Strip>,
    /// Whether the user ended the walk.
    pub(crate) stopped: bool,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(control: &'a Control, snapshot: Option<Snapshot>, pictures: usize) -> Self {
        let strip = control.save_steps.map(|every| Strip::new(every.into()));
        let known = snapshot.as_ref().map_or(0, |snapshot| snapshot.steps().0);
        Self { control, display: Display::new(pictures, known), snapshot, strip, stopped: false }
    }
}

impl Observer for Watcher<'_> {
    fn progress(&mut self, event: Progress) {
        self.display.update(event);
    }

    fn begin(&mut self, start: &Start) -> Result<(), Error> {
        self.snapshot.as_mut().map_or(Ok(()), |snapshot| snapshot.begin(start))
    }

    fn output(&mut self, step: usize) -> Option<Vec<f32>> {
        self.snapshot.as_ref()?.output(step)
    }

    fn step(&mut self, moment: &Moment<'_>) -> Result<ControlFlow<Stop>, Error> {
        if let Some(strip) = &mut self.strip {
            strip.record(moment);
        }
        if let Some(snapshot) = &mut self.snapshot {
            let new = snapshot.record(moment)?;
            if let Some(file) = self.control.checkpoint.as_ref().filter(|_| new) {
                signals::whole(|| snapshot.save(file))?;
            }
        }
        if !signals::requested() || moment.done == moment.total {
            return Ok(ControlFlow::Continue(()));
        }
        self.stopped = true;
        Ok(ControlFlow::Break(if self.control.save_partial { Stop::Decode } else { Stop::Discard }))
    }

    fn finished(&mut self, _index: usize, latents: &[f32], picture: &Picture) {
        if let Some(strip) = &mut self.strip {
            strip.finished(latents, picture);
        }
    }
}
