//! `/sdapi/v1`: the interface of A1111's web UI, as far as its clients ask for it.
//!
//! | asked for by | routes |
//! |---|---|
//! | everybody | txt2img, img2img, progress, interrupt, skip, options, sd-models, samplers |
//! | Krita's plug-ins | upscalers, loras, embeddings, cmd-flags, extra-single-image, png-info |
//! | `webuiapi` | the same, and schedulers, sd-vae, memory, refresh, unload, reload, scripts, … |
//!
//! Prompts are read as A1111 reads them, unless a request says otherwise (`prompt_syntax`). What
//! this program does not have is refused by name; what changes nothing is taken.

pub(crate) mod draw;
pub(crate) mod extras;
pub(crate) mod lists;
pub(crate) mod options;
pub(crate) mod progress;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::server::Server;

/// All routes of `/sdapi`.
pub(crate) fn routes() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(draw::txt2img))
        .routes(routes!(draw::img2img))
        .routes(routes!(progress::progress))
        .routes(routes!(progress::interrupt))
        .routes(routes!(progress::skip))
        .routes(routes!(options::get, options::set))
        .routes(routes!(options::cmd_flags))
        .routes(routes!(options::memory))
        .routes(routes!(options::unload))
        .routes(routes!(options::reload))
        .routes(routes!(options::refresh_checkpoints))
        .routes(routes!(options::refresh_vae))
        .routes(routes!(options::refresh_loras))
        .routes(routes!(options::refresh_embeddings))
        .routes(routes!(lists::sd_models))
        .routes(routes!(lists::sd_vae))
        .routes(routes!(lists::samplers))
        .routes(routes!(lists::schedulers))
        .routes(routes!(lists::upscalers))
        .routes(routes!(lists::latent_upscale_modes))
        .routes(routes!(lists::loras))
        .routes(routes!(lists::embeddings))
        .routes(routes!(lists::hypernetworks))
        .routes(routes!(lists::face_restorers))
        .routes(routes!(lists::realesrgan_models))
        .routes(routes!(lists::prompt_styles))
        .routes(routes!(lists::scripts))
        .routes(routes!(lists::script_info))
        .routes(routes!(extras::single))
        .routes(routes!(extras::batch))
        .routes(routes!(extras::png_info))
}
