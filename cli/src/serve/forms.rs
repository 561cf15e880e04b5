//! Refusals in the forms of A1111 and of OpenAI.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::error::ApiError;

/// How A1111 writes it.
#[derive(Serialize, ToSchema)]
pub(crate) struct A1111Error {
    /// Its kind.
    error: &'static str,
    /// The sentence that clients show.
    detail: String,
    /// The body of the request, which is not repeated here.
    body: &'static str,
    /// The same sentence.
    errors: String,
}

/// How OpenAI writes it.
#[derive(Serialize, ToSchema)]
pub(crate) struct OpenAiError {
    error: OpenAiDetail,
}

/// What OpenAI says of it.
#[derive(Serialize, ToSchema)]
struct OpenAiDetail {
    message: String,
    r#type: &'static str,
    /// The field of the request that is meant.
    param: Option<String>,
    code: Option<&'static str>,
}

impl From<&ApiError> for A1111Error {
    fn from(error: &ApiError) -> Self {
        let kind = if error.status.is_server_error() { "Error" } else { "HTTPException" };
        Self { error: kind, detail: error.message.clone(), body: "", errors: error.message.clone() }
    }
}

impl From<&ApiError> for OpenAiError {
    fn from(error: &ApiError) -> Self {
        let (kind, code) = match error.status {
            StatusCode::UNAUTHORIZED => ("invalid_request_error", Some("invalid_api_key")),
            StatusCode::TOO_MANY_REQUESTS => ("rate_limit_error", Some("rate_limit_exceeded")),
            status if status.is_server_error() => ("server_error", None),
            _ => ("invalid_request_error", None),
        };
        let (message, param) = (error.message.clone(), error.field.clone());
        Self { error: OpenAiDetail { message, r#type: kind, param, code } }
    }
}

/// Writes refusals anew, by the family of the route.
pub(crate) async fn in_form(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (a1111, openai) = (path.starts_with("/sdapi/"), path.starts_with("/v1/"));
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let body = match (a1111, openai) {
        (true, _) => serde_json::to_vec(&A1111Error::from(&error)),
        (_, true) => serde_json::to_vec(&OpenAiError::from(&error)),
        _ => return response,
    };
    response.headers_mut().remove(header::CONTENT_LENGTH);
    // OpenAI's status for a request that cannot be met.
    if openai && response.status() == StatusCode::UNPROCESSABLE_ENTITY {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    *response.body_mut() = Body::from(body.unwrap_or_default());
    response
}
