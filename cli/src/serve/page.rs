//! The page, and the one that shows the description of the routes: files of `page/` and `docs/`,
//! compiled into the program.

use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::serve::error::ApiError;

/// What a browser asks for; not what is there for people and tools.
#[derive(RustEmbed)]
#[folder = "src/serve/page/"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
#[exclude = "node_modules/*"]
#[exclude = "tests/*"]
struct Files;

/// What shows the description of the routes.
#[derive(RustEmbed)]
#[folder = "src/serve/docs/"]
struct Docs;

/// The type of a file, by its ending.
fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// `GET /`
pub(crate) async fn index() -> Response {
    file(Files::get, "index.html")
}

/// `GET /page/…`
pub(crate) async fn part(Path(path): Path<String>) -> Response {
    file(Files::get, &path)
}

/// `GET /favicon.ico`
pub(crate) async fn icon() -> Response {
    file(Files::get, "icon.svg")
}

/// `GET /docs`
pub(crate) async fn docs() -> Response {
    file(Docs::get, "index.html")
}

/// `GET /docs/…`
pub(crate) async fn docs_part(Path(path): Path<String>) -> Response {
    file(Docs::get, &path)
}

fn file(get: impl Fn(&str) -> Option<EmbeddedFile>, path: &str) -> Response {
    let Some(file) = get(path) else {
        return ApiError::not_found("the page has no file of this name").into_response();
    };
    // The files belong to this binary: a browser asks each time whether they are still the same.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type(path))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, file.data.into_owned()).into_response()
}
