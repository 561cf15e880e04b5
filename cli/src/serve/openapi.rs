//! The description of the interface, OpenAPI 3.1: made of the routes and their types.

use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// What the description says beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "aquatint",
        description = "Stable Diffusion on a CPU. `/api` is this program's own interface, `/sdapi/v1` that of A1111's web UI, `/v1` that of OpenAI for pictures.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    modifiers(&ApiKey),
    security((), ("key" = [])),
    tags(
        (name = "jobs", description = "Pictures that are made, and those that were made."),
        (name = "api", description = "What this server has, and what a request may say."),
        (name = "a1111", description = "The interface of A1111's web UI, as far as its clients ask for it."),
        (name = "openai", description = "The interface of OpenAI for pictures.")
    )
)]
struct Description;

/// The API key, which only some servers ask for.
struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// The description without routes.
pub(crate) fn document() -> Document {
    Description::openapi()
}
