//! Which layer is of which kind: a list of names wins over a pattern or an interval.

use super::keys::Keys;
use crate::error::{Error, Result};

/// How a layer looks at what came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Attention to every earlier position.
    Full,
    /// Attention to the last ones.
    Sliding,
    /// A recurrent state.
    Linear,
}

/// Names in `layer_types`.
pub(super) const FULL: (&str, Kind) = ("full_attention", Kind::Full);
pub(super) const SLIDING: (&str, Kind) = ("sliding_attention", Kind::Sliding);
pub(super) const LINEAR: (&str, Kind) = ("linear_attention", Kind::Linear);

/// A list of `config.json` with one word per layer, `None` where there is none.
pub(super) fn named<T: Copy>(
    keys: &Keys,
    key: &str,
    layers: usize,
    known: &[(&str, T)],
) -> Result<Option<Vec<T>>> {
    let Some(words) = keys.texts(key)? else { return Ok(None) };
    if words.len() != layers {
        let what = format!("names {} layers, and there are {layers}", words.len());
        return Err(Error::metadata(keys.full(key), what));
    }
    let meaning = |word: &str| {
        let found = known.iter().find(|(name, _)| *name == word);
        found.map(|&(_, kind)| kind).ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            keys.refused(key, crate::error::printable(word), &names.join(", "))
        })
    };
    words.iter().map(meaning).collect::<Result<Vec<_>>>().map(Some)
}

/// Every `interval`-th layer is full, the last of each group; the others are `other`.
pub(super) fn every(
    keys: &Keys,
    key: &str,
    interval: usize,
    layers: usize,
    other: Kind,
) -> Result<Vec<Kind>> {
    if interval == 0 {
        return Err(Error::metadata(keys.full(key), "is 0; it must be the distance between full layers"));
    }
    Ok((0..layers).map(|layer| if layer % interval == interval - 1 { Kind::Full } else { other }).collect())
}

/// GGUF's `attention.sliding_window_pattern`: an interval, or one flag per layer that is true for windowed ones.
pub(super) fn gguf_windowed(keys: &Keys, layers: usize, usual: impl FnOnce() -> usize) -> Result<Vec<Kind>> {
    let key = "attention.sliding_window_pattern";
    if let Ok(Some(flags)) = keys.flags(key) {
        if flags.len() < layers {
            let what = format!("holds {} flags, and there are {layers} layers", flags.len());
            return Err(Error::metadata(keys.full(key), what));
        }
        let kind = |&windowed: &bool| if windowed { Kind::Sliding } else { Kind::Full };
        return Ok(flags[..layers].iter().map(kind).collect());
    }
    let interval = keys.count(key)?.unwrap_or_else(usual);
    every(keys, key, interval, layers, Kind::Sliding)
}
