//! `txt2img` and `img2img`: a job, and an answer when it is finished.

use std::sync::Arc;

use aquatint_model::SamplerChoice;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::serve::error::{ApiError, ApiResult};
use crate::serve::extract::{Json, blocking};
use crate::serve::fields::Fields;
use crate::serve::forms::A1111Error;
use crate::serve::job::{Input, Job, Kind};
use crate::serve::server::Server;
use crate::serve::wait;

/// What was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pictures {
    /// PNG files in base64.
    images: Vec<String>,
    /// The request.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// What A1111 says of the pictures: a JSON object, as a text.
    info: String,
}

/// Fields of A1111 that say what becomes of the answer, not of the picture.
const OF_THE_ANSWER: [&str; 10] = [
    "send_images",
    "save_images",
    "do_not_save_samples",
    "do_not_save_grid",
    "include_init_images",
    "force_task_id",
    "override_settings_restore_afterwards",
    "comments",
    "script_args",
    "alwayson_scripts",
];

/// Makes pictures from a text, and waits for them.
#[utoipa::path(post, path = "/sdapi/v1/txt2img", tag = "a1111", request_body = Fields, responses(
    (status = 200, body = Pictures), (status = 400, body = A1111Error), (status = 413, body = A1111Error),
    (status = 415, body = A1111Error), (status = 422, body = A1111Error), (status = 429, body = A1111Error),
    (status = 503, body = A1111Error)))]
pub(crate) async fn txt2img(
    State(server): State<Arc<Server>>,
    Json(fields): Json<Map<String, Value>>,
) -> ApiResult<axum::Json<Pictures>> {
    draw(server, Kind::Txt2img, fields).await
}

/// Makes pictures from a picture, or a part of one anew, and waits for them.
#[utoipa::path(post, path = "/sdapi/v1/img2img", tag = "a1111", request_body = Fields, responses(
    (status = 200, body = Pictures), (status = 400, body = A1111Error), (status = 413, body = A1111Error),
    (status = 415, body = A1111Error), (status = 422, body = A1111Error), (status = 429, body = A1111Error),
    (status = 503, body = A1111Error)))]
pub(crate) async fn img2img(
    State(server): State<Arc<Server>>,
    Json(fields): Json<Map<String, Value>>,
) -> ApiResult<axum::Json<Pictures>> {
    let masked = fields.get(Input::Mask.field()).is_some_and(|mask| !mask.is_null() && mask != "");
    draw(server, if masked { Kind::Inpaint } else { Kind::Img2img }, fields).await
}

async fn draw(
    server: Arc<Server>,
    kind: Kind,
    mut fields: Map<String, Value>,
) -> ApiResult<axum::Json<Pictures>> {
    let send = fields.get("send_images") != Some(&Value::Bool(false));
    let mut parameters = fields.clone();
    for input in Input::ALL {
        parameters.shift_remove(input.field()); // as A1111, unless asked otherwise
    }
    prepare(&server, &mut fields)?;
    let (job, pictures) = wait::draw(&server, kind, fields).await?;
    let info = blocking({
        let server = Arc::clone(&server);
        move || -> ApiResult<_> { Ok(info(&server, &job)) }
    });
    let info = info.await?.to_string();
    let images = if send { pictures.iter().map(base64::encode).collect() } else { Vec::new() };
    Ok(axum::Json(Pictures { images, parameters, info }))
}

/// From A1111's request to ours.
///
/// # Errors
/// If it asks for a script.
fn prepare(server: &Server, fields: &mut Map<String, Value>) -> Result<(), ApiError> {
    let scripts = fields.get("alwayson_scripts").and_then(Value::as_object);
    let script = fields.get("script_name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let names = scripts.into_iter().flatten().map(|(name, _)| name.as_str());
    if let Some(name) = script.or(names.into_iter().next()) {
        return Err(ApiError::field(
            "alwayson_scripts",
            format_args!(
                "script `{}` not found: there are no scripts here",
                aquatint_model::error::printable(name)
            ),
        ));
    }
    OF_THE_ANSWER.iter().for_each(|field| drop(fields.shift_remove(*field)));
    let described = fields.get("infotext").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !described && !fields.contains_key("prompt_syntax") {
        fields.insert("prompt_syntax".into(), "a1111".into());
    }
    // Some clients send 1 with every sampler: A1111's ancestral ones then add all fresh noise, as
    // ours always do, and others do not look at it.
    if fields.get("eta").and_then(Value::as_f64) == Some(1.0) && !has_eta(server, fields) {
        fields.shift_remove("eta");
    }
    let settings = fields.entry("override_settings").or_insert_with(|| json!({}));
    if settings.is_null() {
        *settings = json!({});
    }
    if let Some(settings) = settings.as_object_mut() {
        // What `POST options` has said counts where the request is silent.
        for (key, value) in server.options() {
            settings.entry(key).or_insert(value);
        }
    }
    Ok(())
}

/// Whether the sampler of a request leaves open how much fresh noise is added.
fn has_eta(server: &Server, fields: &Map<String, Value>) -> bool {
    let name = ["sampler_name", "sampler_index"].into_iter().find_map(|field| fields.get(field)?.as_str());
    let choice = SamplerChoice::parse(name, None).unwrap_or_default();
    let loaded = server.models.current();
    loaded.pipeline.scheduler().resolve(choice).is_ok_and(|(kind, _)| kind.has_eta())
}

/// What A1111 says of pictures.
fn info(server: &Server, job: &Job) -> Value {
    let (first, count) = (job.images.first(), job.images.len());
    let text = |key: &str| job.request.get(key).cloned().unwrap_or_else(|| "".into());
    let all = |value: Value| vec![value; count];
    let described = first.map(|image| aquatint_model::image::metadata::Parameters::parse(&image.infotext));
    let setting =
        |key: &str| described.as_ref().and_then(|found| found.get(key)).unwrap_or_default().to_owned();
    let number = |key: &str| setting(key).parse::<f64>().map_or(Value::Null, |number| json!(number));
    let seeds: Vec<u64> = job.images.iter().map(|image| image.seed).collect();
    let hash = server.models.current().pipeline.model().hash().unwrap_or_default();
    json!({
        "prompt": text("prompt"),
        "all_prompts": all(text("prompt")),
        "negative_prompt": text("negative_prompt"),
        "all_negative_prompts": all(text("negative_prompt")),
        "seed": job.seed,
        "all_seeds": seeds,
        "subseed": job.seed,
        "all_subseeds": seeds,
        "subseed_strength": 0,
        "width": first.map(|image| image.width),
        "height": first.map(|image| image.height),
        "sampler_name": setting("Sampler"),
        "cfg_scale": number("CFG scale"),
        "steps": job.steps,
        "batch_size": job.request.get("batch_size").cloned().unwrap_or_else(|| 1.into()),
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": job.model,
        "sd_model_hash": hash,
        "sd_vae_name": null,
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": number("Denoising strength"),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": job.images.iter().map(|image| &image.infotext).collect::<Vec<_>>(),
        "styles": [],
        "job_timestamp": job.created,
        "clip_skip": setting("Clip skip").parse::<u64>().unwrap_or(1),
        "is_using_inpainting_conditioning": false,
        "version": format!("aquatint {}", env!("CARGO_PKG_VERSION")),
    })
}
