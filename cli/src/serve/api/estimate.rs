//! What a request will cost, before it is made.

use std::sync::Arc;

use aquatint_model::Task;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::accept;
use crate::serve::api::jobs::JobRequest;
use crate::serve::error::{ApiResult, ErrorBody};
use crate::serve::extract::{Json, blocking};
use crate::serve::job::Input;
use crate::serve::server::Server;

/// What a request will cost.
#[derive(Serialize, ToSchema)]
pub(crate) struct Estimate {
    /// Seconds from its beginning to its last picture; null before anything was drawn.
    seconds: Option<f64>,
    /// Memory at most, weights and all.
    bytes: u64,
    /// What one should know before: a sentence each.
    warnings: Vec<String>,
}

/// What a request will cost. Its pictures may be left out.
#[utoipa::path(post, path = "/api/estimate", tag = "api", request_body = JobRequest, responses(
    (status = 200, body = Estimate), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn estimate(
    State(server): State<Arc<Server>>,
    Json(JobRequest { kind, mut request }): Json<JobRequest>,
) -> ApiResult<axum::Json<Estimate>> {
    let estimate = blocking(move || -> ApiResult<_> {
        Input::ALL.into_iter().for_each(|input| drop(request.shift_remove(input.field())));
        let read = accept::read(kind, &request, Vec::new())?;
        let loaded = server.models.current();
        let text = read.text(&loaded)?;
        loaded.pipeline.check(&text)?;
        let mut warnings = Vec::new();
        let texts = loaded.pipeline.prompt_tokens(&text)?;
        for (name, tokens) in ["prompt", "negative prompt"].into_iter().zip(&texts) {
            if let Some(cut) = &tokens.cut {
                warnings.push(format!("the {name} is too long; this end of it is not read: {cut}"));
            }
        }
        let bytes = loaded.footprint.bytes(&text, read.together);
        let task = Task::TextToImage(text.clone());
        if let Err(refused) = accept::check_size(&server, &loaded, &task, read.together) {
            warnings.push(refused.message);
        }
        let steps = text.steps as f64 * read.strength().unwrap_or(1.0);
        let pixels = (text.width * text.height * read.count) as f64;
        let seconds = server.speed.seconds(&loaded.name, pixels, steps);
        Ok(Estimate { seconds, bytes, warnings })
    });
    estimate.await.map(axum::Json)
}
