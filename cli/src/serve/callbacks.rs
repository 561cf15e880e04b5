//! What the worker does between the steps of a run: tell listeners, look for interrupts,
//! remember the run.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use aquatint_model::generate::RunInfo;
use aquatint_model::image::metadata::Parameters;
use aquatint_model::{Callbacks, Error, Image, Interrupt, Progress, RunCheckpoint, StepInfo};

use crate::serve::events::StepEvent;
use crate::serve::metrics::count;
use crate::serve::model::Loaded;
use crate::serve::outcome::settle;
use crate::serve::queue::{Drawn, InterruptKind};
use crate::serve::server::{Explained, ExplainedStep, Server};

/// Follows the pictures that are made together, of one job or of several.
pub(crate) struct JobCallbacks<'a> {
    server: &'a Server,
    loaded: &'a Loaded,
    /// The jobs, and how many pictures of each are made.
    jobs: Vec<(&'a Drawn, usize)>,
    /// The steps of each job.
    steps: Vec<Vec<ExplainedStep>>,
    /// What can be gone on with, if the server ends: the run of a single job.
    run: Option<Resumable>,
    /// Runs that come after this one.
    rest: usize,
    begun: Instant,
    /// When the last step was done.
    denoised: Option<Instant>,
    /// Steps done, and steps in all.
    pub(crate) done: [usize; 2],
    /// Jobs of several that were cancelled meanwhile.
    pub(crate) cancelled: Vec<u64>,
    shape: [usize; 3],
}

/// A run that can be gone on with.
struct Resumable {
    parameters: Parameters,
    checkpoint: RunCheckpoint,
    /// Steps that another process has made.
    known: usize,
}

