//! `modules.json` of a sentence-transformers folder: what comes after the network, each module with a folder of its own.

use crate::error::{Error, Result};
use serde_json::Value as Json;

/// One step from a text to its embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `Transformer`, `Pooling`, `Dense`, `Normalize`, ...
    pub kind: String,
    /// Its folder, a plain name; empty for the model's own.
    pub path: String,
}

/// More modules than any published model has.
const MOST: usize = 64;

/// Reads the list. A kind is the last part of a class's dotted name.
pub(super) fn read(json: &Json) -> Result<Vec<Module>> {
    let wrong = |what: &str| Error::metadata("modules.json", what);
    let list = json.as_array().filter(|list| list.len() <= MOST);
    let list = list.ok_or_else(|| wrong("must be a short list of modules"))?;
    let module = |entry: &Json| {
        let kind = entry["type"].as_str().and_then(|kind| kind.rsplit('.').next());
        Some(Module { kind: kind?.to_owned(), path: entry["path"].as_str()?.to_owned() })
    };
    let modules: Option<Vec<Module>> = list.iter().map(module).collect();
    modules.ok_or_else(|| wrong("has a module without `type` or `path`"))
}
