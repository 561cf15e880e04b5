//! `progress`, `interrupt`, `skip`: what is being made, for clients that ask again and again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::serve::error::ApiResult;
use crate::serve::extract::Query;
use crate::serve::forms::A1111Error;
use crate::serve::queue::InterruptKind;
use crate::serve::server::Server;

/// What is being made.
#[derive(Serialize, ToSchema)]
pub(crate) struct Progress {
    /// From 0 to 1.
    progress: f64,
    /// Seconds that are left.
    eta_relative: f64,
    state: ProgressState,
    /// The predicted picture: a small JPEG in base64.
    current_image: Option<String>,
    textinfo: Option<String>,
}

/// A1111's own state.
#[derive(Serialize, ToSchema)]
struct ProgressState {
    skipped: bool,
    interrupted: bool,
    stopping_generation: bool,
    job: String,
    /// Jobs that are drawn or wait.
    job_count: usize,
    job_timestamp: String,
    job_no: usize,
    sampling_step: usize,
    sampling_steps: usize,
}

/// What is left out.
#[derive(Deserialize, IntoParams)]
pub(crate) struct Left {
    /// Whether the picture is left out.
    #[serde(default)]
    skip_current_image: bool,
}

/// What is being made.
#[utoipa::path(get, path = "/sdapi/v1/progress", tag = "a1111", params(Left), responses(
    (status = 200, body = Progress), (status = 400, body = A1111Error)))]
pub(crate) async fn progress(
    State(server): State<Arc<Server>>,
    Query(Left { skip_current_image }): Query<Left>,
) -> ApiResult<Json<Progress>> {
    let running = server.queue.running();
    let job_count = running.len() + server.queue.waiting();
    let (job, last) = running.into_iter().next().unzip();
    let of_pictures = job.as_ref().map_or(0.0, |job| {
        let this = if job.steps > 0 { job.step as f64 / job.steps as f64 } else { 0.0 };
        ((job.images.len() as f64 + this) / job.count.max(1) as f64).min(1.0)
    });
    let preview = last.flatten().and_then(|step| step.preview).filter(|_| !skip_current_image);
    Ok(Json(Progress {
        progress: of_pictures,
        eta_relative: job.as_ref().and_then(|job| job.eta_seconds).unwrap_or(0.0),
        state: ProgressState {
            skipped: false,
            interrupted: false,
            stopping_generation: false,
            job: job.as_ref().map(|job| format!("task({})", job.id)).unwrap_or_default(),
            job_count,
            job_timestamp: job.as_ref().and_then(|job| job.started.clone()).unwrap_or_else(|| "0".into()),
            job_no: job.as_ref().map_or(0, |job| job.images.len()),
            sampling_step: job.as_ref().map_or(0, |job| job.step),
            sampling_steps: job.as_ref().map_or(0, |job| job.steps),
        },
        current_image: preview.and_then(|url| Some(url.split_once(',')?.1.to_owned())),
        textinfo: None,
    }))
}

/// Ends the job that is being made after this step; its picture is what is predicted then.
#[utoipa::path(post, path = "/sdapi/v1/interrupt", tag = "a1111", responses((status = 200, body = Value)))]
pub(crate) async fn interrupt(State(server): State<Arc<Server>>) -> Json<Value> {
    server.queue.interrupt(InterruptKind::Stop);
    Json(json!({}))
}

/// Ends the picture that is being made after this step, and goes on with the next of the job.
#[utoipa::path(post, path = "/sdapi/v1/skip", tag = "a1111", responses((status = 200, body = Value)))]
pub(crate) async fn skip(State(server): State<Arc<Server>>) -> Json<Value> {
    server.queue.interrupt(InterruptKind::Skip);
    Json(json!({}))
}