impl<'a> JobCallbacks<'a> {
    pub(crate) fn new(
        server: &'a Server,
        loaded: &'a Loaded,
        jobs: Vec<(&'a Drawn, usize)>,
        rest: usize,
    ) -> Self {
        Self {
            server,
            loaded,
            steps: vec![Vec::new(); jobs.len()],
            jobs,
            run: None,
            rest,
            begun: Instant::now(),
            denoised: None,
            done: [0; 2],
            cancelled: Vec::new(),
            shape: [0; 3],
        }
    }

    /// For a run whose first picture has these parameters, and which goes on with `broken_off`.
    pub(crate) fn resuming(self, parameters: Parameters, broken_off: Option<RunCheckpoint>) -> Self {
        let checkpoint = broken_off.unwrap_or_else(|| RunCheckpoint::new(&parameters));
        let known = checkpoint.steps().0;
        Self { run: Some(Resumable { parameters, checkpoint, known }), ..self }
    }

    /// Leaves the steps to who asks for them.
    pub(crate) fn explain(&mut self) {
        for ((drawn, _), steps) in self.jobs.iter().zip(&mut self.steps) {
            if !steps.is_empty() {
                self.server.explain(Explained { id: drawn.job.id, steps: std::mem::take(steps) });
            }
        }
    }

    /// Learns from a finished run of `pixels` pixels in all how long the next will take.
    pub(crate) fn measure(&self, pixels: usize) {
        let Some(last) = self.denoised.filter(|_| self.known() == 0) else { return };
        let (denoising, rest) = ((last - self.begun).as_secs_f64(), last.elapsed().as_secs_f64());
        self.server.speed.learn(&self.loaded.name, pixels as f64, denoising / self.done[0] as f64, rest);
    }

    /// Saves the run so far, if it has begun.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        match &self.run {
            Some(run) if run.checkpoint.steps().0 > 0 => run.checkpoint.save(path),
            _ => Ok(()),
        }
    }

    /// Steps that another process has made.
    fn known(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.known)
    }

    /// Seconds until the last picture is there: as if every step took as long as those so far.
    fn left(&self, info: &StepInfo<'_>) -> f64 {
        let computed = info.done.saturating_sub(self.known()).max(1);
        let step = self.begun.elapsed().as_secs_f64() / computed as f64;
        step * (info.total - info.done + self.rest * info.total) as f64
    }

    /// Tells of a step, for each job with a look at its first picture.
    fn tell(&mut self, info: &StepInfo<'_>) {
        let (sigma, timestep, eta) = (info.sigma(), info.timestep(), self.left(info));
        let mut first = 0;
        for ((drawn, pictures), steps) in self.jobs.iter().zip(&mut self.steps) {
            let predicted = info.pred_original_sample(first);
            first += pictures;
            if self.cancelled.contains(&drawn.job.id) {
                continue;
            }
            let preview = self.loaded.preview.jpeg(&self.loaded.pipeline, self.shape, &predicted);
            self.server.queue.step(StepEvent {
                id: drawn.job.id,
                step: info.done,
                steps: info.total,
                sigma,
                eta_seconds: Some(eta),
                preview: preview
                    .as_ref()
                    .map(|jpeg| format!("data:image/jpeg;base64,{}", base64::encode(jpeg))),
            });
            steps.push(ExplainedStep { timestep, sigma, preview });
        }
    }

    /// How the run is to end, if it is.
    fn end(&mut self) -> Option<Interrupt> {
        if self.server.is_ending() {
            return Some(Interrupt::Discard);
        }
        if let [(drawn, _)] = self.jobs[..] {
            return match drawn.interrupt.load() {
                InterruptKind::GoOn => None,
                InterruptKind::Cancel => Some(Interrupt::Discard),
                InterruptKind::Stop | InterruptKind::Skip => Some(Interrupt::Decode),
            };
        }
        // One of several is settled at once, and the others go on.
        for (drawn, _) in &self.jobs {
            if drawn.interrupt.load() == InterruptKind::Cancel && !self.cancelled.contains(&drawn.job.id) {
                settle(self.server, &mut drawn.job.clone(), Err(Error::Interrupted));
                self.cancelled.push(drawn.job.id);
            }
        }
        let left = self.jobs.iter().filter(|(drawn, _)| !self.cancelled.contains(&drawn.job.id));
        let interrupts: Vec<InterruptKind> = left.map(|(drawn, _)| drawn.interrupt.load()).collect();
        match interrupts.iter().all(|&interrupt| interrupt != InterruptKind::GoOn) {
            true if interrupts.is_empty() => Some(Interrupt::Discard),
            true => Some(Interrupt::Decode),
            false => None,
        }
    }
}

impl Callbacks for JobCallbacks<'_> {
    fn progress(&mut self, _event: Progress) {}

    fn on_run_start(&mut self, info: &RunInfo) -> Result<(), Error> {
        self.begun = Instant::now();
        let Some(run) = &mut self.run else { return Ok(()) };
        if run.checkpoint.begin(info).is_err() {
            // It was made by another version or in another precision: the run begins anew.
            (run.checkpoint, run.known) = (RunCheckpoint::new(&run.parameters), 0);
            run.checkpoint.begin(info)?;
        }
        Ok(())
    }

    fn known_output(&mut self, step: usize) -> Option<Vec<f32>> {
        self.run.as_ref()?.checkpoint.output(step)
    }

    fn on_step_end(&mut self, info: &StepInfo<'_>) -> Result<ControlFlow<Interrupt>, Error> {
        if let Some(run) = &mut self.run {
            run.checkpoint.record(info)?;
        }
        count(&self.server.metrics.steps);
        (self.denoised, self.done) = (Some(Instant::now()), [info.done, info.total]);
        self.shape = info.shape();
        self.tell(info);
        match self.end() {
            Some(interrupt) if info.done < info.total => Ok(ControlFlow::Break(interrupt)),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    fn on_image(&mut self, _index: usize, latents: &[f32], picture: &Image) {
        self.loaded.preview.learn(self.shape, latents, picture);
    }
}
