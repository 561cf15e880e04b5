//! What there is: models, samplers, adapters. What this program has nothing of is an empty list.

use std::sync::Arc;

use aquatint_model::{SamplerKind, Schedule};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::serve::error::ApiResult;
use crate::serve::extract::blocking;
use crate::serve::model::{self, Available};
use crate::serve::server::Server;

/// How A1111 calls a model: its name, and its hash if it is known.
pub(super) fn title(name: &str, hash: Option<&str>) -> String {
    hash.map_or(name.to_owned(), |hash| format!("{name} [{hash}]"))
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct SdModel {
    title: String,
    model_name: String,
    /// The first 10 digits of the SHA-256 of its weights, of the model that is loaded.
    hash: Option<String>,
    sha256: Option<String>,
    filename: String,
    config: Option<String>,
}

/// Models.
#[utoipa::path(get, path = "/sdapi/v1/sd-models", tag = "a1111", responses((status = 200, body = [SdModel])))]
pub(crate) async fn sd_models(State(server): State<Arc<Server>>) -> ApiResult<Json<Vec<SdModel>>> {
    let models = blocking(move || -> ApiResult<_> {
        let loaded = server.models.current();
        let model = |Available { name, path, .. }| {
            let hash = loaded.pipeline.model().hash().filter(|_| loaded.name == name);
            SdModel {
                title: title(&name, hash.as_deref()),
                model_name: model::stem(name.as_ref()),
                hash,
                sha256: None,
                filename: path.display().to_string(),
                config: None,
            }
        };
        Ok(server.models.available().into_iter().map(model).collect())
    });
    Ok(Json(models.await?))
}

/// A sampler.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sampler {
    name: &'static str,
    aliases: Vec<&'static str>,
    #[schema(value_type = Object)]
    options: Map<String, Value>,
}

/// Samplers.
#[utoipa::path(get, path = "/sdapi/v1/samplers", tag = "a1111", responses((status = 200, body = [Sampler])))]
pub(crate) async fn samplers() -> Json<Vec<Sampler>> {
    let sampler = |kind: SamplerKind| Sampler {
        name: kind.label(),
        aliases: kind.class().into_iter().collect(),
        options: Map::new(),
    };
    Json(SamplerKind::all().map(sampler).collect())
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(crate) struct Scheduler {
    name: String,
    label: String,
    aliases: Vec<String>,
    default_rho: f64,
    need_inner_model: bool,
}

/// Schedules.
#[utoipa::path(get, path = "/sdapi/v1/schedulers", tag = "a1111", responses((status = 200, body = [Scheduler])))]
pub(crate) async fn schedulers() -> Json<Vec<Scheduler>> {
    let scheduler = |name: &str, label: &str| Scheduler {
        name: name.into(),
        label: label.into(),
        aliases: Vec::new(),
        default_rho: if name == "karras" { 7.0 } else { -1.0 },
        need_inner_model: false,
    };
    let schedules = Schedule::all().map(|schedule| scheduler(schedule.label(), schedule.label()));
    Json(std::iter::once(scheduler("automatic", "Automatic")).chain(schedules).collect())
}

/// A way to enlarge pictures.
#[derive(Serialize, ToSchema)]
pub(crate) struct Upscaler {
    name: &'static str,
    model_name: Option<String>,
    model_path: Option<String>,
    model_url: Option<String>,
    scale: f64,
}

/// Ways to enlarge pictures.
pub(super) const UPSCALERS: [&str; 2] = ["None", "Lanczos"];

/// Ways to enlarge pictures.
#[utoipa::path(get, path = "/sdapi/v1/upscalers", tag = "a1111", responses((status = 200, body = [Upscaler])))]
pub(crate) async fn upscalers() -> Json<Vec<Upscaler>> {
    let upscaler = |name| Upscaler { name, model_name: None, model_path: None, model_url: None, scale: 4.0 };
    Json(UPSCALERS.map(upscaler).into())
}

/// An adapter.
#[derive(Serialize, ToSchema)]
pub(crate) struct Lora {
    name: String,
    alias: String,
    path: String,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
}

/// Adapters for `<lora:NAME:0.8>`.
#[utoipa::path(get, path = "/sdapi/v1/loras", tag = "a1111", responses((status = 200, body = [Lora])))]
pub(crate) async fn loras(State(server): State<Arc<Server>>) -> Json<Vec<Lora>> {
    let lora = |path: &std::path::PathBuf| Lora {
        name: model::stem(path),
        alias: model::stem(path),
        path: path.display().to_string(),
        metadata: Map::new(),
    };
    Json(server.models.loras().iter().map(lora).collect())
}

/// Embeddings: those that can be used, by their names.
#[utoipa::path(get, path = "/sdapi/v1/embeddings", tag = "a1111", responses((status = 200, body = Value)))]
pub(crate) async fn embeddings(State(server): State<Arc<Server>>) -> Json<Value> {
    let entry = |path: &std::path::PathBuf| {
        let nothing = json!({
            "step": null, "sd_checkpoint": null, "sd_checkpoint_name": null, "shape": null, "vectors": null,
        });
        (model::stem(path), nothing)
    };
    let loaded: Map<String, Value> = server.models.embeddings().iter().map(entry).collect();
    Json(json!({ "loaded": loaded, "skipped": {} }))
}

/// Lists of what this program has nothing of.
macro_rules! nothing {
    ($($(#[doc = $doc:literal])* $name:ident $path:literal $value:expr),* $(,)?) => {
        $(
            $(#[doc = $doc])*
            #[utoipa::path(get, path = $path, tag = "a1111", responses((status = 200, body = Value)))]
            pub(crate) async fn $name() -> Json<Value> {
                Json($value)
            }
        )*
    };
}
nothing!(
    /// VAEs to choose from: none beside the model's own.
    sd_vae "/sdapi/v1/sd-vae" json!([]),
    /// Ways to enlarge latents: none.
    latent_upscale_modes "/sdapi/v1/latent-upscale-modes" json!([]),
    /// Hypernetworks: none.
    hypernetworks "/sdapi/v1/hypernetworks" json!([]),
    /// Models that restore faces: none.
    face_restorers "/sdapi/v1/face-restorers" json!([]),
    /// Models that enlarge pictures: none.
    realesrgan_models "/sdapi/v1/realesrgan-models" json!([]),
    /// Stored prompts: none.
    prompt_styles "/sdapi/v1/prompt-styles" json!([]),
    /// Scripts: none.
    scripts "/sdapi/v1/scripts" json!({ "txt2img": [], "img2img": [] }),
    /// What scripts take: nothing.
    script_info "/sdapi/v1/script-info" json!([]),
);
