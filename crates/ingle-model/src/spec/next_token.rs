//! Blocks that predict further tokens (multi-token prediction, DeepSeek-V3 report, section 2.2): one more layer, fed with
//! the trunk's last hidden row and the next token's embedding.
//!
//! `x = join(concat(norm(embedding of the next token), norm(hidden row)))`, then the layer, then a norm of its own and the
//! model's head. The hidden row is taken after the model's final norm. So the row at position `p` and the token at `p + 1`
//! give the logits of the token at `p + 2`.

use super::tensors::{join_needs, layer_needs};
use super::{Embedding, LayerSpec, ModelSpec, Need, Norm, Role, TensorSpec};

/// One such block. Its tensors count as those of layer `layers + index`.
#[derive(Clone, Debug, PartialEq)]
pub struct NextTokenBlock {
    /// The layer inside.
    pub layer: LayerSpec,
    /// Of the embedding, of the hidden row, and before the head.
    pub norm: Norm,
}

impl ModelSpec {
    /// What the further-token blocks need beside the model itself; the plain forward pass needs none of it.
    pub fn next_token_needs(&self) -> Vec<Need> {
        let mut needs = Vec::new();
        for (index, block) in self.next_token.iter().enumerate() {
            let mut shapes = join_needs(self.hidden);
            shapes.extend(layer_needs(&block.layer, self.hidden));
            shapes.push((Role::NextFinalNorm, vec![self.hidden]));
            let layer = Some(self.layers.len() + index);
            needs.extend(shapes.into_iter().map(|(role, shape)| Need { role, layer, shape }));
        }
        needs
    }

    /// The first further-token block as a network of its own, of one layer, whose embedding is
    /// [joined](Embedding::joined) by the model's hidden rows. Embedding and head are the model's. `None` where the files
    /// have no such block.
    pub fn next_token_network(&self) -> Option<ModelSpec> {
        let block = self.next_token.first()?;
        let mut network = ModelSpec {
            embedding: Embedding { joined: Some(block.norm), ..self.embedding },
            layers: vec![block.layer.clone()],
            final_norm: Some(block.norm),
            next_token: Vec::new(),
            next_token_tensors: Vec::new(),
            tensors: Vec::new(),
            unused: Vec::new(),
            notices: Vec::new(),
            ..self.clone()
        };
        let own = Some(self.layers.len());
        let needs = network.needs().into_iter();
        let bound = needs.map(|Need { role, layer, .. }| {
            let from = if role == Role::FinalNorm { Role::NextFinalNorm } else { role };
            let found =
                self.next_token_tensors.iter().find(|tensor| (tensor.role, tensor.layer) == (from, own));
            let tensor = found.or_else(|| self.tensor(role, None))?.clone();
            Some(TensorSpec { role, layer, ..tensor })
        });
        network.tensors = bound.collect::<Option<_>>()?;
        Some(network)
    }

    /// Bytes that this network needs beside the model.
    pub fn next_token_bytes(&self) -> u64 {
        let own = Some(self.layers.len());
        self.next_token_tensors.iter().filter(|tensor| tensor.layer == own).map(TensorSpec::bytes).sum()
    }

    /// A layer by its number, further-token blocks counted after the others.
    pub fn layer(&self, index: usize) -> Option<&LayerSpec> {
        let further = || self.next_token.get(index.checked_sub(self.layers.len())?);
        self.layers.get(index).or_else(|| further().map(|block| &block.layer))
    }
}
