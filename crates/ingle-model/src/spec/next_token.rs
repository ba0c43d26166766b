//! Blocks that predict further tokens (multi-token prediction): one more layer, fed with the trunk's last hidden row and
//! the next token's embedding.
//!
//! `x = join(concat(norm(embedding of the next token), norm(hidden row)))`, then the layer, then a norm of its own and the
//! model's head. The hidden row is taken after the model's final norm.

use super::tensors::layer_needs;
use super::{LayerSpec, ModelSpec, Need, Norm, Role};

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
            let mut shapes = vec![
                (Role::NextEmbeddingNorm, vec![self.hidden]),
                (Role::NextHiddenNorm, vec![self.hidden]),
                (Role::NextJoin, vec![self.hidden, 2 * self.hidden]),
            ];
            shapes.extend(layer_needs(&block.layer, self.hidden));
            shapes.push((Role::NextFinalNorm, vec![self.hidden]));
            let layer = Some(self.layers.len() + index);
            needs.extend(shapes.into_iter().map(|(role, shape)| Need { role, layer, shape }));
        }
        needs
    }

    /// A layer by its number, further-token blocks counted after the others.
    pub fn layer(&self, index: usize) -> Option<&LayerSpec> {
        let further = || self.next_token.get(index.checked_sub(self.layers.len())?);
        self.layers.get(index).or_else(|| further().map(|block| &block.layer))
    }
}
