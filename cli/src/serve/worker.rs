//! The worker: the one thread that draws. It owns the cores; routes only look.
//!
//! ```text
//! one job        for each batch of its pictures: generate → save the files → journal
//! several alike  all their pictures in one batch; the same bits as alone
//! ```
//!
//! A picture's file is on the disk before the journal names it. When the server ends, the step is
//! finished, the run of a job is saved as a checkpoint beside the pictures, and the job stays in
//! the journal: the next process goes on from there to the same bits.

use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use aquatint_model::image::metadata::Parameters;
use aquatint_model::whole_file::write_whole;
use aquatint_model::{Error, ErrorKind, Image, RunCheckpoint, Task};

use crate::serve::accept::{self, MOST_TOGETHER, Read};
use crate::serve::callbacks::JobCallbacks;
use crate::serve::job::{Input, Job, JobImage};
use crate::serve::metrics::count;
use crate::serve::outcome::settle;
use crate::serve::queue::{Drawn, InterruptKind, Work};
use crate::serve::server::Server;

/// Draws until the server ends.
pub(crate) fn run(server: &Server) {
    while let Some(work) = server.queue.take(MOST_TOGETHER) {
        match work {
            Work::Load(model, answer) => {
                let loaded = match model {
                    Some(name) => server.models.switch(&name).map(drop),
                    None => server.models.unload(),
                };
                let _ = answer.send(loaded); // who asked may be gone
            }
            Work::Draw(drawn) => {
                let (start, jobs) = (Instant::now(), drawn.len());
                draw(server, &drawn);
                server.metrics.drew(start.elapsed());
                server.queue.took(start.elapsed().as_secs_f64() / jobs as f64);
            }
        }
    }
}

/// Draws jobs that are alike, or one.
fn draw(server: &Server, drawn: &[Drawn]) {
    let mut left: Vec<&Drawn> = drawn.iter().collect();
    if left.len() > 1 {
        let mut settled = Vec::new();
        let result = guarded(|| together(server, drawn, &mut settled));
        if result.is_err_and(|error| error.kind() == ErrorKind::Interrupted) && server.is_ending() {
            return; // the journal has them
        }
        // Where something failed, each is drawn alone: the fault of one is not that of the others.
        left.retain(|drawn| !settled.contains(&drawn.job.id));
    }
    for drawn in left {
        let mut job = drawn.job.clone();
        let result = guarded(|| alone(server, drawn, &mut job));
        settle(server, &mut job, result);
    }
}

/// A panic is a mistake of this program, or of one of the decoders in it; other jobs are drawn all
/// the same.
fn guarded(work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| {
        Err(Error::run("this program failed where it should not; please report the request"))
    })
}

/// Makes the pictures of a job that are not there yet.
fn alone(server: &Server, drawn: &Drawn, job: &mut Job) -> Result<(), Error> {
    let loaded = server.models.switch(&job.model)?;
    let read = read(server, job)?;
    let task = read.task(&loaded, job.seed)?;
    accept::check_size(server, &loaded, &task, read.together)
        .map_err(|refused| Error::request(refused.message))?;
    while job.images.len() < job.count {
        let first = job.images.len();
        let together = read.together.min(job.count - first);
        let mut task = task.clone();
        task.text_mut().seed = task.text().seed_of(first);
        let mut parameters = loaded.pipeline.task_parameters(&task)?;
        read.settings.describe(&mut parameters);
        let broken_off = broken_off(server, job.id, &parameters);
        let rest = (job.count - first - together).div_ceil(together);
        let jobs = vec![(drawn, together)];
        let mut callbacks = JobCallbacks::new(server, &loaded, jobs, rest).resuming(parameters, broken_off);
        let images = loaded.pipeline.generate(&task, together, &mut callbacks);
        callbacks.explain();
        [job.step, job.steps] = callbacks.done;
        if let (Err(error), true) = (&images, server.is_ending())
            && error.kind() == ErrorKind::Interrupted
        {
            callbacks.save(&server.run_checkpoint(job.id))?;
        }
        let images = images?;
        callbacks.measure(images.len() * task.text().width * task.text().height);
        for image in images {
            save(server, &read, job, image)?;
        }
        match drawn.interrupt.load() {
            InterruptKind::Stop => job.count = job.images.len(), // ended early, with what was there
            InterruptKind::Skip => drawn.interrupt.store(InterruptKind::GoOn),
            InterruptKind::GoOn | InterruptKind::Cancel => {}
        }
        server.queue.update(job)?;
    }
    Ok(())
}

/// Makes all pictures of several jobs in one batch; `settled` are those with which nothing is left
/// to do.
fn together(server: &Server, drawn: &[Drawn], settled: &mut Vec<u64>) -> Result<(), Error> {
    let loaded = server.models.switch(&drawn[0].job.model)?;
    let mut parts = Vec::new();
    for Drawn { job, .. } in drawn {
        let read = read(server, job)?;
        let task = read.task(&loaded, job.seed)?;
        parts.push((job.clone(), read, task));
    }
    let tasks: Vec<(&Task, usize)> = parts.iter().map(|(job, _, task)| (task, job.count)).collect();
    let jobs = drawn.iter().map(|drawn| (drawn, drawn.job.count)).collect();
    let mut callbacks = JobCallbacks::new(server, &loaded, jobs, 0);
    let images = loaded.pipeline.generate_together(&tasks, &mut callbacks);
    callbacks.explain();
    settled.append(&mut callbacks.cancelled);
    let done = callbacks.done;
    let images = images?;
    let text = parts[0].2.text();
    callbacks.measure(images.len() * text.width * text.height);
    let mut images = images.into_iter();
    for (mut job, read, _) in parts {
        let own: Vec<Image> = images.by_ref().take(job.count).collect();
        if settled.contains(&job.id) {
            continue;
        }
        [job.step, job.steps] = done;
        let saved = own.into_iter().try_for_each(|image| save(server, &read, &mut job, image));
        settle(server, &mut job, saved);
        settled.push(job.id);
    }
    Ok(())
}

/// The request of a job, with the pictures that came with it.
fn read(server: &Server, job: &Job) -> Result<Read, Error> {
    let mut inputs = Vec::new();
    for input in Input::ALL {
        if let Some(bytes) = server.queue.journal.input(job.id, input)? {
            inputs.push((input, bytes));
        }
    }
    accept::read(job.kind, &job.request, inputs)
}

/// The run that another process has broken off, if it was this one.
fn broken_off(server: &Server, id: u64, parameters: &Parameters) -> Option<RunCheckpoint> {
    let stored = RunCheckpoint::open(server.run_checkpoint(id)).ok();
    stored.filter(|run| run.check(parameters).is_ok())
}

/// Saves the next picture of a job; the journal is the caller's.
fn save(server: &Server, read: &Read, job: &mut Job, mut image: Image) -> Result<(), Error> {
    if let Some(parameters) = image.parameters_mut() {
        read.settings.describe(parameters);
    }
    let index = job.images.len();
    let infotext = image.parameters().map(Parameters::to_string).unwrap_or_default();
    write_whole(&server.picture(job.id, index), &image.to_png()?)?;
    count(&server.metrics.images);
    let seed = job.seed.wrapping_add(index as u64);
    job.images.push(JobImage::new(job.id, index, [image.width(), image.height()], seed, infotext));
    Ok(())
}
