//! `/v1`: OpenAI's interface for pictures, as its own package and Open WebUI ask for it.
//!
//! What OpenAI does not have (`seed`, `steps`, `negative_prompt`, …) may be said with the field
//! names of A1111's API, as the `openai` package sends them with `extra_body`.

mod answer;
pub(crate) mod edits;
pub(crate) mod generations;
pub(crate) mod models;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::serve::server::Server;

/// All routes of `/v1`.
pub(crate) fn routes() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(generations::generations))
        .routes(routes!(edits::edits))
        .routes(routes!(models::list))
        .routes(routes!(models::get))
}
