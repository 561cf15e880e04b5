//! `GET /v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::error::ApiResult;
use crate::serve::extract::{Path, blocking};
use crate::serve::forms::OpenAiError;
use crate::serve::server::Server;

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiModel {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

/// Models.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiModels {
    object: &'static str,
    data: Vec<OpenAiModel>,
}

fn model(name: String) -> OpenAiModel {
    OpenAiModel { id: name, object: "model", created: 0, owned_by: "aquatint" }
}

/// Models.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = OpenAiModels)))]
pub(crate) async fn list(State(server): State<Arc<Server>>) -> ApiResult<Json<OpenAiModels>> {
    let models = blocking(move || -> ApiResult<_> { Ok(server.models.available()) }).await?;
    let data = models.into_iter().map(|available| model(available.name)).collect();
    Ok(Json(OpenAiModels { object: "list", data }))
}

/// A model.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "openai", params(("model" = String, Path)), responses(
    (status = 200, body = OpenAiModel), (status = 400, body = OpenAiError), (status = 404, body = OpenAiError)))]
pub(crate) async fn get(
    State(server): State<Arc<Server>>,
    Path(name): Path<String>,
) -> ApiResult<Json<OpenAiModel>> {
    let found = blocking(move || server.models.find(&name).map_err(crate::serve::error::ApiError::not_found));
    Ok(Json(model(found.await?.name)))
}
