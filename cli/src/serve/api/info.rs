//! What this server is, and what a request may say.

use std::sync::Arc;

use aquatint_model::generate::{PRESETS, PartialRequest, Preset};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::serve::fields::{self, Field, Fields};
use crate::serve::model::EMBEDDED_NAME;
use crate::serve::server::Server;

/// What this server is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Info {
    version: &'static str,
    model: ModelInfo,
    /// Threads that compute.
    threads: usize,
    /// Number format of the large products.
    precision: String,
    /// The instruction set.
    isa: String,
    /// The largest picture that is made.
    max_pixels: usize,
}

/// The model that is loaded.
#[derive(Serialize, ToSchema)]
struct ModelInfo {
    name: String,
    family: String,
    default_width: usize,
    default_height: usize,
    /// Of what sides are multiples.
    vae_factor: usize,
    /// Whether it is the small model inside of the program.
    embedded: bool,
}

/// What this server is.
#[utoipa::path(get, path = "/api/info", tag = "api", responses((status = 200, body = Info)))]
pub(crate) async fn info(State(server): State<Arc<Server>>) -> Json<Info> {
    let loaded = server.models.current();
    let defaults = &loaded.footprint.defaults;
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        model: ModelInfo {
            name: loaded.name.clone(),
            family: loaded.family.clone(),
            default_width: defaults.width,
            default_height: defaults.height,
            vae_factor: loaded.pipeline.size_multiple(),
            embedded: loaded.name == EMBEDDED_NAME,
        },
        threads: rayon::current_num_threads(),
        precision: server.models.precision.to_string(),
        isa: server.models.isa.name_for(server.models.precision.products()).to_string(),
        max_pixels: server.max_pixels,
    })
}

/// What a request may say: the library's table of settings, with the defaults of the loaded model.
#[utoipa::path(get, path = "/api/settings", tag = "api", responses((status = 200, body = [Field])))]
pub(crate) async fn settings(State(server): State<Arc<Server>>) -> Json<Vec<Field>> {
    let loaded = server.models.current();
    Json(fields::list(&loaded.pipeline.defaults(), loaded.pipeline.size_multiple()))
}

/// Settings that suit a kind of model.
#[derive(Serialize, ToSchema)]
pub(crate) struct PresetInfo {
    name: &'static str,
    /// For what it is.
    what: &'static str,
    /// The fields of a request.
    #[schema(value_type = Fields)]
    request: Map<String, Value>,
}

/// The library's presets: settings for models and adapters of few steps.
#[utoipa::path(get, path = "/api/presets", tag = "api", responses((status = 200, body = [PresetInfo])))]
pub(crate) async fn presets() -> Json<Vec<PresetInfo>> {
    let preset = |preset: &Preset| {
        let partial = PartialRequest {
            steps: Some(preset.steps),
            cfg_scale: Some(preset.guidance_scale),
            sampler: Some(preset.sampler.label().to_owned()),
            schedule: preset.schedule.map(|schedule| schedule.label().to_owned()),
            eta: preset.eta,
            ..PartialRequest::default()
        };
        PresetInfo { name: preset.name, what: preset.what, request: partial.to_fields() }
    };
    Json(PRESETS.iter().map(preset).collect())
}
