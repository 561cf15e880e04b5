//! Where the Hub and its cache are, as the environment says to all of Hugging Face's libraries.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};

/// How the Hub is reached.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The cache's folder: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// The server: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// Who asks, for models that are not for everyone: `HF_TOKEN`, else what `hf auth login` has
    /// stored in `HF_HOME/token`.
    pub token: Option<String>,
    /// Whether no server is asked: `HF_HUB_OFFLINE` is set.
    pub offline: bool,
    /// The wait before a request that failed is repeated; it doubles each time.
    pub pause: Duration,
}

impl HubSettings {
    /// Those of this process's environment.
    ///
    /// # Errors
    /// If a variable has a value that cannot be meant.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| given(name).map(PathBuf::from);
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| {
                path("HOME").or_else(|| path("USERPROFILE")).map(|home| home.join(".cache/huggingface"))
            })
            .unwrap_or_else(|| PathBuf::from(".cache/huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let text = |name: &str| given(name).map(|value| value.to_string_lossy().trim().to_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::request(format_args!(
                "HF_ENDPOINT is `{endpoint}`; expected an address as https://huggingface.co"
            )));
        }
        let is_set = |name: &str| {
            text(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&&*value.to_uppercase()))
        };
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        Ok(Self {
            cache: cache.unwrap_or_else(|| home.join("hub")),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.or_else(|| stored_token(&token_file)),
            offline: is_set("HF_HUB_OFFLINE") || is_set("TRANSFORMERS_OFFLINE"),
            pause: Duration::from_secs(1),
        })
    }
}

fn stored_token(file: &Path) -> Option<String> {
    let token = std::fs::read_to_string(file).ok()?.trim().to_owned();
    (!token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &'static [(&str, &str)]) -> HubSettings {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        HubSettings::from_variables(value).expect("these can be meant")
    }

    #[test]
    fn the_cache_is_where_hugging_face_has_it() {
        assert_eq!(with(&[("HOME", "/h")]).cache, Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(with(&[("HOME", "/h"), ("HF_HOME", "/f")]).cache, Path::new("/f/hub"));
        assert_eq!(with(&[("HF_HOME", "/f"), ("HF_HUB_CACHE", "/c")]).cache, Path::new("/c"));
        assert_eq!(with(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/f")]).cache, Path::new("/f/hub"));
    }

    #[test]
    fn server_token_and_offline_are_those_of_the_environment() {
        let plain = with(&[("HOME", "/no/such/home")]);
        assert_eq!(
            (plain.endpoint.as_str(), plain.token, plain.offline),
            ("https://huggingface.co", None, false)
        );
        let own = with(&[
            ("HF_ENDPOINT", "http://127.0.0.1:8/"),
            ("HF_TOKEN", " secret\n"),
            ("HF_HUB_OFFLINE", "true"),
        ]);
        assert_eq!((own.endpoint.as_str(), own.offline), ("http://127.0.0.1:8", true));
        assert_eq!(own.token.as_deref(), Some("secret"));
        assert!(!with(&[("HF_HUB_OFFLINE", "0")]).offline);
        let wrong = HubSettings::from_variables(|name| (name == "HF_ENDPOINT").then(|| "hf.co".into()));
        assert!(wrong.is_err_and(|error| error.to_string().contains("HF_ENDPOINT is `hf.co`")));
    }

    #[test]
    fn a_login_is_known() {
        let home = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(home.path().join("token"), "hf_stored\n").expect("writable");
        let own = |name: &str| (name == "HF_HOME").then(|| home.path().into());
        assert_eq!(HubSettings::from_variables(own).expect("plain").token.as_deref(), Some("hf_stored"));
    }
}
