//! What is asked of the Hub's server: two questions and the files.
//!
//! ```text
//! GET  /api/models/org/name/revision/main          the commit, and the names of its files
//! HEAD /org/name/resolve/COMMIT/file               X-Linked-Etag, X-Linked-Size: hash and length
//! GET  /org/name/resolve/COMMIT/file               bytes, perhaps of another server; Range: bytes=n-
//! ```
//!
//! **Why this and not crate `hf-hub`:** its 0.4 needs OpenSSL for blocking requests, knows no
//! `HF_HUB_OFFLINE` and compares no hash; its 1.0 is asynchronous and brings 235 crates (reqwest,
//! tokio, Xet, AWS-LC). `ureq` with rustls is 25 crates and no runtime, and the protocol is these
//! three lines.
//!
//! The token goes to the server of the endpoint only, never to one that it points to.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::{HubId, HubSettings};
use crate::error::Error;

/// The most times that a server may point elsewhere.
const REDIRECTS: usize = 8;
/// The longest list of files, in bytes.
const LONGEST_LIST: u64 = 32 << 20;
/// A connection on which nothing comes for so long is dead.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection to the Hub.
pub(super) struct Client<'a> {
    settings: &'a HubSettings,
    agent: Agent,
}

/// The files of a repository at a commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) names: Vec<String>,
}

/// What the server says of a file before it sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileInfo {
    pub(super) name: String,
    /// SHA-256 for large files, git's hash for others.
    pub(super) hash: String,
    pub(super) size: u64,
}

impl FileInfo {
    /// The SHA-256 of the content, if that is what its hash is.
    pub(super) fn sha256(&self) -> Option<&str> {
        Some(&*self.hash).filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// A file on its way.
pub(super) struct Download {
    /// Its first byte is this one of the file.
    pub(super) start: u64,
    pub(super) bytes: Box<dyn Read>,
}

/// Why a request failed.
pub(super) enum Failure {
    /// Asking again may help: the reason, and how long the server wants one to wait.
    Passing(String, Option<Duration>),
    Final(Error),
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .accept_encoding("identity") // lengths and ranges are those of the files
            .user_agent(concat!("aquatint/", env!("CARGO_PKG_VERSION")));
        Self { settings, agent: config.build().new_agent() }
    }

    /// The commit and the files that an id means.
    pub(super) fn list(&self, id: &HubId) -> Result<Listing, Failure> {
        let path = format!("/api/models/{}/revision/{}", id.repository, encoded(&id.revision, ""));
        let mut response = self.ask(id, "GET", &path, None, true)?;
        let text = response.body_mut().with_config().limit(LONGEST_LIST).read_to_string().map_err(passing)?;
        let unexpected = |what: &str| {
            let text: String = text.chars().take(80).collect();
            Failure::Final(self.error(id, format_args!("its list of files has no {what}: {text}")))
        };
        let list: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let commit =
            list["sha"].as_str().filter(|commit| is_word(commit)).ok_or_else(|| unexpected("`sha`"))?;
        let files = list["siblings"].as_array().ok_or_else(|| unexpected("`siblings`"))?;
        let names = files.iter().filter_map(|file| file["rfilename"].as_str());
        let names = names.filter(|name| super::stays_inside(name)).map(str::to_owned).collect();
        Ok(Listing { commit: commit.to_owned(), names })
    }

    /// Hash and length of a file.
    pub(super) fn info(&self, id: &HubId, commit: &str, name: &str) -> Result<FileInfo, Failure> {
        let response = self.ask(id, "HEAD", &file_path(id, commit, name), None, false)?;
        let header = |names: [&str; 2]| names.iter().find_map(|name| text(response.headers(), name));
        let hash =
            header(["x-linked-etag", "etag"]).map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let size = header(["x-linked-size", "content-length"]).and_then(|size| size.parse().ok());
        match (hash.filter(|hash| is_word(hash)), size) {
            (Some(hash), Some(size)) => Ok(FileInfo { name: name.to_owned(), hash: hash.to_owned(), size }),
            (hash, size) => Err(Failure::Final(self.error(
                id,
                format_args!(
                    "the server says neither hash nor length of `{name}` (ETag {hash:?}, length {size:?})"
                ),
            ))),
        }
    }

    /// The bytes of a file from number `from` on, or all if the server cannot skip any.
    pub(super) fn file(&self, id: &HubId, commit: &str, name: &str, from: u64) -> Result<Download, Failure> {
        let response = self.ask(id, "GET", &file_path(id, commit, name), Some(from), true)?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text(response.headers(), "content-range").unwrap_or_default();
                let start = range.trim_start_matches("bytes ").split('-').next().and_then(|n| n.parse().ok());
                start.filter(|&start| start <= from).ok_or_else(|| {
                    let message =
                        format_args!("asked for `{name}` from byte {from}, the server sends `{range}`");
                    Failure::Final(self.error(id, message))
                })?
            }
            _ => 0,
        };
        Ok(Download { start, bytes: Box::new(response.into_body().into_reader()) })
    }

    /// Asks, and follows where the server points: to itself, and if `elsewhere` to others.
    fn ask(
        &self,
        id: &HubId,
        method: &str,
        path: &str,
        from: Option<u64>,
        elsewhere: bool,
    ) -> Result<Response<Body>, Failure> {
        let mut address = format!("{}{path}", self.settings.endpoint);
        for _ in 0..=REDIRECTS {
            let own = origin(&address) == origin(&self.settings.endpoint);
            let mut request =
                if method == "HEAD" { self.agent.head(&address) } else { self.agent.get(&address) };
            if let Some(token) = self.settings.token.as_ref().filter(|_| own) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(from) = from.filter(|&from| from > 0) {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| self.unreachable(&address, error))?;
            let status = response.status();
            if !status.is_redirection() {
                return self.checked(id, response);
            }
            let next = text(response.headers(), "location").map(|next| joined(&address, next));
            let next = next.filter(|next| next.starts_with("https://") || !address.starts_with("https://"));
            let Some(next) = next else {
                return Err(Failure::Final(
                    self.error(id, format_args!("{status} leads to no safe address")),
                ));
            };
            if !elsewhere && origin(&next) != origin(&self.settings.endpoint) {
                return Ok(response);
            }
            address = next;
        }
        Err(Failure::Final(self.error(id, "the server points from one address to the next without end")))
    }

    fn checked(&self, id: &HubId, response: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = response.status();
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        let repository = &id.repository;
        let refused = |message: String| Err(Failure::Final(self.error(id, message)));
        match (status.as_u16(), code) {
            (200..=299, _) => Ok(response),
            (_, "GatedRepo") => refused(format!(
                "its owner asks for agreement: give it on {}/{repository}, and set HF_TOKEN to your token",
                self.settings.endpoint
            )),
            (_, "RevisionNotFound") => refused(format!("it has no revision `{}`", id.revision)),
            (404, "EntryNotFound") => refused("it has no such file".to_owned()),
            (401 | 403 | 404, _) => refused(match self.settings.token {
                None => format!(
                    "there is none of this name for everyone ({status}); if it is private, set HF_TOKEN"
                ),
                Some(_) => format!("there is none of this name for the owner of HF_TOKEN ({status})"),
            }),
            (408 | 429 | 500..=599, _) => {
                let wait = text(response.headers(), "retry-after").and_then(|wait| wait.parse().ok());
                Err(Failure::Passing(format!("the server says {status}"), wait.map(Duration::from_secs)))
            }
            _ => refused(format!("the server says {status}")),
        }
    }

    fn unreachable(&self, address: &str, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::InvalidProxyUrl
            | ureq::Error::Tls(_) => Failure::Final(Error::model(format_args!("`{address}`: {error}"))),
            error => Failure::Passing(format!("{} cannot be reached: {error}", origin(address)), None),
        }
    }

    fn error(&self, id: &HubId, message: impl std::fmt::Display) -> Error {
        Error::model(format_args!("`{}` on {}: {message}", id.repository, self.settings.endpoint))
    }
}

