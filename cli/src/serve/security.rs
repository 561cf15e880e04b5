//! Who may ask, and what a browser may do with the answers.
//!
//! | attack | what is done |
//! |---|---|
//! | another machine | the address is loopback unless there is an API key |
//! | DNS rebinding: a site's name that points here | `Host` must be an address, localhost, or a name that was given |
//! | CSRF: another site's page sends a request | `Origin` and `Sec-Fetch-Site` must be ours or allowed |
//! | reading answers from another site | no CORS headers, unless `--cors` names the site |
//! | scripts in a page | a content security policy without inline code or other hosts |
//! | guessing the key | compared in constant time |
//!
//! An API key comes as `Authorization: Bearer KEY`, as the password of HTTP's basic scheme (A1111's
//! clients), as `X-API-Key`, or in the cookie that `POST /api/session` gives a browser.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::serve::error::ApiError;

/// The cookie with the API key.
pub(crate) const COOKIE: &str = "aquatint-key";

/// What may be had without a key: the page, which asks for one, and what says that the server is
/// there.
const OPEN: [&str; 4] = ["/", "/health", "/api/session", "/favicon.ico"];
const OPEN_FOLDER: &str = "/page/";

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// Who may ask.
pub(crate) struct Access {
    /// Names under which the server is reached, beside addresses and localhost.
    pub(crate) hosts: Vec<String>,
    /// Other sites whose pages may ask: `https://example.org`.
    pub(crate) origins: Vec<String>,
    pub(crate) key: Option<String>,
}

impl Access {
    /// Whether this is the key. Takes as long for every wrong one of a length.
    pub(crate) fn is_key(&self, given: &str) -> bool {
        let Some(key) = &self.key else { return true };
        let difference = key.bytes().zip(given.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        key.len() == given.len() && std::hint::black_box(difference) == 0
    }

    /// Whether the request's `Host` is one of ours.
    fn knows_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        // An address cannot be made to point elsewhere.
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name))
    }

    /// Whether a page of this origin may change something here.
    fn knows_origin(&self, origin: &str, host: &str) -> bool {
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        own || self.origins.iter().any(|known| known == origin)
    }

    /// Why a request is refused, if it is.
    fn refusal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<ApiError> {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let forbidden = |message: String| Some(ApiError::new(StatusCode::FORBIDDEN, message));
        let host =
            text(header::HOST).or(uri.authority().map(|authority| authority.as_str())).unwrap_or_default();
        if !self.knows_host(host) {
            return forbidden(format!(
                "the host `{}` is not this server's name; say --allow-host NAME if it is meant to be",
                aquatint_model::error::printable(host)
            ));
        }
        let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        let origin = text(header::ORIGIN);
        let foreign = match (origin, text(HeaderName::from_static("sec-fetch-site"))) {
            (Some(origin), _) => !self.knows_origin(origin, host),
            (None, site) => site == Some("cross-site"),
        };
        if foreign && !reads {
            return forbidden(
                "a page of another site may not send this; say --cors ORIGIN if it is meant to".into(),
            );
        }
        let open = OPEN.contains(&uri.path()) || uri.path().starts_with(OPEN_FOLDER);
        if !open && method != Method::OPTIONS && !self.has_key(headers) {
            return Some(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "this server asks for its API key: Authorization: Bearer KEY",
            ));
        }
        None
    }

    /// Whether a request brings the key.
    fn has_key(&self, headers: &HeaderMap) -> bool {
        if self.key.is_none() {
            return true;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = text("authorization").and_then(|value| value.split_once(' '));
        let authorized =
            authorization.is_some_and(|(scheme, value)| match scheme.to_ascii_lowercase().as_str() {
                "bearer" => self.is_key(value.trim()),
                "basic" => {
                    let decoded =
                        base64::decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                    decoded.is_some_and(|text| text.split_once(':').is_some_and(|(_, key)| self.is_key(key)))
                }
                _ => false,
            });
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies =
            cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        authorized
            || text("x-api-key").is_some_and(|key| self.is_key(key))
            || cookies.any(|(name, value)| name == COOKIE && self.is_cookie(value))
    }

    /// What the cookie holds: the key in base64, since a key may have signs that a cookie may not.
    pub(crate) fn cookie(&self) -> String {
        let value = base64::encode_config(self.key.as_deref().unwrap_or_default(), base64::URL_SAFE_NO_PAD);
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict")
    }

    fn is_cookie(&self, value: &str) -> bool {
        let decoded = base64::decode_config(value, base64::URL_SAFE_NO_PAD).ok();
        decoded.and_then(|bytes| String::from_utf8(bytes).ok()).is_some_and(|key| self.is_key(&key))
    }
}

/// Refuses, or lets through and adds the headers.
pub(crate) async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match access.refusal(request.method(), request.uri(), request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        let own = HeaderValue::from_static("same-origin");
        headers.insert(HeaderName::from_static("cross-origin-resource-policy"), own);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
