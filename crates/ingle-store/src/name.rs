//! Names with a tag, as registries of the Ollama kind have them: `[[host/]owner/]model[:tag]`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What is meant where a name leaves it out.
const HOST: &str = TaggedName::HOST;
const OWNER: &str = "library";
const TAG: &str = "latest";
/// Longest part of a name.
const LONGEST: usize = 128;

/// Such a name, with all its parts. Each is a plain word: it may become a part of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaggedName {
    host: String,
    owner: String,
    model: String,
    tag: String,
}

/// What is no such name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a model: `[[host/]owner/]model[:tag]` is needed, of letters, digits, `-`, `_` and `.`"
)]
pub struct NotAName(String);

/// A word that is safe as a part of a path everywhere: it neither begins with a dot nor holds what separates paths.
fn is_plain(part: &str) -> bool {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first && part.len() <= LONGEST && part.as_bytes().iter().all(inside) && !part.ends_with('.')
}

/// The same with a port.
fn is_host(part: &str) -> bool {
    match part.split_once(':') {
        None => is_plain(part),
        Some((host, port)) => {
            is_plain(host)
                && !port.is_empty()
                && port.len() <= 5
                && port.bytes().all(|byte| byte.is_ascii_digit())
        }
    }
}

impl TaggedName {
    /// The host of names without one.
    pub(crate) const HOST: &str = "registry.ollama.ai";

    /// Host, owner, model and tag.
    pub(crate) fn parts(&self) -> (&str, &str, &str, &str) {
        (&self.host, &self.owner, &self.model, &self.tag)
    }

    /// Of all four parts, as they stand in a folder of manifests.
    pub fn of(host: &str, owner: &str, model: &str, tag: &str) -> Option<TaggedName> {
        (is_host(host) && [owner, model, tag].into_iter().all(is_plain)).then(|| TaggedName {
            host: host.into(),
            owner: owner.into(),
            model: model.into(),
            tag: tag.into(),
        })
    }

    /// Where its manifest lies in a folder of manifests.
    pub fn manifest(&self) -> PathBuf {
        [&self.host, &self.owner, &self.model, &self.tag].iter().collect()
    }
}

impl FromStr for TaggedName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<TaggedName, NotAName> {
        let refused = || NotAName(text.chars().take(80).collect());
        // a colon before the last slash belongs to a port
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (text, TAG),
        };
        let parts: Vec<&str> = path.split('/').collect();
        let name = match parts[..] {
            [model] => TaggedName::of(HOST, OWNER, model, tag),
            [owner, model] => TaggedName::of(HOST, owner, model, tag),
            [host, owner, model] => TaggedName::of(host, owner, model, tag),
            _ => None,
        };
        name.ok_or_else(refused)
    }
}

/// As short as it is understood.
impl fmt::Display for TaggedName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.host != HOST {
            write!(f, "{}/{}/", self.host, self.owner)?;
        } else if self.owner != OWNER {
            write!(f, "{}/", self.owner)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_short_as_they_are_understood() {
        for (text, shown) in [
            ("qwen3", "qwen3:latest"),
            ("qwen3:4b", "qwen3:4b"),
            ("ann/poet:q4_K_M", "ann/poet:q4_K_M"),
            ("registry.ollama.ai/library/qwen3:4b", "qwen3:4b"),
            ("hf.co/Qwen/Qwen3-4B-GGUF:Q8_0", "hf.co/Qwen/Qwen3-4B-GGUF:Q8_0"),
            ("localhost:5000/ann/poet", "localhost:5000/ann/poet:latest"),
        ] {
            let name: TaggedName = text.parse().unwrap();
            assert_eq!(name.to_string(), shown);
            assert_eq!(shown.parse::<TaggedName>().unwrap(), name);
            assert_eq!(name.manifest().components().count(), 4, "{text}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_name() {
        let long = "a".repeat(LONGEST + 1);
        for wrong in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "..",
            "../a",
            "a/..",
            "a:..",
            "a/../../b",
            "a:b/c",
            ".a",
            "a\\b",
            "a b",
            "a\0",
            "a:",
            "é",
            "a/b/c/d",
            "host:99999999/a/b",
            "host:/a/b",
            "a.",
            "-a",
            &long,
        ] {
            assert!(wrong.parse::<TaggedName>().is_err(), "{wrong:?}");
        }
    }
}
