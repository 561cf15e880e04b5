//! Requests that are answered when their pictures are there.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use crate::serve::accept;
use crate::serve::api::images;
use crate::serve::error::{ApiError, ApiResult};
use crate::serve::extract::blocking;
use crate::serve::job::{Job, Kind, State};
use crate::serve::metrics::count;
use crate::serve::server::Server;

/// Queues a job, waits for its end, and reads its pictures. A job that was cancelled by others has
/// the pictures that were there.
///
/// # Errors
/// If it is refused, fails, or is not finished when the server ends; the next process then finishes
/// it.
pub(crate) async fn draw(
    server: &Arc<Server>,
    kind: Kind,
    fields: Map<String, Value>,
) -> ApiResult<(Job, Vec<Vec<u8>>)> {
    let queued = {
        let server = Arc::clone(server);
        blocking(move || -> ApiResult<_> {
            let queued = server.queue.submit(accept::check(&server, kind, fields)?)?;
            count(&server.metrics.accepted);
            Ok(queued)
        })
    };
    let (job, mut ended) = queued.await?;
    let _ = ended.wait_for(|ended| *ended).await; // an error means the same
    let server = Arc::clone(server);
    let finished = blocking(move || -> ApiResult<_> {
        let id = job.id;
        let job = server.job(id)?.ok_or_else(|| ApiError::not_found(format_args!("job {id} was removed")))?;
        match job.state {
            State::Done | State::Cancelled => {}
            State::Failed => {
                let message = job.error.as_deref().unwrap_or("the job failed");
                return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message));
            }
            State::Queued | State::Running => {
                return Err(ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format_args!("the server is ending; it makes job {id} when it is started again"),
                ));
            }
        }
        let picture = |index| {
            let bytes = images::open(&server.picture(id, index))?;
            bytes.ok_or_else(|| ApiError::not_found(format_args!("picture {index} of job {id} was removed")))
        };
        let pictures = (0..job.images.len()).map(picture).collect::<ApiResult<_>>()?;
        Ok((job, pictures))
    });
    finished.await
}
