//! How a picture came about: its tokens, and what the UNet predicted at each step.

use std::sync::Arc;

use aquatint_model::generate::PromptTokens;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::accept;
use crate::serve::api::jobs::find;
use crate::serve::error::{ApiError, ApiResult, ErrorBody};
use crate::serve::extract::{Path, blocking};
use crate::serve::server::{ExplainedStep, Server};

/// How a picture came about.
#[derive(Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// What the text encoder saw.
    tokens: Vec<TokenInfo>,
    /// The same of the negative prompt.
    negative_tokens: Vec<TokenInfo>,
    steps: Vec<StepInfo>,
}

/// A token.
#[derive(Serialize, ToSchema)]
struct TokenInfo {
    id: u32,
    text: String,
    /// How much it counts.
    weight: f32,
}

/// A step.
#[derive(Serialize, ToSchema)]
struct StepInfo {
    /// From 1.
    step: usize,
    /// At which timestep the UNet was asked.
    timestep: f32,
    /// Noise over signal before the step.
    sigma: f32,
    /// The predicted picture, a small one.
    preview_url: Option<String>,
}

/// How the last pictures of a job came about; kept for the last few jobs.
#[utoipa::path(get, path = "/api/jobs/{id}/explain", tag = "jobs", params(("id" = u64, Path)), responses(
    (status = 200, body = Explanation), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn explain(
    State(server): State<Arc<Server>>,
    Path(id): Path<u64>,
) -> ApiResult<axum::Json<Explanation>> {
    let explanation = blocking(move || -> ApiResult<_> {
        let job = find(&server, id)?;
        let steps = remembered(&server, id)?;
        let loaded = server.models.current();
        if loaded.name != job.model {
            return Err(ApiError::not_found(format_args!(
                "the model `{}` is not loaded any more",
                job.model
            )));
        }
        let read = accept::read(job.kind, &job.request, Vec::new())?;
        let [tokens, negative_tokens] =
            loaded.pipeline.prompt_tokens(&read.text(&loaded)?)?.map(|PromptTokens { tokens, .. }| {
                let info = |token: aquatint_model::generate::Token| TokenInfo {
                    id: token.id,
                    text: shown(&token.text),
                    weight: token.weight,
                };
                tokens.into_iter().map(info).collect()
            });
        let steps = steps.into_iter().enumerate().map(|(i, step)| StepInfo {
            step: i + 1,
            timestep: step.timestep,
            sigma: step.sigma,
            preview_url: step.preview.map(|_| format!("/api/jobs/{id}/steps/{i}.jpg")),
        });
        Ok(Explanation { tokens, negative_tokens, steps: steps.collect() })
    });
    explanation.await.map(axum::Json)
}

/// The predicted picture of a step, from `0.jpg`.
#[utoipa::path(get, path = "/api/jobs/{id}/steps/{file}", tag = "jobs",
    params(("id" = u64, Path), ("file" = String, Path)),
    responses((status = 200, content_type = "image/jpeg", body = Vec<u8>), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn preview(
    State(server): State<Arc<Server>>,
    Path((id, file)): Path<(u64, String)>,
) -> ApiResult<Response> {
    let index = file.strip_suffix(".jpg").and_then(|index| index.parse::<usize>().ok());
    let step = index.and_then(|index| remembered(&server, id).ok()?.into_iter().nth(index));
    let jpeg = step.and_then(|step| step.preview);
    let jpeg = jpeg.ok_or_else(|| ApiError::not_found(format_args!("job {id} has no such step any more")))?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], jpeg).into_response())
}

fn remembered(server: &Server, id: u64) -> ApiResult<Vec<ExplainedStep>> {
    let missing = || ApiError::not_found(format_args!("the steps of job {id} are not known any more"));
    server.explained(id).ok_or_else(missing)
}

/// A token as a reader may see it: `<|startoftext|>` is `<start>`, and no mark of a word's end.
fn shown(token: &str) -> String {
    match token {
        "<|startoftext|>" => "<start>".into(),
        "<|endoftext|>" => "<end>".into(),
        token => token.strip_suffix("</w>").unwrap_or(token).into(),
    }
}
