//! Pictures that are not drawn: enlarged, or asked for their settings.

use aquatint_model::generate::{ImageInput, LARGEST_SIDE};
use aquatint_model::image::metadata::{self, Parameters};
use aquatint_model::{Image, ResizeMode};
use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::lists::UPSCALERS;
use crate::serve::api::png_info::text_of;
use crate::serve::error::{ApiError, ApiResult};
use crate::serve::extract::{self, blocking};
use crate::serve::forms::A1111Error;

/// How pictures are enlarged.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Enlarge {
    /// 0: by a factor; 1: to a size.
    #[serde(default)]
    resize_mode: u8,
    /// The factor.
    #[serde(default = "two")]
    upscaling_resize: f64,
    /// The size.
    #[serde(default = "default_side")]
    upscaling_resize_w: usize,
    #[serde(default = "default_side")]
    upscaling_resize_h: usize,
    /// Whether what sticks out of the size is cut off.
    #[serde(default = "yes")]
    upscaling_crop: bool,
    /// None or Lanczos.
    #[serde(default)]
    upscaler_1: Option<String>,
    /// A second way, laid over the first: none.
    #[serde(default)]
    extras_upscaler_2_visibility: f64,
    /// How much of a restored face is shown: nothing.
    #[serde(default)]
    gfpgan_visibility: f64,
    /// The same.
    #[serde(default)]
    codeformer_visibility: f64,
}

/// A picture, and how it is enlarged.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EnlargeOne {
    /// In base64.
    image: String,
    #[serde(flatten)]
    how: Enlarge,
}

/// Pictures, and how they are enlarged.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EnlargeSeveral {
    #[serde(rename = "imageList")]
    image_list: Vec<FileData>,
    #[serde(flatten)]
    how: Enlarge,
}

/// A picture with a name.
#[derive(Deserialize, ToSchema)]
struct FileData {
    /// In base64.
    data: String,
}

/// An enlarged picture.
#[derive(Serialize, ToSchema)]
pub(crate) struct Enlarged {
    html_info: &'static str,
    /// PNG in base64.
    image: String,
}

/// Enlarged pictures.
#[derive(Serialize, ToSchema)]
pub(crate) struct EnlargedSeveral {
    html_info: &'static str,
    /// PNG in base64.
    images: Vec<String>,
}

fn two() -> f64 {
    2.0
}

fn default_side() -> usize {
    512
}

fn yes() -> bool {
    true
}

/// Enlarges a picture by Lanczos' filter.
#[utoipa::path(post, path = "/sdapi/v1/extra-single-image", tag = "a1111", request_body = EnlargeOne, responses(
    (status = 200, body = Enlarged), (status = 400, body = A1111Error), (status = 413, body = A1111Error),
    (status = 415, body = A1111Error), (status = 422, body = A1111Error)))]
pub(crate) async fn single(
    extract::Json(EnlargeOne { image, how }): extract::Json<EnlargeOne>,
) -> ApiResult<Json<Enlarged>> {
    let image = blocking(move || how.enlarge(&image)).await?;
    Ok(Json(Enlarged { html_info: "", image }))
}

/// Enlarges pictures by Lanczos' filter.
#[utoipa::path(post, path = "/sdapi/v1/extra-batch-images", tag = "a1111", request_body = EnlargeSeveral, responses(
    (status = 200, body = EnlargedSeveral), (status = 400, body = A1111Error), (status = 413, body = A1111Error),
    (status = 415, body = A1111Error), (status = 422, body = A1111Error)))]
pub(crate) async fn batch(
    extract::Json(EnlargeSeveral { image_list, how }): extract::Json<EnlargeSeveral>,
) -> ApiResult<Json<EnlargedSeveral>> {
    let images =
        blocking(move || -> ApiResult<_> { image_list.iter().map(|file| how.enlarge(&file.data)).collect() });
    let images = images.await?;
    Ok(Json(EnlargedSeveral { html_info: "", images }))
}

