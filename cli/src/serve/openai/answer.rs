//! From OpenAI's fields to ours, and from pictures to OpenAI's answer.

use aquatint_model::image::metadata::Parameters;
use aquatint_model::{Error, Format, ImageFile};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::serve::error::{ApiError, ApiResult};
use crate::serve::job::Job;
use crate::serve::server::Server;

/// Pictures of one request, as OpenAI has it.
const MOST: u64 = 10;

/// The pictures.
#[derive(Serialize, ToSchema)]
pub(crate) struct ImagesResponse {
    /// Seconds since 1970.
    created: u64,
    data: Vec<ImageData>,
}

/// A picture: its address, or its bytes.
#[derive(Serialize, ToSchema)]
pub(crate) struct ImageData {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// In base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
}

/// What OpenAI's fields say of the answer.
pub(super) struct Wanted {
    url: bool,
    format: Format,
}

/// Takes OpenAI's own fields out of a request, so that A1111's are left.
///
/// # Errors
/// If one has no meaning here.
pub(super) fn translate(server: &Server, fields: &mut Map<String, Value>) -> ApiResult<Wanted> {
    let model = text(fields, "model")?.filter(|model| !model.is_empty());
    if let Some(name) = model {
        // Clients that know OpenAI's models only send the name of one.
        let ours = !["dall-e-2", "dall-e-3", "gpt-image-1"].contains(&name.as_str());
        let found = if ours { server.models.find(&name)?.name } else { server.models.chosen() };
        let settings = fields.entry("override_settings").or_insert_with(|| json!({}));
        if let Some(settings) = settings.as_object_mut() {
            settings.insert("sd_model_checkpoint".into(), found.into());
        }
    }
    if let Some(count) = fields.shift_remove("n").filter(|count| !count.is_null()) {
        let known = count.as_u64().filter(|count| (1..=MOST).contains(count));
        let known = known.ok_or_else(|| {
            ApiError::field("n", format_args!("`n` is {count}; expected a whole number from 1 to {MOST}"))
        })?;
        fields.insert("n_iter".into(), known.into());
    }
    match text(fields, "size")?.as_deref() {
        None | Some("auto" | "") => {}
        Some(size) => {
            let sides = size
                .split_once('x')
                .and_then(|(w, h)| Some((w.parse::<u64>().ok()?, h.parse::<u64>().ok()?)));
            let (width, height) = sides.ok_or_else(|| {
                ApiError::field(
                    "size",
                    format_args!("`size` is {}; expected auto, or as 512x512", shown(size)),
                )
            })?;
            fields.insert("width".into(), width.into());
            fields.insert("height".into(), height.into());
        }
    }
    // Words that say nothing; others are refused.
    for (field, words) in [
        ("quality", &["auto", "standard"][..]),
        ("style", &[]),
        ("background", &["auto", "opaque"]),
        ("moderation", &["auto", "low"]),
    ] {
        if let Some(word) = text(fields, field)?.filter(|word| !words.contains(&word.as_str())) {
            let (word, known) = (shown(&word), words.join(" or "));
            let expected = if known.is_empty() { "it to be left out" } else { known.as_str() };
            return Err(ApiError::field(field, format_args!("`{field}` is {word}; expected {expected}")));
        }
    }
    text(fields, "user")?;
    let url = match text(fields, "response_format")?.as_deref() {
        None | Some("url") => true,
        Some("b64_json") => false,
        Some(other) => {
            return Err(ApiError::field(
                "response_format",
                format_args!("`response_format` is {}; expected url or b64_json", shown(other)),
            ));
        }
    };
    let quality = match fields.shift_remove("output_compression") {
        None | Some(Value::Null) => Format::QUALITY,
        Some(value) => value
            .as_u64()
            .and_then(|value| u8::try_from(value).ok())
            .filter(|value| *value <= 100)
            .ok_or_else(|| {
                ApiError::field(
                    "output_compression",
                    format_args!("`output_compression` is {value}; expected 0 to 100"),
                )
            })?,
    };
    let format = match text(fields, "output_format")?.as_deref() {
        None | Some("png") => Format::Png,
        Some("jpeg") => Format::Jpeg(quality.max(1)),
        Some("webp") => Format::WebP,
        Some(other) => {
            return Err(ApiError::field(
                "output_format",
                format_args!("`output_format` is {}; expected png, jpeg or webp", shown(other)),
            ));
        }
    };
    Ok(Wanted { url: url && format == Format::Png, format })
}

/// A value as it may stand in a message.
fn shown(value: &str) -> String {
    aquatint_model::error::printable(value)
}

/// Takes a text out of the fields.
fn text(fields: &mut Map<String, Value>, field: &str) -> ApiResult<Option<String>> {
    match fields.shift_remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(ApiError::field(field, format_args!("`{field}` is {other}; expected a text"))),
    }
}

impl Wanted {
    /// The answer. `host` is the name under which the client reached this server.
    ///
    /// # Errors
    /// If a picture cannot be written in the format.
    pub(super) fn answer(&self, job: &Job, pictures: Vec<Vec<u8>>, host: &str) -> ApiResult<ImagesResponse> {
        let data = |(image, png): (&crate::serve::job::JobImage, Vec<u8>)| -> Result<ImageData, Error> {
            if self.url {
                return Ok(ImageData { url: Some(format!("http://{host}{}", image.url)), b64_json: None });
            }
            let bytes = match self.format {
                Format::Png => png,
                format => {
                    let picture = ImageFile::from_bytes(&png)?.image;
                    picture.with_parameters(Parameters::parse(&image.infotext)).to_bytes(format)?
                }
            };
            Ok(ImageData { url: None, b64_json: Some(base64::encode(bytes)) })
        };
        let created = humantime::parse_rfc3339(&job.created).unwrap_or(std::time::UNIX_EPOCH);
        let created = created.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let data = job.images.iter().zip(pictures).map(data).collect::<Result<_, _>>()?;
        Ok(ImagesResponse { created, data })
    }
}
