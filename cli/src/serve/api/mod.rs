//! `/api`: what the page asks for, and programs that want to follow their jobs.

pub(crate) mod estimate;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod images;
pub(crate) mod info;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod png_info;
pub(crate) mod session;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::server::Server;

/// All routes of `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(info::info))
        .routes(routes!(info::settings))
        .routes(routes!(info::presets))
        .routes(routes!(models::list))
        .routes(routes!(models::choose))
        .routes(routes!(models::loras))
        .routes(routes!(models::embeddings))
        .routes(routes!(estimate::estimate))
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::get, jobs::remove))
        .routes(routes!(events::of_job))
        .routes(routes!(events::of_all))
        .routes(routes!(explain::explain))
        .routes(routes!(explain::preview))
        .routes(routes!(images::image))
        .routes(routes!(png_info::png_info))
        .routes(routes!(session::open))
}
