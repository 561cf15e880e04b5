//! What all routes share.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aquatint_model::Error;
use serde_json::{Map, Value};

use crate::serve::job::Job;
use crate::serve::metrics::Metrics;
use crate::serve::model::Models;
use crate::serve::queue::Queue;
use crate::serve::security::Access;
use crate::serve::speed::Speed;

/// Jobs whose steps are remembered.
const EXPLAINED: usize = 8;

/// The server.
pub(crate) struct Server {
    pub(crate) models: Models,
    pub(crate) queue: Queue,
    pub(crate) access: Arc<Access>,
    pub(crate) metrics: Metrics,
    pub(crate) speed: Speed,
    /// Where pictures go.
    pub(crate) folder: PathBuf,
    /// The largest picture that is made.
    pub(crate) max_pixels: usize,
    pub(crate) started: Instant,
    /// What A1111's clients have set for all requests that are silent about it.
    options: Mutex<Map<String, Value>>,
    /// The steps of the last jobs.
    explained: Mutex<VecDeque<Explained>>,
    /// Whether somebody has asked it to end.
    ending: AtomicBool,
}

/// The steps of a job.
pub(crate) struct Explained {
    pub(crate) id: u64,
    pub(crate) steps: Vec<ExplainedStep>,
}

/// A step of a job.
#[derive(Clone)]
pub(crate) struct ExplainedStep {
    pub(crate) timestep: f32,
    pub(crate) sigma: f32,
    /// The predicted picture, a small JPEG.
    pub(crate) preview: Option<Vec<u8>>,
}

/// The file of a run that was broken off.
pub(crate) fn run_checkpoint(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id}.run"))
}

impl Server {
    pub(crate) fn new(
        models: Models,
        queue: Queue,
        access: Arc<Access>,
        folder: PathBuf,
        max_pixels: usize,
    ) -> Self {
        Self {
            models,
            queue,
            access,
            metrics: Metrics::default(),
            speed: Speed::default(),
            folder,
            max_pixels,
            started: Instant::now(),
            options: Mutex::default(),
            explained: Mutex::default(),
            ending: AtomicBool::new(false),
        }
    }

    /// The file of picture `index` of a job. Only numbers go into its name, so that no request
    /// leads out of the folder.
    pub(crate) fn picture(&self, id: u64, index: usize) -> PathBuf {
        self.folder.join(format!("{id}-{index}.png"))
    }

    /// The file of a run that was broken off.
    pub(crate) fn run_checkpoint(&self, id: u64) -> PathBuf {
        run_checkpoint(&self.folder, id)
    }

    /// A job, finished or not.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(crate) fn job(&self, id: u64) -> Result<Option<Job>, Error> {
        match self.queue.live(id) {
            Some(job) => Ok(Some(job)),
            None => self.queue.journal.get(id),
        }
    }

    /// What A1111's clients have set.
    pub(crate) fn options(&self) -> Map<String, Value> {
        self.options.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets it.
    pub(crate) fn set_options(&self, options: Map<String, Value>) {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// Remembers the steps of a job.
    pub(crate) fn explain(&self, explained: Explained) {
        let mut all = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.id != explained.id);
        all.push_back(explained);
        if all.len() > EXPLAINED {
            all.pop_front();
        }
    }

    /// The steps of a job, if they are remembered.
    pub(crate) fn explained(&self, id: u64) -> Option<Vec<ExplainedStep>> {
        let all = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|known| known.id == id).map(|known| known.steps.clone())
    }

    /// Asks it to end.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether it is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}
