//! From a file's metadata to a [`ModelSpec`]: one file per family, and nothing else here knows a family's name.

mod base;
mod bert;
mod bind;
mod deepseek;
mod gemma;
mod gemma4;
mod gpt_oss;
mod grouped;
mod keys;
mod layers;
mod names;
mod place;
mod pooling;
mod qwen;
mod qwen_hybrid;
mod qwen_moe;
mod rope;
#[cfg(test)]
mod tests;
mod validate;

use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::source::{Source, SourceKind, TensorInfo};
use crate::spec::{ModelSpec, Need, Pooling};
use place::Places;

/// The two spellings a model's header comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// GGUF metadata keys and tensor names.
    Gguf,
    /// Hugging Face `config.json` keys and hub tensor names.
    Hub,
}

/// What a family's description is made from.
pub struct Header<'a> {
    /// Which spelling.
    pub dialect: Dialect,
    /// GGUF metadata, or the flattened `config.json`.
    pub keys: &'a Metadata,
    /// Every tensor in the file.
    pub tensors: &'a [TensorInfo],
}

/// A family of networks: the architectures it answers to and how it describes them.
struct Family {
    /// `general.architecture` values.
    gguf: &'static [&'static str],
    /// `architectures` values of `config.json`.
    hub: &'static [&'static str],
    /// Builds the description, tensors not yet bound.
    describe: fn(&Header, architecture: &str) -> Result<ModelSpec>,
    /// Where a needed tensor may lie in the file.
    places: fn(Dialect, &ModelSpec, &Need) -> Places,
}

const FAMILIES: &[Family] = &[
    qwen::FAMILY,
    qwen_moe::FAMILY,
    qwen_hybrid::FAMILY,
    gemma::FAMILY,
    gemma4::FAMILY,
    gpt_oss::FAMILY,
    deepseek::FAMILY,
    bert::FAMILY,
];

/// GGUF architectures of which only the checkpoints are read.
const FOLDERS_ONLY: &[&str] = &[gemma4::GGUF];

/// Describes the network in an opened model and binds its tensors.
///
/// Fails when the architecture is unknown, a key is missing or absurd, or a tensor the network needs is missing or
/// of another shape.
pub fn describe(source: &Source) -> Result<ModelSpec> {
    let flattened;
    let (dialect, keys) = match source.kind {
        SourceKind::Gguf => (Dialect::Gguf, &source.metadata),
        SourceKind::HuggingFace => {
            flattened = Metadata::from_json(&source.config);
            (Dialect::Hub, &flattened)
        }
    };
    let pooling = pooling::from_folder(source)?;
    describe_with(&Header { dialect, keys, tensors: source.tensors() }, pooling)
}

/// Describes the network of a header.
pub fn describe_header(header: &Header) -> Result<ModelSpec> {
    describe_with(header, None)
}

/// Describes the network of a header and what comes after it.
fn describe_with(header: &Header, pooling: Option<Pooling>) -> Result<ModelSpec> {
    let (family, mut spec) = unbound(header, pooling)?;
    bind::bind(&mut spec, header, family.places)?;
    Ok(spec)
}

/// The network of a header, its tensors not yet looked for.
fn unbound(header: &Header, pooling: Option<Pooling>) -> Result<(&'static Family, ModelSpec)> {
    let architecture = architecture(header)?;
    if header.dialect == Dialect::Gguf && FOLDERS_ONLY.contains(&architecture.as_str()) {
        let what = format!(
            "is `{architecture}`, of which this version reads no GGUF files; use the model's original folder \
             (config.json and safetensors), which it does read"
        );
        return Err(Error::metadata("general.architecture", what));
    }
    let family = FAMILIES
        .iter()
        .find(|family| match header.dialect {
            Dialect::Gguf => family.gguf.contains(&architecture.as_str()),
            Dialect::Hub => family.hub.contains(&architecture.as_str()),
        })
        .ok_or_else(|| Error::UnknownArchitecture {
            architecture: architecture.clone(),
            known: known(header.dialect).join(", "),
        })?;
    let mut spec = (family.describe)(header, &architecture)?;
    spec.pooling = match pooling {
        None => pooling::from_header(header, &architecture)?,
        stated => stated,
    };
    pooling::drop_head(&mut spec, header, &architecture);
    validate::validate(&spec)?;
    Ok((family, spec))
}

/// The architectures that can be described, in the spelling of a dialect.
pub fn known(dialect: Dialect) -> Vec<&'static str> {
    let names = FAMILIES.iter().flat_map(|family| match dialect {
        Dialect::Gguf => family.gguf,
        Dialect::Hub => family.hub,
    });
    names.copied().collect()
}

fn architecture(header: &Header) -> Result<String> {
    let keys = header.keys;
    match header.dialect {
        Dialect::Gguf => {
            let key = "general.architecture";
            Ok(keys.required(key, keys.string(key)?)?.to_owned())
        }
        Dialect::Hub => {
            let key = "architectures";
            let list = keys.required(key, keys.strings(key)?)?;
            let first = list.get(0).map(str::to_owned);
            first.ok_or_else(|| Error::metadata(key, "is empty; it must name the network"))
        }
    }
}
