//! `owner/name@revision`, as it may go into a path and an address.

use std::fmt;

use super::error::HubError;

/// A model's name on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelName {
    /// `owner/name`, or a bare `name` of the hub's first days.
    pub(super) id: String,
    /// A branch, a tag or a commit.
    pub(super) revision: String,
}

const MAIN: &str = "main";

impl ModelName {
    pub(super) fn parse(name: &str) -> Result<ModelName, HubError> {
        let invalid = |reason| HubError::InvalidName { name: name.to_owned(), reason };
        let (id, revision) = name.split_once('@').unwrap_or((name, MAIN));
        if id.split('/').count() > 2 || !id.split('/').all(is_component) {
            return Err(invalid("owner/name, of letters, digits, '-', '_' and '.'"));
        }
        if id.contains("--") {
            return Err(invalid("'--' stands for '/' in the cache"));
        }
        if !revision.split('/').all(is_component) {
            return Err(invalid("after '@' a branch, tag or commit"));
        }
        Ok(ModelName { id: id.to_owned(), revision: revision.to_owned() })
    }

    /// Whether this is the newest version.
    pub(super) fn is_main(&self) -> bool {
        self.revision == MAIN
    }

    /// The model's folder in the hub's cache.
    pub(super) fn cache_folder(&self) -> String {
        format!("models--{}", self.id.replace('/', "--"))
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_main() {
            f.write_str(&self.id)
        } else {
            write!(f, "{}@{}", self.id, self.revision)
        }
    }
}

/// A piece of a name that is a harmless file name on every system.
fn is_component(piece: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=96).contains(&piece.len())
        && piece.chars().all(plain)
        && !piece.starts_with(['.', '-'])
        && !piece.ends_with('.')
        && !piece.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let parse = |name| ModelName::parse(name).unwrap();
        let mini = parse("sentence-transformers/all-MiniLM-L6-v2");
        assert_eq!((&*mini.id, mini.is_main()), ("sentence-transformers/all-MiniLM-L6-v2", true));
        assert_eq!(mini.cache_folder(), "models--sentence-transformers--all-MiniLM-L6-v2");
        let old = parse("bert-base-uncased@refs/pr/7");
        assert_eq!((&*old.id, &*old.revision), ("bert-base-uncased", "refs/pr/7"));
        assert_eq!(old.to_string(), "bert-base-uncased@refs/pr/7");
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for name in [
            "", "/", "a/", "/a", "a//b", "a/b/c", "..", "../a", "a/..", "./a", "a/.git", "a\\b",
            "C:\\a", "a b", "ä/b", "a/b@", "a/b@..", "a/b@../x", "a/b@/x", "a/b@x@y", "a/b@x//y",
            "a--b/c", "a/b..c", "a/b?x", "a/b#x", "a/b%2e", "-a/b", "a\0b", "a/b\n",
        ] {
            let error = ModelName::parse(name).unwrap_err();
            assert!(matches!(error, HubError::InvalidName { .. }), "{name:?}: {error}");
        }
        assert!(ModelName::parse(&"a".repeat(97)).is_err());
    }
}