impl Enlarge {
    /// From base64 to base64.
    fn enlarge(&self, image: &str) -> ApiResult<String> {
        let upscaler = self.upscaler_1.as_deref().unwrap_or("None");
        if !UPSCALERS.contains(&upscaler) {
            let known = UPSCALERS.join(", ");
            return Err(ApiError::field(
                "upscaler_1",
                format_args!(
                    "there is no upscaler `{}`; there are: {known}",
                    aquatint_model::error::printable(upscaler)
                ),
            ));
        }
        for (field, value) in [
            ("extras_upscaler_2_visibility", self.extras_upscaler_2_visibility),
            ("gfpgan_visibility", self.gfpgan_visibility),
            ("codeformer_visibility", self.codeformer_visibility),
        ] {
            if value != 0.0 {
                return Err(ApiError::field(
                    field,
                    format_args!("`{field}` is {value}; expected 0: there is none here"),
                ));
            }
        }
        let bytes = match ImageInput::parse(image)? {
            ImageInput::Bytes(bytes) => bytes,
            ImageInput::Path(_) => {
                return Err(ApiError::field("image", "`image`: expected a picture in base64"));
            }
        };
        let picture = aquatint_model::ImageFile::from_bytes(&bytes)?.image;
        let described = metadata::read_bytes(&bytes)?.map(|text| Parameters::parse(&text));
        let larger = if upscaler == "None" { picture } else { self.resized(&picture)? };
        let larger = match described {
            Some(parameters) => larger.with_parameters(parameters),
            None => larger,
        };
        Ok(base64::encode(larger.to_png()?))
    }

    fn resized(&self, picture: &Image) -> ApiResult<Image> {
        let by_factor = |side: usize| (side as f64 * self.upscaling_resize).round();
        let [width, height] = match self.resize_mode {
            0 => [picture.width(), picture.height()].map(by_factor),
            1 => [self.upscaling_resize_w as f64, self.upscaling_resize_h as f64],
            other => {
                return Err(ApiError::field(
                    "resize_mode",
                    format_args!("`resize_mode` is {other}; expected 0 or 1"),
                ));
            }
        };
        let sides = 1.0..=LARGEST_SIDE as f64;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(ApiError::field(
                "upscaling_resize",
                format_args!(
                    "the picture would be {width}×{height}; expected sides of 1 to {LARGEST_SIDE} pixels"
                ),
            ));
        }
        let mode = if self.upscaling_crop { ResizeMode::Crop } else { ResizeMode::Fit };
        Ok(picture.resized(width as usize, height as usize, mode))
    }
}

/// A picture.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Picture {
    /// In base64.
    image: String,
}

/// What a picture says.
#[derive(Serialize, ToSchema)]
pub(crate) struct PictureInfo {
    /// Its text.
    info: String,
    /// The texts by the names under which they are stored.
    #[schema(value_type = Object)]
    items: Map<String, Value>,
    /// Its settings by A1111's names.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
}

/// The settings inside a picture.
#[utoipa::path(post, path = "/sdapi/v1/png-info", tag = "a1111", request_body = Picture, responses(
    (status = 200, body = PictureInfo), (status = 400, body = A1111Error), (status = 413, body = A1111Error),
    (status = 415, body = A1111Error), (status = 422, body = A1111Error)))]
pub(crate) async fn png_info(
    extract::Json(Picture { image }): extract::Json<Picture>,
) -> ApiResult<Json<PictureInfo>> {
    let info = blocking(move || text_of(&image)).await?;
    let (mut items, mut parameters) = (Map::new(), Map::new());
    if !info.is_empty() {
        let described = Parameters::parse(&info);
        items.insert("parameters".into(), info.clone().into());
        parameters.insert("Prompt".into(), described.prompt.into());
        parameters.insert("Negative prompt".into(), described.negative_prompt.into());
        let settings = described.settings.into_iter().map(|(key, value)| (key, json!(value)));
        parameters.extend(settings);
    }
    Ok(Json(PictureInfo { info, items, parameters }))
}
