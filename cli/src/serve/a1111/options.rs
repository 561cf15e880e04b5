//! `options` and what else concerns the whole server: models, memory.

use std::sync::Arc;

use aquatint_model::generate::ApiRequest;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::lists::title;
use crate::run::memory;
use crate::serve::api::models;
use crate::serve::error::{ApiError, ApiResult};
use crate::serve::extract;
use crate::serve::forms::A1111Error;
use crate::serve::server::Server;

/// The option that names the model.
const MODEL: &str = "sd_model_checkpoint";

/// Options of every request.
fn options(server: &Server) -> Map<String, Value> {
    let loaded = server.models.current();
    let fixed = json!({
        MODEL: title(&loaded.name, loaded.pipeline.model().hash().as_deref()),
        "sd_checkpoint_hash": loaded.pipeline.model().hash().unwrap_or_default(),
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "randn_source": "CPU",
        "samples_format": "png",
        "eta_noise_seed_delta": 0,
        "enable_pnginfo": true,
    });
    let mut options = fixed.as_object().cloned().unwrap_or_default();
    options.extend(server.options());
    options
}

/// What counts where a request is silent.
#[utoipa::path(get, path = "/sdapi/v1/options", tag = "a1111", responses((status = 200, body = Value)))]
pub(crate) async fn get(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(options(&server).into())
}

/// Sets what counts where a request is silent; `sd_model_checkpoint` loads a model, and is answered
/// when it is loaded.
#[utoipa::path(post, path = "/sdapi/v1/options", tag = "a1111", request_body = Value, responses(
    (status = 200, body = Value), (status = 400, body = A1111Error), (status = 415, body = A1111Error),
    (status = 422, body = A1111Error), (status = 503, body = A1111Error)))]
pub(crate) async fn set(
    State(server): State<Arc<Server>>,
    extract::Json(mut given): extract::Json<Map<String, Value>>,
) -> ApiResult<Json<Value>> {
    let model = given.shift_remove(MODEL);
    let known = options(&server);
    given.retain(|key, value| known.get(key) != Some(value)); // some clients send all of them back
    let settings = json!({ "override_settings": given });
    ApiRequest::from_fields(settings.as_object().unwrap_or(&given))?; // refuses what has no meaning
    match model {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) => models::switch(Arc::clone(&server), name).await?,
        Some(other) => {
            return Err(ApiError::field(MODEL, format_args!("`{MODEL}` is {other}; expected a name")));
        }
    }
    let mut options = server.options();
    options.extend(given);
    server.set_options(options);
    Ok(Json(Value::Null))
}

/// With which flags the server was started, as far as A1111 has them.
#[utoipa::path(get, path = "/sdapi/v1/cmd-flags", tag = "a1111", responses((status = 200, body = Value)))]
pub(crate) async fn cmd_flags(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({
        "api": true,
        "nowebui": false,
        "lowvram": false,
        "medvram": false,
        "no_half": server.models.precision == aquatint_model::Precisions::default(),
        "use_cpu": ["all"],
        "allow_code": false,
        "cors_allow_origins": server.access.origins.join(","),
    }))
}

/// Memory, in bytes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Memory {
    ram: Ram,
    cuda: Cuda,
}

/// Of the machine.
#[derive(Serialize, ToSchema)]
struct Ram {
    free: Option<u64>,
    used: Option<u64>,
    total: Option<u64>,
}

/// Of a GPU.
#[derive(Serialize, ToSchema)]
struct Cuda {
    error: &'static str,
}

/// Memory of this machine.
#[utoipa::path(get, path = "/sdapi/v1/memory", tag = "a1111", responses((status = 200, body = Memory)))]
pub(crate) async fn memory() -> Json<Memory> {
    let (free, total) = (memory::free().ok().flatten(), memory::total());
    let used = total.zip(free).map(|(total, free)| total.saturating_sub(free));
    Json(Memory { ram: Ram { free, used, total }, cuda: Cuda { error: "no GPU is used" } })
}

/// Frees the weights of the model; the next request reads them again.
#[utoipa::path(post, path = "/sdapi/v1/unload-checkpoint", tag = "a1111", responses(
    (status = 200, body = Value), (status = 422, body = A1111Error), (status = 503, body = A1111Error)))]
pub(crate) async fn unload(State(server): State<Arc<Server>>) -> ApiResult<Json<Value>> {
    models::load(&server, None).await?;
    Ok(Json(json!({})))
}

/// Reads the weights of the model.
#[utoipa::path(post, path = "/sdapi/v1/reload-checkpoint", tag = "a1111", responses(
    (status = 200, body = Value), (status = 422, body = A1111Error), (status = 503, body = A1111Error)))]
pub(crate) async fn reload(State(server): State<Arc<Server>>) -> ApiResult<Json<Value>> {
    models::load(&server, Some(server.models.chosen())).await?;
    Ok(Json(json!({})))
}

/// Folders are looked at whenever a list is asked for: nothing is left to do.
macro_rules! refresh {
    ($($name:ident $path:literal),*) => {
        $(
            /// Folders are looked at whenever a list is asked for: nothing is left to do.
            #[utoipa::path(post, path = $path, tag = "a1111", responses((status = 200, body = Value)))]
            pub(crate) async fn $name() -> Json<Value> {
                Json(Value::Null)
            }
        )*
    };
}
refresh!(
    refresh_checkpoints "/sdapi/v1/refresh-checkpoints",
    refresh_vae "/sdapi/v1/refresh-vae",
    refresh_loras "/sdapi/v1/refresh-loras",
    refresh_embeddings "/sdapi/v1/refresh-embeddings"
);
