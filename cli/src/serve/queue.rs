//! The queue: jobs that wait, jobs that are drawn, and who waits for them.
//!
//! ```text
//! submit   journal first, then the line; refused if the line is full
//! take     the first job, and those behind it that can be drawn together with it
//! update   what has become of a job: to the journal, to listeners
//! cancel   a waiting job leaves the line; a running one ends after its step
//! ```
//!
//! One lock guards the line. It is never held while the disk is written, so that routes answer
//! within moments while the worker draws.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use aquatint_model::Error;
use aquatint_model::generate::Likeness;
use tokio::sync::{oneshot, watch};

use crate::serve::events::{Event, Events, StepEvent};
use crate::serve::job::{Job, State, now};
use crate::serve::journal::{Inputs, Journal};

/// Jobs in the line and on the easel.
pub(crate) struct Queue {
    line: Mutex<Line>,
    changed: Condvar,
    pub(crate) journal: Journal,
    pub(crate) events: Events,
    /// Jobs that may wait.
    most: usize,
}

struct Line {
    waiting: VecDeque<Entry>,
    running: Vec<Entry>,
    /// Jobs that are being written into the journal, and will wait then.
    arriving: usize,
    /// A model that is to be loaded, and who waits for it.
    load: Option<(Option<String>, Answer)>,
    next: u64,
    /// Whether the server is ending.
    closed: bool,
    /// Seconds that a job took, lately.
    seconds: f64,
}

impl Line {
    /// The first job, and those that wait and can be drawn together with it.
    fn with_like_ones(&mut self, first: Entry, most: usize) -> Vec<Entry> {
        let mut pictures = first.job.count;
        let mut taken = vec![first];
        let mut i = 0;
        while i < self.waiting.len() {
            let (first, other) = (&taken[0], &self.waiting[i]);
            let alike = first.likeness.is_some()
                && first.likeness == other.likeness
                && first.job.model == other.job.model
                && pictures + other.job.count <= most;
            if alike {
                pictures += other.job.count;
                taken.extend(self.waiting.remove(i));
            } else {
                i += 1;
            }
        }
        taken
    }
}

/// A job that is not finished.
struct Entry {
    job: Job,
    interrupt: Arc<SharedInterrupt>,
    /// Equal for jobs that can be drawn together; `None` for those that are drawn alone.
    likeness: Option<Likeness>,
    /// The last step of the run, for who comes later.
    last: Option<StepEvent>,
    /// Becomes true when the job is finished, or the server ends.
    ended: watch::Sender<bool>,
}

/// Where the worker says how loading a model went.
type Answer = oneshot::Sender<Result<(), Error>>;

/// What the worker has to do.
pub(crate) enum Work {
    /// Load this model, or free the weights of the one that is loaded, and say how that went.
    Load(Option<String>, Answer),
    /// Draw these: one, or several that are alike.
    Draw(Vec<Drawn>),
}

/// A job for the worker.
pub(crate) struct Drawn {
    pub(crate) job: Job,
    pub(crate) interrupt: Arc<SharedInterrupt>,
}

/// How somebody wants a running job to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum InterruptKind {
    /// Not before its end.
    GoOn,
    /// After this step, without a picture.
    Cancel,
    /// After this step, with the picture as it is predicted now, and no further ones.
    Stop,
    /// The same, but the further ones are made.
    Skip,
}

/// An interrupt that a route writes and the worker reads.
pub(crate) struct SharedInterrupt(AtomicU8);

impl SharedInterrupt {
    pub(crate) fn load(&self) -> InterruptKind {
        let interrupts =
            [InterruptKind::GoOn, InterruptKind::Cancel, InterruptKind::Stop, InterruptKind::Skip];
        let found = self.0.load(Ordering::Relaxed);
        interrupts.into_iter().find(|&interrupt| interrupt as u8 == found).unwrap_or(InterruptKind::GoOn)
    }

    pub(crate) fn store(&self, interrupt: InterruptKind) {
        self.0.store(interrupt as u8, Ordering::Relaxed);
    }
}

/// Why a job is not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The line is full; try again after as many seconds.
    Full(u64),
    /// The server is ending.
    Closed,
    /// The journal cannot be written.
    Failed(Error),
}

