//! All routes, and what is around them.
//!
//! ```text
//! count → form of refusals → CORS → guard (host, origin, key, headers) → size of the body → panics → route
//! ```

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::CorsLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::serve::error::ApiError;
use crate::serve::metrics::count;
use crate::serve::server::Server;
use crate::serve::{a1111, api, forms, openai, openapi, page, security};

/// Bytes of a request: a picture of 48 megabytes in base64.
const LARGEST_BODY: usize = 64 << 20;

/// The router of a server.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let all = OpenApiRouter::with_openapi(openapi::document());
    let all = all.merge(api::routes()).merge(a1111::routes()).merge(openai::routes());
    let (routes, document) = all.split_for_parts();
    let json = document.to_json().unwrap_or_default();
    let access = Arc::clone(&server.access);
    routes
        .route("/", get(page::index))
        .route("/page/{*path}", get(page::part))
        .route("/favicon.ico", get(page::icon))
        .route("/docs", get(page::docs))
        .route("/docs/{*path}", get(page::docs_part))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], json)))
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn_with_state(access, security::guard))
        .layer(cors(&server.access.origins))
        .layer(middleware::from_fn(forms::in_form))
        .layer(middleware::from_fn_with_state(Arc::clone(&server), counted))
        .with_state(server)
}

/// Other sites whose pages may read the answers.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION])
}

/// `GET /health`
async fn health(State(server): State<Arc<Server>>) -> Response {
    match server.is_ending() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response(),
        false => "ok\n".into_response(),
    }
}

/// `GET /metrics`
async fn metrics(State(server): State<Arc<Server>>) -> Response {
    let (waiting, running) = (server.queue.waiting(), server.queue.running().len());
    let text = server.metrics.text(server.started.elapsed(), waiting, running);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn nothing(request: Request) -> ApiError {
    ApiError::not_found(format_args!("there is nothing at {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format_args!("{path} does not take {method}"))
}

async fn counted(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    count(&server.metrics.requests);
    let response = next.run(request).await;
    if response.status().as_u16() >= 400 {
        server.metrics.refused.fetch_add(1, Ordering::Relaxed);
    }
    response
}

/// A panic is a mistake of this program; the server goes on.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "this program failed where it should not; please report the request",
    )
    .into_response()
}
