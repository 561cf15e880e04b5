//! Why a request is refused: a status and a sentence. `/api` writes it in the form that is here;
//! for the other families of routes `forms.rs` writes it anew.

use aquatint_model::{Error, ErrorKind};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::serve::queue::Refusal;

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// The field of the request that is meant.
    pub(crate) field: Option<String>,
    /// After how many seconds it is worth to ask again.
    pub(crate) retry_after: Option<u64>,
}

/// Shorthand for results of routes.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// How `/api` says it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What is wrong.
    pub(crate) error: ErrorDetail,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErrorDetail {
    /// A sentence: what was found, what was expected.
    pub(crate) message: String,
    /// The field of the request that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl std::fmt::Display) -> Self {
        Self { status, message: message.to_string(), field: None, retry_after: None }
    }

    /// 404.
    pub(crate) fn not_found(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 422 about a field.
    pub(crate) fn field(field: &str, message: impl std::fmt::Display) -> Self {
        Self { field: Some(field.into()), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message) }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Request | ErrorKind::Model => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Run | ErrorKind::Interrupted => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let message = error.to_string();
        // "`steps` is -3; expected …": messages about fields begin with their names.
        let field = message.strip_prefix('`').and_then(|rest| Some(rest.split_once("` is ")?.0.to_owned()));
        Self { field, ..Self::new(status, message) }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full(seconds) => Self {
                retry_after: Some(seconds),
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    format_args!("the queue is full; try again in {seconds} s"),
                )
            },
            Refusal::Closed => Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is ending"),
            Refusal::Failed(error) => error.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let detail = ErrorDetail { message: self.message.clone(), field: self.field.clone() };
        let mut response = (self.status, Json(ErrorBody { error: detail })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self); // for another form
        response
    }
}
