//! `POST /v1/images/generations`: pictures from a text.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::answer::{ImagesResponse, translate};
use crate::serve::error::{ApiError, ApiResult};
use crate::serve::extract::{Json, blocking};
use crate::serve::forms::OpenAiError;
use crate::serve::job::Kind;
use crate::serve::server::Server;
use crate::serve::wait;

/// What is to be made; for the description of the interface.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "the fields are read by name, with those of A1111")]
pub(crate) struct GenerationRequest {
    /// What the picture should show.
    prompt: String,
    /// A name of `/v1/models`.
    model: Option<String>,
    /// Pictures.
    #[schema(minimum = 1, maximum = 10)]
    n: Option<u64>,
    /// `auto`, or as `512x512`.
    size: Option<String>,
    /// `url` or `b64_json`.
    response_format: Option<String>,
    /// `png`, `jpeg` or `webp`.
    output_format: Option<String>,
}

/// Makes pictures from a text.
#[utoipa::path(post, path = "/v1/images/generations", tag = "openai", request_body = GenerationRequest, responses(
    (status = 200, body = ImagesResponse), (status = 400, body = OpenAiError), (status = 413, body = OpenAiError),
    (status = 415, body = OpenAiError), (status = 429, body = OpenAiError), (status = 503, body = OpenAiError)))]
pub(crate) async fn generations(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Json(mut fields): Json<Map<String, Value>>,
) -> ApiResult<axum::Json<ImagesResponse>> {
    if fields.get("prompt").is_none_or(|prompt| !prompt.is_string()) {
        return Err(ApiError::field("prompt", "`prompt` is missing; expected a text"));
    }
    let translator = Arc::clone(&server);
    let (wanted, fields) =
        blocking(move || translate(&translator, &mut fields).map(|wanted| (wanted, fields))).await?;
    let (job, pictures) = wait::draw(&server, Kind::Txt2img, fields).await?;
    let host = host(&headers);
    blocking(move || wanted.answer(&job, pictures, &host)).await.map(axum::Json)
}

/// The name under which the client reached this server.
pub(super) fn host(headers: &HeaderMap) -> String {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned()
}
