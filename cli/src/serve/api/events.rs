//! What happens to jobs, as server-sent events.
//!
//! | event | data |
//! |---|---|
//! | `job` | the job, when its state or its pictures have changed |
//! | `step` | a step of it: how many, the noise level, the time left, a preview |
//! | `removed` | its number, when it was removed from the history |

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::serve::api::jobs::find;
use crate::serve::error::{ApiResult, ErrorBody};
use crate::serve::events::{Event, StepEvent};
use crate::serve::extract::{Path, blocking};
use crate::serve::job::Job;
use crate::serve::server::Server;

/// How often a listener finds out that the server ends.
const PATIENCE: Duration = Duration::from_millis(200);

/// The events of all jobs.
#[utoipa::path(get, path = "/api/events", tag = "jobs", responses(
    (status = 200, content_type = "text/event-stream", body = String, description = "`job`, `step` and `removed`.")))]
pub(crate) async fn of_all(State(server): State<Arc<Server>>) -> Sse<impl Stream<Item = Sent>> {
    let receiver = server.queue.events.subscribe();
    Sse::new(events(server, receiver, None)).keep_alive(KeepAlive::default())
}

/// The events of a job, first of all the job as it is; the stream ends with the job.
#[utoipa::path(get, path = "/api/jobs/{id}/events", tag = "jobs", params(("id" = u64, Path)), responses(
    (status = 200, content_type = "text/event-stream", body = StepEvent, description = "`job`, `step` and `removed`."),
    (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn of_job(
    State(server): State<Arc<Server>>,
    Path(id): Path<u64>,
) -> ApiResult<Sse<impl Stream<Item = Sent>>> {
    let receiver = server.queue.events.subscribe();
    let finder = Arc::clone(&server);
    let job = blocking(move || find(&finder, id)).await?;
    Ok(Sse::new(events(server, receiver, Some(job))).keep_alive(KeepAlive::default()))
}

type Sent = Result<sse::Event, Infallible>;

/// Where a stream is.
struct Listener {
    server: Arc<Server>,
    receiver: Receiver<Event>,
    /// The job that is listened to, if it is one.
    only: Option<u64>,
    /// What is sent before anything has happened.
    first: Option<Job>,
    ended: bool,
}

fn events(server: Arc<Server>, receiver: Receiver<Event>, job: Option<Job>) -> impl Stream<Item = Sent> {
    let listener =
        Listener { server, receiver, only: job.as_ref().map(|job| job.id), first: job, ended: false };
    stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        if let (Some(_), Event::Job(job)) = (listener.only, &event) {
            listener.ended = job.state.is_final();
        }
        Some((Ok(encoded(&event)), listener))
    })
}

impl Listener {
    /// The next event; `None` when there will be none any more.
    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        if let Some(job) = self.first.take() {
            return Some(Event::Job(Box::new(job)));
        }
        loop {
            if self.server.is_ending() {
                return None;
            }
            match tokio::time::timeout(PATIENCE, self.receiver.recv()).await {
                // Nothing happened, or more than this listener could follow: who needs all of it
                // asks for the jobs.
                Err(_) | Ok(Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Ok(event)) if self.only.is_none_or(|id| id == event.id()) => return Some(event),
                Ok(Ok(_)) => {}
            }
        }
    }
}

/// An event as it is sent.
fn encoded(event: &Event) -> sse::Event {
    let (name, data) = match event {
        Event::Job(job) => ("job", json!(job)),
        Event::Step(step) => ("step", json!(step)),
        Event::Removed(id) => ("removed", json!({ "id": id })),
    };
    sse::Event::default().event(name).data(data.to_string())
}
