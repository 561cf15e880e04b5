//! Jobs: to queue, to list, to look at, to cancel.

use std::fs;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::serve::accept;
use crate::serve::error::{ApiError, ApiResult, ErrorBody};
use crate::serve::events::Event;
use crate::serve::extract::{Json, Path, Query, blocking};
use crate::serve::fields::Fields;
use crate::serve::job::{Job, Kind};
use crate::serve::metrics::count;
use crate::serve::server::Server;

/// Jobs of an answer, unless it is said.
const LIMIT: usize = 50;

/// The most jobs of an answer.
const MOST: usize = 500;

/// What is to be made.
#[derive(Deserialize, ToSchema)]
pub(crate) struct JobRequest {
    /// From what.
    pub(crate) kind: Kind,
    /// How, with the field names of A1111's API.
    #[schema(value_type = Fields)]
    pub(crate) request: Map<String, Value>,
}

/// A job that was accepted.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    id: u64,
}

/// Which jobs.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Which {
    /// At most this many.
    #[param(maximum = 500)]
    limit: Option<usize>,
    /// Those before this one.
    before: Option<u64>,
}

/// Queues a job.
#[utoipa::path(post, path = "/api/jobs", tag = "jobs", request_body = JobRequest, responses(
    (status = 202, body = Accepted),
    (status = 400, body = ErrorBody),
    (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody, description = "The request cannot be met."),
    (status = 429, body = ErrorBody, description = "The queue is full; Retry-After says when to ask again.")))]
pub(crate) async fn submit(
    State(server): State<Arc<Server>>,
    Json(JobRequest { kind, request }): Json<JobRequest>,
) -> ApiResult<(StatusCode, axum::Json<Accepted>)> {
    let accepted = blocking(move || -> ApiResult<_> {
        let new = accept::check(&server, kind, request)?;
        let (job, _) = server.queue.submit(new)?;
        count(&server.metrics.accepted);
        Ok(job.id)
    });
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { id: accepted.await? })))
}

/// Jobs, newest first.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(Which), responses(
    (status = 200, body = [Job]), (status = 400, body = ErrorBody)))]
pub(crate) async fn list(
    State(server): State<Arc<Server>>,
    Query(Which { limit, before }): Query<Which>,
) -> ApiResult<axum::Json<Vec<Job>>> {
    let jobs = blocking(move || -> ApiResult<_> {
        let live = server.queue.all_live();
        let mut jobs = server.queue.journal.newest(before, limit.unwrap_or(LIMIT).min(MOST))?;
        for job in &mut jobs {
            if let Some(known) = live.iter().find(|known| known.id == job.id) {
                job.clone_from(known);
            }
        }
        Ok(jobs)
    });
    jobs.await.map(axum::Json)
}

/// A job.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = u64, Path)), responses(
    (status = 200, body = Job), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    Path(id): Path<u64>,
) -> ApiResult<axum::Json<Job>> {
    blocking(move || find(&server, id)).await.map(axum::Json)
}

/// Cancels a job that is not finished, which then ends within a step; removes one that is finished
/// from the history, with its pictures.
#[utoipa::path(delete, path = "/api/jobs/{id}", tag = "jobs", params(("id" = u64, Path)), responses(
    (status = 204), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn remove(State(server): State<Arc<Server>>, Path(id): Path<u64>) -> ApiResult<StatusCode> {
    let removed = blocking(move || -> ApiResult<_> {
        if server.queue.cancel(id)?.is_some() {
            return Ok(());
        }
        let job = find(&server, id)?;
        server.queue.journal.remove(id)?; // first, so that no job names a picture that is gone
        for index in 0..job.images.len() {
            let _ = fs::remove_file(server.picture(id, index)); // who deleted it by hand is not to be bothered
        }
        server.queue.events.send(Event::Removed(id));
        Ok(())
    });
    removed.await.map(|()| StatusCode::NO_CONTENT)
}

/// A job, or 404.
pub(crate) fn find(server: &Server, id: u64) -> ApiResult<Job> {
    server.job(id)?.ok_or_else(|| ApiError::not_found(format_args!("there is no job {id}")))
}
