//! Where models are looked for.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where models are looked for, and how they are fetched. Its `Debug` form leaves the token out.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubOptions {
    /// The hub's cache, with a folder `models--owner--name` for each model.
    pub cache: PathBuf,
    /// Ferrite's own cache, for models out of Python packages.
    pub packages: PathBuf,
    /// The address of the hub or of a mirror; if absent, the hub's own.
    pub endpoint: Option<String>,
    /// The token for private and gated models.
    pub token: Option<String>,
    /// Whether the network must not be used.
    pub offline: bool,
    /// The Python that has pip.
    pub python: PathBuf,
    /// For how long the hub may be silent before it counts as unreachable.
    pub patience: Duration,
}

impl fmt::Debug for HubOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HubOptions { cache, packages, endpoint, token, offline, python, patience } = self;
        f.debug_struct("HubOptions")
            .field("cache", cache)
            .field("packages", packages)
            .field("endpoint", endpoint)
            .field("token", &token.as_ref().map(|_| "..."))
            .field("offline", offline)
            .field("python", python)
            .field("patience", patience)
            .finish()
    }
}

impl HubOptions {
    /// The options with these two caches, and defaults for the rest, the environment ignored.
    pub fn new(cache: impl Into<PathBuf>, packages: impl Into<PathBuf>) -> HubOptions {
        HubOptions {
            cache: cache.into(),
            packages: packages.into(),
            endpoint: None,
            token: None,
            offline: false,
            python: PathBuf::from(if cfg!(windows) { "python" } else { "python3" }),
            patience: Duration::from_secs(10),
        }
    }

    /// The options that the environment asks for, as the hub's Python client reads it:
    /// - the cache is `HF_HUB_CACHE`, or `HF_HOME/hub`, or `XDG_CACHE_HOME/huggingface/hub`, or
    ///   `~/.cache/huggingface/hub`;
    /// - `HF_ENDPOINT` is the address of a mirror;
    /// - `HF_TOKEN` is the token, or else the file `HF_TOKEN_PATH`, or `token` in `HF_HOME`;
    /// - `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) set to `1`, `on`, `yes` or `true` forbids the
    ///   network.
    ///
    /// Models out of packages are kept in `XDG_CACHE_HOME/ferrite/models`, or
    /// `~/.cache/ferrite/models`.
    pub fn from_env() -> HubOptions {
        HubOptions::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> HubOptions {
        // An empty variable is as good as none.
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| variable(name).map(PathBuf::from);
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());

        let home_cache = || home.unwrap_or_else(std::env::temp_dir).join(".cache");
        let caches = path("XDG_CACHE_HOME").unwrap_or_else(home_cache);
        let hub_home = path("HF_HOME").unwrap_or_else(|| caches.join("huggingface"));
        let hub_cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hub_home.join("token"));
        let token = text("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        let offline = text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE"));

        let cache = hub_cache.unwrap_or_else(|| hub_home.join("hub"));
        HubOptions {
            endpoint: text("HF_ENDPOINT").map(|url| url.trim_end_matches('/').to_owned()),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: offline.is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&&*value.to_ascii_lowercase())
            }),
            ..HubOptions::new(cache, caches.join("ferrite").join("models"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        let find = |name: &str| {
            let (_, value) = variables.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(value))
        };
        HubOptions::from_variables(find, Some(PathBuf::from("/home/me")))
    }

    #[test]
    fn caches_are_where_python_programs_have_them() {
        for (variables, cache) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")], "/c"),
            (&[("HF_HOME", ""), ("HUGGINGFACE_HUB_CACHE", "/c")], "/c"),
        ] {
            assert_eq!(options(variables).cache, PathBuf::from(cache));
        }
        assert_eq!(options(&[]).packages, PathBuf::from("/home/me/.cache/ferrite/models"));
    }

    #[test]
    fn switches_and_addresses_are_read() {
        assert!(!options(&[]).offline);
        for (value, offline) in
            [("1", true), ("True", true), ("0", false), ("", false), ("no", false)]
        {
            assert_eq!(options(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
        let mirror = options(&[("HF_ENDPOINT", "http://localhost:1/"), ("HF_TOKEN", " t\n")]);
        assert_eq!(mirror.endpoint.as_deref(), Some("http://localhost:1"));
        assert_eq!(mirror.token.as_deref(), Some("t"));
    }

    #[test]
    fn the_token_is_not_in_what_a_log_shows() {
        let options = options(&[("HF_TOKEN", "hf_secret")]);
        assert_eq!(options.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{options:?}").contains("hf_secret"));
    }

    #[test]
    fn the_token_may_be_in_a_file() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "secret\n").unwrap();
        let home = home.path().to_str().unwrap();
        assert_eq!(options(&[("HF_HOME", home)]).token.as_deref(), Some("secret"));
    }
}
