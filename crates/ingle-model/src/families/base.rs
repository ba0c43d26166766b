//! What every network has: its widths, its head, its layers' number, and how these are read from both spellings.

use super::keys::Keys;
use super::{Dialect, names};
use crate::error::{Error, Result};
use crate::metadata::Metadata;
use crate::spec::{Embedding, Head, LayerSpec, ModelSpec, NextTokenBlock, Norm, Rope};

/// The common part of a description.
pub(super) struct Base {
    pub(super) name: Option<String>,
    pub(super) hidden: usize,
    pub(super) vocabulary: usize,
    pub(super) context: usize,
    /// Layers of the plain forward pass.
    pub(super) layers: usize,
    /// Blocks after them that predict further tokens.
    pub(super) next_token: usize,
    pub(super) epsilon: f32,
    pub(super) tied: bool,
    pub(super) head_bias: bool,
}

/// What a family's configuration class supplies where `config.json` is silent.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub(super) context: Option<usize>,
    pub(super) epsilon: f64,
    pub(super) tied: bool,
}

impl Base {
    pub(super) fn read(keys: &Keys, defaults: Defaults) -> Result<Base> {
        match keys.dialect {
            Dialect::Gguf => Base::from_gguf(keys),
            Dialect::Hub => Base::from_hub(keys, defaults),
        }
    }

    fn from_gguf(keys: &Keys) -> Result<Base> {
        let blocks = plausible_layers(keys, "block_count", keys.required("block_count")?)?;
        let next_token = keys.count("nextn_predict_layers")?.unwrap_or(0);
        let layers = blocks.checked_sub(next_token).filter(|&layers| layers > 0).ok_or_else(|| {
            let what = format!("says {next_token}, but there are {blocks} blocks in all");
            Error::metadata(keys.full("nextn_predict_layers"), what)
        })?;
        Ok(Base {
            name: keys.outer().string("general.name")?.map(str::to_owned),
            hidden: keys.required("embedding_length")?,
            vocabulary: vocabulary(keys, "token_embd.weight")?,
            context: keys.required("context_length")?,
            layers,
            next_token,
            epsilon: keys.required_float("attention.layer_norm_rms_epsilon")? as f32,
            tied: !keys.has("output.weight"),
            head_bias: keys.has("output.bias"),
        })
    }

    fn from_hub(keys: &Keys, defaults: Defaults) -> Result<Base> {
        known_quantisation(keys.outer())?;
        let context = keys.count("max_position_embeddings")?;
        let context = match defaults.context {
            Some(known) => keys.or_assume("max_position_embeddings", context, known),
            None => keys.required("max_position_embeddings")?,
        };
        let epsilon = keys.float("rms_norm_eps")?;
        Ok(Base {
            name: keys.outer().string("_name_or_path")?.filter(|name| !name.is_empty()).map(str::to_owned),
            hidden: keys.required("hidden_size")?,
            vocabulary: vocabulary(keys, &names::placed("model.embed_tokens.weight", keys.trunk()))?,
            context,
            layers: plausible_layers(keys, "num_hidden_layers", keys.required("num_hidden_layers")?)?,
            next_token: 0,
            epsilon: keys.or_assume("rms_norm_eps", epsilon, defaults.epsilon) as f32,
            tied: tied(keys, defaults.tied)?,
            head_bias: false,
        })
    }

    /// The finished description, tensors not yet bound.
    pub(super) fn spec(self, keys: &Keys, architecture: &str, rest: Rest) -> ModelSpec {
        ModelSpec {
            architecture: architecture.to_owned(),
            name: self.name,
            hidden: self.hidden,
            vocabulary: self.vocabulary,
            context: self.context,
            embedding: Embedding::scaled(rest.embedding_scale),
            layers: rest.layers,
            ropes: rest.ropes,
            final_norm: Some(rest.final_norm),
            head: Some(Head { tied: self.tied, bias: self.head_bias, soft_cap: rest.head_soft_cap }),
            pooling: None,
            next_token: rest.next_token,
            tensors: Vec::new(),
            next_token_tensors: Vec::new(),
            unused: Vec::new(),
            notices: keys.notices(),
        }
    }
}

/// What a family adds to the common part.
pub(super) struct Rest {
    pub(super) embedding_scale: f32,
    pub(super) layers: Vec<LayerSpec>,
    pub(super) ropes: Vec<Rope>,
    pub(super) final_norm: Norm,
    pub(super) head_soft_cap: Option<f32>,
    pub(super) next_token: Vec<NextTokenBlock>,
}

/// A layer has several tensors, so more layers than tensors is a lie; refused before anything is sized by it.
fn plausible_layers(keys: &Keys, key: &str, layers: usize) -> Result<usize> {
    let tensors = keys.tensor_count();
    if layers == 0 || layers > tensors {
        let what = format!("says {layers} layers, but the file has {tensors} tensors");
        return Err(Error::metadata(keys.full(key), what));
    }
    Ok(layers)
}

/// Rows of the embedding matrix; a stated vocabulary must be theirs.
fn vocabulary(keys: &Keys, embedding: &str) -> Result<usize> {
    let rows = match keys.tensor(embedding).map(|tensor| &tensor.shape[..]) {
        Some([rows, _]) => *rows,
        Some(_) => return Err(Error::tensor(embedding, "must have two dimensions")),
        None => return Err(Error::tensor(embedding, "is missing from the file, and the network needs it")),
    };
    match keys.count("vocab_size")?.filter(|&stated| stated != rows) {
        None => Ok(rows),
        Some(stated) => {
            let what = format!("says {stated}, but `{embedding}` has {rows} rows");
            Err(Error::metadata(keys.full("vocab_size"), what))
        }
    }
}

/// Whether the embedding serves as the head. Multimodal files may say so at two levels; where they say nothing, the
/// head's own matrix is there or not.
fn tied(keys: &Keys, default: bool) -> Result<bool> {
    let head = keys.has("lm_head.weight") || keys.has("language_model.lm_head.weight");
    let inner = keys.flag("tie_word_embeddings")?;
    let outer = keys.outer().flag("tie_word_embeddings")?;
    match (inner, outer) {
        (Some(inner), Some(outer)) if inner != outer => {
            keys.notice(format!(
                "`tie_word_embeddings` is {outer} in config.json and {inner} in its text_config; the head's own \
                 matrix is {}, which decides",
                if head { "there" } else { "missing" }
            ));
            Ok(!head)
        }
        (Some(tied), _) | (None, Some(tied)) => Ok(tied),
        (None, None) if head == default => {
            keys.or_assume("tie_word_embeddings", None, !head);
            Ok(!head)
        }
        (None, None) => Ok(default),
    }
}

/// Checkpoints quantised in ways nobody here can undo would otherwise fail on a tensor's name or shape, unexplained.
fn known_quantisation(config: &Metadata) -> Result<()> {
    for key in ["quantization_config.quant_method", "text_config.quantization_config.quant_method"] {
        match config.string(key)? {
            None | Some("fp8" | "mxfp4") => {}
            Some(other) => {
                let what = format!(
                    "is `{}`; supported here: fp8, mxfp4, or no quantisation; use the original checkpoint or a GGUF \
                     file of this model",
                    crate::error::printable(other)
                );
                return Err(Error::metadata(key, what));
            }
        }
    }
    Ok(())
}
