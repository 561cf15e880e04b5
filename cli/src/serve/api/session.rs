//! The API key of a browser: `EventSource` and `<img>` cannot send headers, but a cookie.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::serve::error::{ApiError, ApiResult, ErrorBody};
use crate::serve::extract::Json;
use crate::serve::server::Server;

/// The key.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Key {
    key: String,
}

/// Gives a browser the cookie in place of the API key.
#[utoipa::path(post, path = "/api/session", tag = "api", request_body = Key, responses(
    (status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 415, body = ErrorBody),
    (status = 422, body = ErrorBody)))]
pub(crate) async fn open(
    State(server): State<Arc<Server>>,
    Json(Key { key }): Json<Key>,
) -> ApiResult<impl IntoResponse> {
    if !server.access.is_key(&key) {
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, "this is not the server's API key"));
    }
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(header::SET_COOKIE, server.access.cookie())])))
}