/// A job that is to be queued.
pub(crate) struct NewJob {
    /// Its number and dates are filled in.
    pub(crate) job: Job,
    pub(crate) inputs: Inputs,
    pub(crate) likeness: Option<Likeness>,
}

/// Seconds that a job is taken to last before one was drawn.
const FIRST_GUESS: f64 = 5.0;

impl Queue {
    /// The queue of a journal, with the jobs that it holds unfinished.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn new(
        journal: Journal,
        most: usize,
        likeness: impl Fn(&Job) -> Option<Likeness>,
    ) -> Result<Self, Error> {
        let (unfinished, next) = journal.unfinished()?;
        let entry = |mut job: Job| {
            (job.state, job.started, job.step, job.eta_seconds) = (State::Queued, None, 0, None);
            let likeness = likeness(&job);
            Entry::new(job, likeness).0
        };
        let line = Line {
            waiting: unfinished.into_iter().map(entry).collect(),
            running: Vec::new(),
            arriving: 0,
            load: None,
            next,
            closed: false,
            seconds: FIRST_GUESS,
        };
        Ok(Self { line: Mutex::new(line), changed: Condvar::new(), journal, events: Events::new(), most })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a job. Returns it with its number, and what becomes true at its end.
    ///
    /// # Errors
    /// If it is not taken; nothing is left of it then.
    pub(crate) fn submit(&self, new: NewJob) -> Result<(Job, watch::Receiver<bool>), Refusal> {
        let NewJob { mut job, inputs, likeness } = new;
        let mut line = self.line();
        if line.closed {
            return Err(Refusal::Closed);
        }
        if line.waiting.len() + line.arriving >= self.most {
            let seconds = (line.seconds * line.waiting.len() as f64).ceil();
            return Err(Refusal::Full(seconds.clamp(1.0, 3600.0) as u64));
        }
        (job.id, job.created) = (line.next, now());
        line.next += 1;
        line.arriving += 1;
        drop(line);
        for (input, _) in &inputs {
            job.request.insert(input.field().into(), input.reference(job.id));
        }
        let written = self.journal.insert(&job, &inputs);
        let mut line = self.line();
        line.arriving -= 1;
        written.map_err(Refusal::Failed)?;
        job.position = Some(line.waiting.len());
        let (entry, ended) = Entry::new(job.clone(), likeness);
        if line.closed {
            entry.ended.send_replace(true); // the next process draws it
        }
        line.waiting.push_back(entry);
        drop(line);
        self.changed.notify_all();
        self.events.send(Event::Job(Box::new(job.clone())));
        Ok((job, ended))
    }

    /// Asks the worker for a model, or to free the weights of the one that is loaded; the answer
    /// comes when that is done.
    pub(crate) fn load(&self, name: Option<String>) -> oneshot::Receiver<Result<(), Error>> {
        let (sender, receiver) = oneshot::channel();
        self.line().load = Some((name, sender));
        self.changed.notify_all();
        receiver
    }

    /// Waits for work. `None` when the server ends.
    ///
    /// Of the jobs behind the first those are taken with it that are like it, as long as they are
    /// no more than `most` pictures in all.
    pub(crate) fn take(&self, most: usize) -> Option<Work> {
        let mut line = self.line();
        loop {
            if line.closed {
                return None;
            }
            if let Some((name, sender)) = line.load.take() {
                return Some(Work::Load(name, sender));
            }
            if let Some(first) = line.waiting.pop_front() {
                line.running = line.with_like_ones(first, most);
                let drawn = line.running.iter_mut().map(|entry| {
                    let job = &mut entry.job;
                    (job.state, job.started, job.position) = (State::Running, Some(now()), None);
                    Drawn { job: job.clone(), interrupt: Arc::clone(&entry.interrupt) }
                });
                let drawn: Vec<_> = drawn.collect();
                for Drawn { job, .. } in &drawn {
                    self.events.send(Event::Job(Box::new(job.clone())));
                }
                return Some(Work::Draw(drawn));
            }
            line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A step of a running job was taken.
    pub(crate) fn step(&self, step: StepEvent) {
        let mut line = self.line();
        if let Some(entry) = line.running.iter_mut().find(|entry| entry.job.id == step.id) {
            let job = &mut entry.job;
            (job.step, job.steps, job.eta_seconds) = (step.step, step.steps, step.eta_seconds);
            entry.last = Some(step.clone());
        }
        drop(line);
        self.events.send(Event::Step(step));
    }

    /// Something has become of a running job: pictures, or its end. It is on the disk when the call
    /// returns.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(crate) fn update(&self, job: &Job) -> Result<(), Error> {
        self.journal.update(job)?;
        self.settle(job);
        Ok(())
    }

    /// The same without the journal, which cannot be written any more.
    pub(crate) fn settle(&self, job: &Job) {
        let mut line = self.line();
        if let Some(at) = line.running.iter().position(|entry| entry.job.id == job.id) {
            line.running[at].job.clone_from(job);
            if job.state.is_final() {
                line.running.remove(at).ended.send_replace(true);
            }
        }
        drop(line);
        self.events.send(Event::Job(Box::new(job.clone())));
    }

    /// Takes note of how long a job took.
    pub(crate) fn took(&self, seconds: f64) {
        let mut line = self.line();
        line.seconds = 0.7 * line.seconds + 0.3 * seconds;
    }

    /// Cancels a job. Returns what is known of it, `None` if it is not to be made any more.
    ///
    /// # Errors
    /// If the journal cannot be written.
    pub(crate) fn cancel(&self, id: u64) -> Result<Option<Job>, Error> {
        let mut line = self.line();
        if let Some(entry) = line.running.iter().find(|entry| entry.job.id == id) {
            entry.interrupt.store(InterruptKind::Cancel);
            return Ok(Some(entry.job.clone()));
        }
        let at = line.waiting.iter().position(|entry| entry.job.id == id);
        let Some(entry) = at.and_then(|at| line.waiting.remove(at)) else { return Ok(None) };
        drop(line);
        let Entry { mut job, ended, .. } = entry;
        (job.state, job.finished, job.position) = (State::Cancelled, Some(now()), None);
        self.journal.update(&job)?;
        ended.send_replace(true);
        self.events.send(Event::Job(Box::new(job.clone())));
        Ok(Some(job))
    }

    /// Interrupts what is running.
    pub(crate) fn interrupt(&self, interrupt: InterruptKind) {
        self.line().running.iter().for_each(|entry| entry.interrupt.store(interrupt));
    }

    /// A job that is not finished.
    pub(crate) fn live(&self, id: u64) -> Option<Job> {
        let line = self.line();
        let running = line.running.iter().find(|entry| entry.job.id == id);
        if let Some(entry) = running {
            return Some(entry.job.clone());
        }
        let position = line.waiting.iter().position(|entry| entry.job.id == id)?;
        Some(Job { position: Some(position), ..line.waiting[position].job.clone() })
    }

    /// All of them, as they are drawn.
    pub(crate) fn all_live(&self) -> Vec<Job> {
        let line = self.line();
        let waiting = line.waiting.iter().enumerate();
        let waiting = waiting.map(|(i, entry)| Job { position: Some(i), ..entry.job.clone() });
        line.running.iter().map(|entry| entry.job.clone()).chain(waiting).collect()
    }

    /// What is running, and its last step.
    pub(crate) fn running(&self) -> Vec<(Job, Option<StepEvent>)> {
        self.line().running.iter().map(|entry| (entry.job.clone(), entry.last.clone())).collect()
    }

    /// Jobs that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.line().waiting.len()
    }

    /// Takes nothing more, and sends everybody away who waits.
    pub(crate) fn close(&self) {
        let mut line = self.line();
        line.closed = true;
        line.load = None;
        for entry in line.waiting.iter().chain(&line.running) {
            entry.ended.send_replace(true);
        }
        drop(line);
        self.changed.notify_all();
    }
}

impl Entry {
    fn new(job: Job, likeness: Option<Likeness>) -> (Self, watch::Receiver<bool>) {
        let (sender, receiver) = watch::channel(false);
        let interrupt = Arc::new(SharedInterrupt(AtomicU8::new(InterruptKind::GoOn as u8)));
        (Self { job, interrupt, likeness, last: None, ended: sender }, receiver)
    }
}
