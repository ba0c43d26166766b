//! What a sequence has cached, apart from the executor.

use super::cache::LayerCache;
use super::load::unsupported;
use ingle_model::executor::{CachedState, ExecutorError};
use std::any::Any;
use std::io::{self, Read, Write};

/// Caches of all layers after `length` positions.
pub(super) struct State {
    pub(super) length: usize,
    pub(super) layers: Vec<LayerCache>,
}

impl State {
    /// What an executor was handed, if it is one's.
    pub(super) fn of(state: Box<dyn CachedState>, spec_layers: usize) -> Result<State, ExecutorError> {
        let state: Box<dyn Any> = state;
        match state.downcast::<State>() {
            Ok(state) if state.layers.len() == spec_layers => Ok(*state),
            _ => Err(unsupported("a state that another executor has cached")),
        }
    }
}

impl CachedState for State {
    fn length(&self) -> usize {
        self.length
    }

    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        self.layers.iter().try_for_each(|layer| layer.write(to))
    }

    fn read(&mut self, length: usize, from: &mut dyn Read) -> io::Result<()> {
        self.layers.iter_mut().try_for_each(|layer| layer.read(length, from))?;
        self.length = length;
        Ok(())
    }
}

/// The longest length, at most `length`, that all layers can go back to.
pub(super) fn earlier(layers: &[LayerCache], mut length: usize) -> usize {
    // a layer that has to go further back takes the others with it
    loop {
        let earlier = layers.iter().fold(length, |length, cache| cache.earlier(length));
        if earlier == length {
            return length;
        }
        length = earlier;
    }
}
