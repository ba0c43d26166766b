//! What a sequence keeps per layer, in 32-bit floats.

use super::attention::KeyValueCache;
use super::delta_net::Recurrent;
use super::latent::LatentCache;
use ingle_model::spec::Mixer;

/// One layer's cache of one sequence.
#[derive(Clone)]
pub(super) enum LayerCache {
    Attention(KeyValueCache),
    Latent(LatentCache),
    /// After the last step, and before it.
    Recurrent(Vec<Recurrent>),
}

impl LayerCache {
    pub(super) fn new(mixer: &Mixer) -> LayerCache {
        match mixer {
            Mixer::Attention(_) => LayerCache::Attention(KeyValueCache::default()),
            Mixer::Latent(_) => LayerCache::Latent(LatentCache::default()),
            Mixer::DeltaNet(_) => LayerCache::Recurrent(Vec::new()),
        }
    }

    /// The longest length, at most `positions`, that it can go back to.
    pub(super) fn earlier(&self, positions: usize) -> usize {
        match self {
            LayerCache::Recurrent(states) if states.iter().all(|state| state.positions() != positions) => 0,
            _ => positions,
        }
    }

    pub(super) fn truncate(&mut self, positions: usize, mixer: &Mixer) {
        match (self, mixer) {
            (LayerCache::Attention(cache), Mixer::Attention(attention)) => {
                cache.keys.truncate(positions * attention.kv_heads * attention.key_dim);
                cache.values.truncate(positions * attention.kv_heads * attention.value_dim);
            }
            (LayerCache::Latent(cache), Mixer::Latent(latent)) => {
                cache.latents.truncate(positions * (latent.kv_rank + latent.rope_dim));
                let width = latent.indexer.as_ref().map_or(0, |indexer| indexer.head_dim);
                cache.index_keys.truncate(positions * width);
            }
            (LayerCache::Recurrent(states), _) => states.retain(|state| state.positions() <= positions),
            _ => unreachable!("a cache is made for its mixer"),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let floats = |lists: [&Vec<f32>; 2]| {
            lists.iter().map(|list| (list.capacity() * size_of::<f32>()) as u64).sum()
        };
        match self {
            LayerCache::Attention(cache) => floats([&cache.keys, &cache.values]),
            LayerCache::Latent(cache) => floats([&cache.latents, &cache.index_keys]),
            LayerCache::Recurrent(states) => states.iter().map(Recurrent::bytes).sum(),
        }
    }

    pub(super) fn key_values(&mut self) -> &mut KeyValueCache {
        let LayerCache::Attention(cache) = self else { unreachable!("a cache is made for its mixer") };
        cache
    }

    pub(super) fn latent(&mut self) -> &mut LatentCache {
        let LayerCache::Latent(cache) = self else { unreachable!("a cache is made for its mixer") };
        cache
    }

    pub(super) fn recurrent(&mut self) -> &mut Vec<Recurrent> {
        let LayerCache::Recurrent(states) = self else { unreachable!("a cache is made for its mixer") };
        states
    }
}
