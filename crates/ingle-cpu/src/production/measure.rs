//! What measurements of latent attention need, and nothing else uses: a cache filled without computing its positions,
//! and where a step's time went.

use super::cache::LayerCache;
use super::load::unsupported;
use super::{LatentTimes, Production, no_memory};
use half::f16;
use ingle_model::executor::{ExecutorError, SequenceId};

impl Production {
    /// Fills a sequence's caches up to `positions` with the numbers that `next` gives, as if that many tokens had been
    /// computed. Only for measuring how time depends on the context: what is decoded after it means nothing.
    ///
    /// # Errors
    /// A network with other mixers than latent attention, a sequence that is not open or too short, no memory.
    pub fn fill_cache(
        &mut self,
        sequence: SequenceId,
        positions: usize,
        next: &mut dyn FnMut() -> f32,
    ) -> Result<(), ExecutorError> {
        let sequence = self.sequences.get_mut(sequence)?;
        if positions > sequence.context() {
            return Err(ExecutorError::Context { context: sequence.context(), wanted: positions });
        }
        let first = sequence.length;
        for cache in &mut sequence.kv {
            let LayerCache::Latent(kv) = cache else {
                return Err(unsupported("layers whose caches are not filled for measurements"));
            };
            kv.grow(0..positions).map_err(no_memory)?;
            let (width, index_width) = kv.widths();
            let mut values = vec![f16::ZERO; width.max(index_width)];
            let mut draw =
                |values: &mut [f16]| values.iter_mut().for_each(|value| *value = f16::from_f32(next()));
            for position in first..positions {
                draw(&mut values[..width]);
                kv.store_row(position, &values[..width]);
                if index_width > 0 {
                    draw(&mut values[..index_width]);
                    kv.store_index_key(position, &values[..index_width]);
                }
            }
        }
        sequence.length = positions.max(first);
        Ok(())
    }

    /// Where the time of latent attention went since this was last called, all layers and steps together.
    pub fn take_latent_times(&mut self) -> LatentTimes {
        std::mem::take(&mut self.scratch.latent.times)
    }
}
