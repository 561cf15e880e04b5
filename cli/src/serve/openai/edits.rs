//! `POST /v1/images/edits`: a picture from a picture, or a part of one anew.
//!
//! ```text
//! mask            its transparent parts are repainted
//! no mask         the transparent parts of the picture are; without any, the whole picture is the start of
//!                 a new one
//! ```

use std::sync::Arc;

use aquatint_model::{Error, Image, ImageFile};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::answer::{ImagesResponse, translate};
use super::generations::host;
use crate::serve::error::{ApiError, ApiResult};
use crate::serve::extract::blocking;
use crate::serve::forms::OpenAiError;
use crate::serve::job::{Input, Kind};
use crate::serve::server::Server;
use crate::serve::wait;

/// A form; for the description of the interface.
#[derive(Deserialize, ToSchema)]
#[allow(dead_code, reason = "the fields are read by name, with those of A1111")]
pub(crate) struct EditRequest {
    /// PNG, JPEG or WebP.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// Where it is transparent, the picture is repainted.
    #[schema(value_type = Option<String>, format = Binary)]
    mask: Option<Vec<u8>>,
    /// What the picture should show.
    prompt: String,
    model: Option<String>,
    n: Option<u64>,
    size: Option<String>,
    response_format: Option<String>,
}

/// Makes a picture from a picture, or a part of one anew.
#[utoipa::path(post, path = "/v1/images/edits", tag = "openai",
    request_body(content = EditRequest, content_type = "multipart/form-data"), responses(
    (status = 200, body = ImagesResponse), (status = 400, body = OpenAiError), (status = 413, body = OpenAiError),
    (status = 415, body = OpenAiError), (status = 429, body = OpenAiError), (status = 503, body = OpenAiError)))]
pub(crate) async fn edits(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    form: Result<Multipart, axum::extract::multipart::MultipartRejection>,
) -> ApiResult<axum::Json<ImagesResponse>> {
    let form = form.map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let (fields, image, mask) = read(form).await?;
    let translator = Arc::clone(&server);
    let prepared = blocking(move || -> ApiResult<_> {
        let mut fields = fields;
        let wanted = translate(&translator, &mut fields)?;
        let kind = add_pictures(&mut fields, image, mask)?;
        Ok((wanted, kind, fields))
    });
    let (wanted, kind, fields) = prepared.await?;
    let (job, pictures) = wait::draw(&server, kind, fields).await?;
    let host = host(&headers);
    blocking(move || wanted.answer(&job, pictures, &host)).await.map(axum::Json)
}

/// The parts of the form: texts, the picture, the mask.
async fn read(mut form: Multipart) -> ApiResult<(Map<String, Value>, Option<Vec<u8>>, Option<Vec<u8>>)> {
    let refused = |error: MultipartError| ApiError::new(error.status(), error.body_text());
    let (mut fields, mut image, mut mask) = (Map::new(), None, None);
    while let Some(field) = form.next_field().await.map_err(refused)? {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "image" | "image[]" => {
                let bytes = field.bytes().await.map_err(refused)?.to_vec();
                if image.replace(bytes).is_some() {
                    return Err(ApiError::field("image", "`image`: expected one picture"));
                }
            }
            "mask" => mask = Some(field.bytes().await.map_err(refused)?.to_vec()),
            _ => {
                let value = value(field).await.map_err(refused)?;
                fields.insert(name, value);
            }
        }
    }
    Ok((fields, image, mask))
}

/// A part of a form is a text; numbers and truths are meant as such, but for a prompt.
async fn value(field: Field<'_>) -> Result<Value, MultipartError> {
    let is_text = ["prompt", "negative_prompt"].contains(&field.name().unwrap_or_default());
    let text = field.text().await?;
    let parsed = serde_json::from_str(&text)
        .ok()
        .filter(|value: &Value| !is_text && (value.is_number() || value.is_boolean()));
    Ok(parsed.unwrap_or(Value::String(text)))
}

/// Adds the pictures to the fields; says what is made of them.
fn add_pictures(
    fields: &mut Map<String, Value>,
    image: Option<Vec<u8>>,
    mask: Option<Vec<u8>>,
) -> ApiResult<Kind> {
    let image = image.ok_or_else(|| ApiError::field("image", "`image` is missing; expected a picture"))?;
    let refused = |error: Error| ApiError::field("image", error);
    let transparent = ImageFile::from_bytes(&image).map_err(refused)?.transparent;
    let has_hole = transparent.is_some_and(|mask| mask.grey().iter().any(|&grey| grey > 0));
    fields.insert(Input::Init.field().into(), base64::encode(image).into());
    let Some(mask) = mask else {
        return Ok(if has_hole { Kind::Inpaint } else { Kind::Img2img });
    };
    let refused = |error: Error| ApiError::field("mask", error);
    let transparent = ImageFile::from_bytes(&mask).map_err(refused)?.transparent;
    let transparent = transparent.ok_or_else(|| {
        ApiError::field(
            "mask",
            "`mask` has no transparent parts; expected a PNG that is transparent where the picture changes",
        )
    })?;
    let grey = transparent.grey().iter().flat_map(|&grey| [grey; 3]).collect();
    let painted =
        Image::from_rgb(transparent.width(), transparent.height(), grey).to_png().map_err(refused)?;
    fields.insert(Input::Mask.field().into(), base64::encode(painted).into());
    Ok(Kind::Inpaint)
}
