//! Pictures of jobs, and those that came with them.

use std::fs;
use std::io::ErrorKind;
use std::path::Path as FilePath;
use std::sync::Arc;

use aquatint_model::{Error, Format, ImageFile, ResizeMode};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::serve::error::{ApiError, ApiResult, ErrorBody};
use crate::serve::extract::{Path, blocking};
use crate::serve::job::Input;
use crate::serve::server::Server;

/// The longer side of a small picture.
const THUMBNAIL: usize = 256;

/// Quality of a small picture.
const QUALITY: u8 = 85;

/// A picture of a job: `0.png` (with its settings inside), `0.thumb.jpg`, or `init.png` and
/// `mask.png`, which came with the request.
#[utoipa::path(get, path = "/api/images/{id}/{file}", tag = "jobs", params(("id" = u64, Path), ("file" = String, Path)),
    responses((status = 200, content_type = "image/png", body = Vec<u8>), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)))]
pub(crate) async fn image(
    State(server): State<Arc<Server>>,
    Path((id, file)): Path<(u64, String)>,
) -> ApiResult<Response> {
    let (bytes, media_type) = blocking(move || read(&server, id, &file)).await?;
    // A picture never changes, and its number is never used again.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
    ];
    Ok((headers, bytes).into_response())
}

fn read(server: &Server, id: u64, file: &str) -> ApiResult<(Vec<u8>, &'static str)> {
    let missing = || ApiError::not_found(format_args!("job {id} has no such picture"));
    if let Some(input) = Input::ALL.into_iter().find(|input| input.file() == file) {
        let bytes = server.queue.journal.input(id, input)?.ok_or_else(missing)?;
        let media_type = media_type(&bytes);
        return Ok((bytes, media_type));
    }
    let (index, ending) = file.split_once('.').ok_or_else(missing)?;
    let index: usize = index.parse().map_err(|_| missing())?;
    let path = server.picture(id, index);
    match ending {
        "png" => Ok((open(&path)?.ok_or_else(missing)?, "image/png")),
        "thumb.jpg" => {
            let bytes = open(&path)?.ok_or_else(missing)?;
            let image = ImageFile::from_bytes(&bytes)?.image;
            let longer = image.width().max(image.height());
            let small = |side: usize| (side * THUMBNAIL.min(longer) / longer).max(1);
            let small = image.resized(small(image.width()), small(image.height()), ResizeMode::Stretch);
            Ok((small.to_bytes(Format::Jpeg(QUALITY))?, "image/jpeg"))
        }
        _ => Err(missing()),
    }
}

/// A file's contents, if there is one.
pub(crate) fn open(path: &FilePath) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::run(format_args!("a picture cannot be read: {error}"))),
    }
}

/// What a visitor sent, by its first bytes; it was decoded when it was accepted.
fn media_type(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, ..] => "image/jpeg",
        _ => "image/webp",
    }
}
