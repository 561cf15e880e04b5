//! What happens to jobs, for everybody who listens: server-sent events, and requests that wait.

use serde::Serialize;
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::serve::job::Job;

/// Events that a listener may be behind before it misses some.
const BACKLOG: usize = 256;

/// Something happened to a job.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// It has another state, or another picture.
    Job(Box<Job>),
    /// A step was taken.
    Step(StepEvent),
    /// It was removed from the history.
    Removed(u64),
}

/// A step of a job.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StepEvent {
    /// The job.
    pub(crate) id: u64,
    /// Steps done.
    pub(crate) step: usize,
    /// Steps in all.
    pub(crate) steps: usize,
    /// The noise level from which this step began: noise over signal.
    pub(crate) sigma: f32,
    /// Seconds until the last picture is there.
    pub(crate) eta_seconds: Option<f64>,
    /// The predicted picture, a small one, as a data URL.
    pub(crate) preview: Option<String>,
}

impl Event {
    /// The job.
    pub(crate) fn id(&self) -> u64 {
        match self {
            Self::Job(job) => job.id,
            Self::Step(step) => step.id,
            Self::Removed(id) => *id,
        }
    }
}

/// The channel of events.
#[derive(Clone)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }

    /// Tells everybody.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.0.send(event); // an error means that there is no listener
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}
