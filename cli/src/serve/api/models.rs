//! Models, adapters and embeddings.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::serve::error::{ApiError, ApiResult, ErrorBody};
use crate::serve::extract::{Json, blocking};
use crate::serve::model::{self, Available};
use crate::serve::server::Server;

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct Model {
    name: String,
    /// Its file's or folder's name without an ending.
    path_stem: String,
    family: String,
    bytes: u64,
    /// Whether it is the one that is loaded.
    loaded: bool,
}

/// The name of a model.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ModelName {
    name: String,
}

/// An adapter or an embedding.
#[derive(Serialize, ToSchema)]
pub(crate) struct Named {
    /// How a prompt names it: `<lora:NAME:0.8>`, or an embedding's own NAME.
    name: String,
}

/// The models of this machine.
#[utoipa::path(get, path = "/api/models", tag = "api", responses((status = 200, body = [Model])))]
pub(crate) async fn list(State(server): State<Arc<Server>>) -> ApiResult<axum::Json<Vec<Model>>> {
    let models = blocking(move || -> ApiResult<_> {
        let loaded = server.models.current().name.clone();
        let model = |Available { name, path, family, bytes }| Model {
            loaded: name == loaded,
            path_stem: model::stem(&path),
            name,
            family,
            bytes,
        };
        Ok(server.models.available().into_iter().map(model).collect())
    });
    models.await.map(axum::Json)
}

/// Loads a model, for all requests that name none; answers when it is loaded.
#[utoipa::path(post, path = "/api/model", tag = "api", request_body = ModelName, responses(
    (status = 204), (status = 400, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn choose(
    State(server): State<Arc<Server>>,
    Json(ModelName { name }): Json<ModelName>,
) -> ApiResult<StatusCode> {
    switch(server, name).await.map(|()| StatusCode::NO_CONTENT)
}

/// Has the worker load a model, and chooses it.
///
/// # Errors
/// If there is none of this name, or it cannot be loaded.
pub(crate) async fn switch(server: Arc<Server>, name: String) -> ApiResult<()> {
    let finder = Arc::clone(&server);
    let found = blocking(move || finder.models.find(&name)).await?.name;
    load(&server, Some(found.clone())).await?;
    server.models.choose(&found);
    Ok(())
}

/// Has the worker load a model, or free the weights of the one that is loaded.
///
/// # Errors
/// If that fails, or if another one is asked for meanwhile.
pub(crate) async fn load(server: &Server, name: Option<String>) -> ApiResult<()> {
    let answer = server.queue.load(name).await;
    answer.map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "another model was asked for, or the server is ending")
    })??;
    Ok(())
}

/// The adapters for prompts.
#[utoipa::path(get, path = "/api/loras", tag = "api", responses((status = 200, body = [Named])))]
pub(crate) async fn loras(State(server): State<Arc<Server>>) -> axum::Json<Vec<Named>> {
    let named = |path: &std::path::PathBuf| Named { name: model::stem(path) };
    axum::Json(server.models.loras().iter().map(named).collect())
}

/// The embeddings for prompts.
#[utoipa::path(get, path = "/api/embeddings", tag = "api", responses((status = 200, body = [Named])))]
pub(crate) async fn embeddings(State(server): State<Arc<Server>>) -> axum::Json<Vec<Named>> {
    let named = |path: &std::path::PathBuf| Named { name: model::stem(path) };
    axum::Json(server.models.embeddings().iter().map(named).collect())
}