fn passing(error: impl std::fmt::Display) -> Failure {
    Failure::Passing(error.to_string(), None)
}

fn file_path(id: &HubId, commit: &str, name: &str) -> String {
    format!("/{}/resolve/{}/{}", id.repository, encoded(commit, ""), encoded(name, "/"))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A hash or a commit: it becomes the name of a file.
fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Percent-encoded, but for letters, digits and what is in `kept`.
fn encoded(text: &str, kept: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.as_bytes().contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// `https://host:port` of an address.
fn origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |at| at + 3);
    address[host..].find(['/', '?', '#']).map_or(address, |end| &address[..host + end])
}

/// Where `next` leads to from `address`.
fn joined(address: &str, next: &str) -> String {
    match next {
        next if next.contains("://") => next.to_owned(),
        next if next.starts_with("//") => format!("{}:{next}", address.split(':').next().unwrap_or("https")),
        next if next.starts_with('/') => format!("{}{next}", origin(address)),
        next => format!("{}/{next}", address.rsplit_once('/').map_or(address, |(folder, _)| folder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_joined_and_encoded() {
        assert_eq!(origin("https://a.b:1/c/d?e"), "https://a.b:1");
        assert_eq!(origin("https://a.b"), "https://a.b");
        let from = "https://a.b/c/d";
        for (next, expected) in [
            ("/e", "https://a.b/e"),
            ("https://x/y", "https://x/y"),
            ("//x/y", "https://x/y"),
            ("e?f", "https://a.b/c/e?f"),
        ] {
            assert_eq!(joined(from, next), expected);
        }
        assert_eq!(encoded("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(encoded("unet/a b#.json", "/"), "unet/a%20b%23.json");
        assert!(is_word("0123abcd") && !is_word("../x") && !is_word(""));
    }
}
