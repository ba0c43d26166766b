//! From bound tensors to a latent attention block.

use super::latent::{IndexerBlock, LatentBlock, QueryPath};
use super::load::{Loader, unsupported};
use crate::attention::latent::up::LatentUp;
use ingle_model::Error;
use ingle_model::executor::ExecutorError;
use ingle_model::spec::{KeyUpLayout, LatentAttention, ModelSpec, NormKind, Role, SparseIndexer};

/// The largest number that 16-bit floats hold.
const LARGEST: f32 = 65_504.0;

impl Loader<'_> {
    /// The mixer of layer `index`.
    pub(super) fn latent(
        &mut self,
        latent: &LatentAttention,
        index: usize,
    ) -> Result<LatentBlock, ExecutorError> {
        check(self.spec, latent)?;
        let at = Some(index);
        let query = match latent.query_rank {
            None => QueryPath::Direct(self.matrix(Role::Query, at)?),
            Some(_) => QueryPath::Ranked {
                down: self.matrix(Role::QueryDown, at)?,
                norm: self.norm(latent.rank_norm, Role::QueryDownNorm, at)?,
                up: self.matrix(Role::QueryUp, at)?,
            },
        };
        Ok(LatentBlock {
            query,
            latent: self.matrix(Role::LatentDown, at)?,
            latent_norm: self.norm(latent.rank_norm, Role::LatentNorm, at)?,
            up: self.latent_up(latent, index)?,
            output: self.matrix(Role::Output, at)?,
            indexer: latent.indexer.as_ref().map(|indexer| self.indexer(indexer, index)).transpose()?,
            spec: latent.clone(),
        })
    }

    fn indexer(&mut self, indexer: &SparseIndexer, index: usize) -> Result<IndexerBlock, ExecutorError> {
        let at = Some(index);
        let mut key_norm = self.vector(Role::IndexKeyNorm, at)?;
        key_norm.iter_mut().for_each(|weight| *weight += indexer.key_norm.weight_offset);
        let layer_norm = indexer.key_norm.kind == NormKind::Layer;
        Ok(IndexerBlock {
            spec: indexer.clone(),
            query: self.matrix(Role::IndexQuery, at)?,
            key: self.matrix(Role::IndexKey, at)?,
            key_norm,
            key_norm_bias: if layer_norm { self.vector(Role::IndexKeyNormBias, at)? } else { Vec::new() },
            weights: self.matrix(Role::IndexWeights, at)?,
        })
    }

    /// The projections out of latent space, in whatever orientation the file has them.
    fn latent_up(&mut self, latent: &LatentAttention, index: usize) -> Result<LatentUp, ExecutorError> {
        let LatentAttention { heads, nope_dim, value_dim, kv_rank, .. } = *latent;
        let mut up = LatentUp::zeroed(heads, nope_dim, value_dim, kv_rank).map_err(super::no_memory)?;
        let at = Some(index);
        match latent.key_up {
            KeyUpLayout::Expanding => self.each_row(Role::LatentKeyUp, at, |row, values| {
                up.set_key_row(row / nope_dim, row % nope_dim, values);
            })?,
            KeyUpLayout::Absorbing => self.each_row(Role::LatentKeyUp, at, |row, values| {
                up.set_key_column(row / kv_rank, row % kv_rank, values);
            })?,
        }
        self.each_row(Role::LatentValueUp, at, |row, values| {
            up.set_value_row(row / value_dim, row % value_dim, values);
        })?;
        Ok(up)
    }

    /// Every row of a tensor that is kept in 16-bit floats.
    fn each_row(
        &mut self,
        role: Role,
        layer: Option<usize>,
        mut take: impl FnMut(usize, &[f32]),
    ) -> Result<(), ExecutorError> {
        let tensor = self.tensor(role, layer)?.clone();
        let mut values = vec![0.0; tensor.columns()];
        for row in 0..tensor.rows() {
            self.source.row(&tensor, row, &mut values)?;
            if let Some(value) = values.iter().find(|value| value.abs() > LARGEST) {
                let name = tensor.pieces.first().map_or("", |piece| &piece.stored.name);
                let what = format!("holds {value}, and this executor keeps its weights in 16-bit floats");
                return Err(Error::tensor(name, what).into());
            }
            take(row, &values);
        }
        self.source.release_tensor(&tensor);
        self.report(self.done + tensor.bytes());
        Ok(())
    }
}

/// Sizes that the block relies on and tensor shapes do not tell.
fn check(spec: &ModelSpec, latent: &LatentAttention) -> Result<(), ExecutorError> {
    let LatentAttention { heads, kv_rank, nope_dim, rope_dim, value_dim, .. } = *latent;
    let turned = |rope: usize| spec.ropes.get(rope).map(|rope| rope.dims);
    if [heads, kv_rank, nope_dim, rope_dim, value_dim].contains(&0) {
        return Err(unsupported("latent attention with a size of zero"));
    }
    if turned(latent.rope) != Some(rope_dim) {
        return Err(unsupported("latent attention that rotates other than its rotated values"));
    }
    let Some(indexer) = &latent.indexer else { return Ok(()) };
    if [indexer.heads, indexer.head_dim, indexer.top_k].contains(&0) {
        return Err(unsupported("a sparse indexer with a size of zero"));
    }
    if turned(indexer.rope).is_none_or(|dims| dims > indexer.head_dim) {
        return Err(unsupported("a sparse indexer that rotates more than its heads' values"));
    }
    Ok(())
}
