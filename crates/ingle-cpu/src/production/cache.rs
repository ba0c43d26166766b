//! What a sequence keeps per layer: one kind of cache per kind of mixer.

use super::load::unsupported;
use crate::attention::cache::LayerKv;
use crate::attention::latent::cache::LatentKv;
use crate::buffer::{Buffer, OutOfMemory};
use crate::delta::state::DeltaState;
use crate::saved;
use ingle_model::executor::ExecutorError;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// One layer's cache of one sequence. A clone shares pages of positions and copies states.
#[derive(Clone, Debug)]
pub(super) enum LayerCache {
    /// Keys and values of grouped-query attention.
    Attention(LayerKv),
    /// State of a gated delta net.
    DeltaNet(DeltaState),
    /// Rows, and perhaps indexer keys, of latent attention.
    Latent(LatentKv),
    /// None: the layer attends to what an earlier one caches.
    Elsewhere,
}

impl LayerCache {
    /// Makes room for a step that fills `positions`.
    pub(super) fn grow(&mut self, positions: Range<usize>) -> Result<(), OutOfMemory> {
        match self {
            LayerCache::Attention(kv) => kv.grow(positions),
            LayerCache::DeltaNet(state) => state.grow(positions),
            LayerCache::Latent(kv) => kv.grow(positions),
            LayerCache::Elsewhere => Ok(()),
        }
    }

    /// The longest length, at most `positions`, that it can go back to: caches that forget (windows, recurrent states)
    /// may have to start anew.
    pub(super) fn earlier(&self, positions: usize) -> usize {
        match self {
            LayerCache::Attention(kv) => kv.earlier(positions),
            LayerCache::DeltaNet(state) => state.earlier(positions),
            LayerCache::Latent(_) | LayerCache::Elsewhere => positions,
        }
    }

    /// Forgets everything from `positions` on; [`earlier`](Self::earlier) has allowed it.
    pub(super) fn shrink(&mut self, positions: usize) {
        match self {
            LayerCache::Attention(kv) => kv.shrink(positions),
            LayerCache::DeltaNet(state) => state.shrink(positions),
            LayerCache::Latent(kv) => kv.shrink(positions),
            LayerCache::Elsewhere => {}
        }
    }

    /// Writes down what it holds.
    pub(super) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        match self {
            LayerCache::Attention(kv) => kv.write(to),
            LayerCache::DeltaNet(state) => state.write(to),
            LayerCache::Latent(kv) => kv.write(to),
            LayerCache::Elsewhere => saved::put(to, &[saved::ELSEWHERE]),
        }
    }

    /// Takes the place of an empty cache with what was written of one of `length` positions.
    pub(super) fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()> {
        match self {
            LayerCache::Attention(kv) => kv.read(length, from),
            LayerCache::DeltaNet(state) => state.read(length, from),
            LayerCache::Latent(kv) => kv.read(length, from),
            LayerCache::Elsewhere => saved::expect(from, &[saved::ELSEWHERE]),
        }
    }

    /// The memory it holds, some of which other sequences may hold too.
    pub(super) fn buffers(&self) -> Box<dyn Iterator<Item = &Buffer> + '_> {
        match self {
            LayerCache::Attention(kv) => Box::new(kv.pages().map(Arc::as_ref)),
            LayerCache::DeltaNet(state) => Box::new(state.buffers()),
            LayerCache::Latent(kv) => Box::new(kv.pages().map(Arc::as_ref)),
            LayerCache::Elsewhere => Box::new(std::iter::empty()),
        }
    }

    /// The cache of an attention layer.
    pub(super) fn attention(&mut self) -> Result<&mut LayerKv, ExecutorError> {
        match self {
            LayerCache::Attention(kv) => Ok(kv),
            _ => Err(another_kind()),
        }
    }

    /// The same, to read.
    ///
    /// # Panics
    /// When the layer has another mixer; [`attention`](Self::attention) has found that out before.
    pub(super) fn of_attention(&self) -> &LayerKv {
        match self {
            LayerCache::Attention(kv) => kv,
            _ => unreachable!("a layer attends to what an attention layer has cached"),
        }
    }

    /// The cache of a latent attention layer.
    pub(super) fn latent(&mut self) -> Result<&mut LatentKv, ExecutorError> {
        match self {
            LayerCache::Latent(kv) => Ok(kv),
            _ => Err(another_kind()),
        }
    }

    /// The state of a gated delta net.
    pub(super) fn delta_net(&mut self) -> Result<&mut DeltaState, ExecutorError> {
        match self {
            LayerCache::DeltaNet(state) => Ok(state),
            _ => Err(another_kind()),
        }
    }
}

/// A layer asks for the cache of another mixer: sequences are opened with the layers' own kinds.
fn another_kind() -> ExecutorError {
    unsupported("a layer whose cache is of another kind")
}
