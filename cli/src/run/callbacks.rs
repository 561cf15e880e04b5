//! The callbacks of the denoising loop as the flags ask for them: progress, checkpoints, an early
//! end, a strip of the steps.

use std::ops::ControlFlow;

use aquatint_model::generate::RunInfo;
use aquatint_model::whole_file::check_writable;
use aquatint_model::{Callbacks, Error, Image, Interrupt, Progress, RunCheckpoint, StepInfo};

use crate::flags::run::RunFlags;
use crate::platform::console::warn;
use crate::platform::signals;
use crate::run::progress::Display;
use crate::run::strip::Strip;

/// Makes sure that the checkpoint can be written, and over no other file.
///
/// # Errors
/// If it cannot, or `Request` if there is a file that is none.
pub(crate) fn check(flags: &RunFlags) -> Result<(), Error> {
    let Some(file) = &flags.checkpoint else { return Ok(()) };
    if file.exists() && RunCheckpoint::open(file).is_err() {
        return Err(Error::request(format_args!(
            "`{}` exists and is no checkpoint; expected a new name for --checkpoint, or that of a checkpoint to replace",
            file.display()
        )));
    }
    check_writable(file, 1)
}

/// Follows a run as the flags say.
pub(crate) struct RunCallbacks<'a> {
    flags: &'a RunFlags,
    pub(crate) display: Display,
    run_checkpoint: Option<RunCheckpoint>,
    /// Whether a checkpoint could not be written. The picture is finished all the same.
    checkpoint_failed: bool,
    pub(crate) strip: Option<Strip>,
    /// Whether the user ended the run.
    pub(crate) stopped: bool,
}

impl<'a> RunCallbacks<'a> {
    pub(crate) fn new(flags: &'a RunFlags, run_checkpoint: Option<RunCheckpoint>) -> Self {
        let strip = flags.save_steps.map(|every| Strip::new(every.into()));
        let known = run_checkpoint.as_ref().map_or(0, |run_checkpoint| run_checkpoint.steps().0);
        let display = Display::new(known);
        Self { flags, display, run_checkpoint, checkpoint_failed: false, strip, stopped: false }
    }
}

impl Callbacks for RunCallbacks<'_> {
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
            if let Some(file) = self.flags.checkpoint.as_ref().filter(|_| new)
                && let Err(error) = signals::whole(|| run_checkpoint.save(file))
            {
                if !self.checkpoint_failed {
                    warn(format_args!("no checkpoint: {error}; the picture is made without"));
                }
                self.checkpoint_failed = true;
            }
        }
        if !signals::requested() || info.done == info.total {
            return Ok(ControlFlow::Continue(()));
        }
        self.stopped = true;
        Ok(ControlFlow::Break(if self.flags.save_partial { Interrupt::Decode } else { Interrupt::Discard }))
    }

    fn on_image(&mut self, _index: usize, latents: &[f32], picture: &Image) {
        if let Some(strip) = &mut self.strip {
            strip.finished(latents, picture);
        }
    }
}
