//! Families against published configurations, against wrong ones, and against the goldens.

mod gemma4;
mod gguf;
mod goldens;
mod published;
mod refused;
mod strange;

use super::{Dialect, Header, describe_header, unbound};
use crate::error::Result;
use crate::format::Format;
use crate::metadata::Metadata;
use crate::source::TensorInfo;
use crate::spec::ModelSpec;
use serde_json::Value;
use std::collections::BTreeMap;

fn tensor(name: &str, shape: &[usize]) -> TensorInfo {
    TensorInfo {
        name: name.to_owned(),
        shape: shape.to_vec(),
        format: Format::BF16,
        file: 0,
        offset: 0,
        bytes: shape.iter().fold(2, |bytes: usize, &size| bytes.saturating_mul(size)),
    }
}

/// A header's tensors, and enough other names that any published number of layers is plausible.
fn with_crowd(tensors: &[TensorInfo]) -> Vec<TensorInfo> {
    let crowd = (0..100).map(|number| tensor(&format!("crowd.{number}"), &[1]));
    tensors.iter().cloned().chain(crowd).collect()
}

/// Describes a network whose file has exactly the tensors it needs, `shown` beside them from the start.
fn described(dialect: Dialect, keys: &Metadata, shown: &[TensorInfo]) -> Result<ModelSpec> {
    let crowd = with_crowd(shown);
    let (family, spec) = unbound(&Header { dialect, keys, tensors: &crowd }, None)?;
    let mut tensors: BTreeMap<String, TensorInfo> =
        shown.iter().map(|tensor| (tensor.name.clone(), tensor.clone())).collect();
    for need in spec.needs().into_iter().chain(spec.next_token_needs()) {
        let places = (family.places)(dialect, &spec, &need);
        for run in places.into_iter().next().expect("a place for every need") {
            let stored = tensor(&run.name, &run.shape);
            tensors.entry(run.name).or_insert(stored);
        }
    }
    let tensors: Vec<TensorInfo> = tensors.into_values().collect();
    describe_header(&Header { dialect, keys, tensors: &tensors })
}

/// A checkpoint's network from its configuration and the rows of its embedding.
fn hub(config: &Value, vocabulary: usize) -> Result<ModelSpec> {
    let text = config.get("text_config").unwrap_or(config);
    let hidden = text["hidden_size"].as_u64().unwrap_or(8) as usize;
    let shown = [tensor("model.embed_tokens.weight", &[vocabulary, hidden])];
    described(Dialect::Hub, &Metadata::from_json(config), &shown)
}
