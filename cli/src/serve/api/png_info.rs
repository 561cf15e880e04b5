//! The settings inside a picture, as the fields of a request.

use aquatint_model::generate::{ImageInput, PartialRequest};
use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::{Error, ImageFile};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::serve::accept::{self, UPSCALER};
use crate::serve::error::{ApiError, ApiResult, ErrorBody};
use crate::serve::extract::{Json, blocking};
use crate::serve::fields::Fields;

/// A picture.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Picture {
    /// PNG, JPEG or WebP in base64, alone or in a data URL.
    image: String,
}

/// What a picture says.
#[derive(Serialize, ToSchema)]
pub(crate) struct PngInfo {
    /// Its text, empty if it has none.
    infotext: String,
    /// The same as the fields of a request.
    #[schema(value_type = Fields)]
    request: Map<String, Value>,
    /// Keys that say something which a request cannot.
    not_taken_over: Vec<String>,
}

/// The settings inside a picture.
#[utoipa::path(post, path = "/api/png-info", tag = "api", request_body = Picture, responses(
    (status = 200, body = PngInfo), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody), (status = 422, body = ErrorBody)))]
pub(crate) async fn png_info(Json(Picture { image }): Json<Picture>) -> ApiResult<axum::Json<PngInfo>> {
    let info = blocking(move || -> ApiResult<_> {
        let infotext = text_of(&image)?;
        if infotext.is_empty() {
            return Ok(PngInfo { infotext, request: Map::new(), not_taken_over: Vec::new() });
        }
        let parameters = Parameters::parse(&infotext);
        accept::check_upscaler(parameters.get(UPSCALER))?;
        let request = PartialRequest::described(&parameters)?.to_fields();
        let not_taken_over = parameters.ignored().map(str::to_owned).collect();
        Ok(PngInfo { infotext, request, not_taken_over })
    });
    info.await.map(axum::Json)
}

/// The text inside a picture in base64; empty if it has none.
///
/// # Errors
/// If it is no picture.
pub(crate) fn text_of(image: &str) -> ApiResult<String> {
    let refused = |error: Error| ApiError::field("image", error);
    match ImageInput::parse(image).map_err(refused)? {
        ImageInput::Path(_) => Err(ApiError::field(
            "image",
            "`image`: expected a PNG, JPEG or WebP picture in base64, or as a data URL",
        )),
        ImageInput::Bytes(bytes) => {
            ImageFile::from_bytes(&bytes).map_err(refused)?;
            Ok(metadata::read_bytes(&bytes).map_err(refused)?.unwrap_or_default())
        }
    }
}
