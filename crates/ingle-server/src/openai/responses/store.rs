//! Answers that the next request may refer to. They are kept in memory, as long as the program runs and there is room.

use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Most answers that are kept.
const MOST: usize = 1000;
/// Most bytes of them.
const MOST_BYTES: usize = 64 << 20;

/// An answer with the conversation that led to it.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) id: String,
    /// Whose it is: nobody else finds it.
    pub(super) owner: String,
    /// The messages before it, without instructions, and its own.
    pub(super) messages: Vec<Value>,
    /// The answer as it was given, as text.
    pub(super) document: String,
}

/// The same as text, whose memory is what [`MOST_BYTES`] counts: values of many small parts take twenty times their text.
#[derive(Debug)]
struct Kept {
    id: String,
    owner: String,
    messages: String,
    document: String,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.messages.len() + self.document.len()
    }
}

/// The answers that are kept, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Store(Mutex<VecDeque<Kept>>);

impl Store {
    /// Keeps an answer, and forgets the oldest ones if need be.
    pub(super) fn keep(&self, stored: &Stored) {
        let kept = Kept {
            id: stored.id.clone(),
            owner: stored.owner.clone(),
            messages: Value::Array(stored.messages.clone()).to_string(),
            document: stored.document.clone(),
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(kept);
        let mut bytes: usize = all.iter().map(Kept::bytes).sum();
        while all.len() > MOST || bytes > MOST_BYTES {
            bytes -= all.pop_front().map_or(bytes, |gone| gone.bytes());
        }
    }

    pub(super) fn find(&self, id: &str, owner: &str) -> Option<Stored> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.iter().rev().find(|kept| kept.id == id && kept.owner == owner)?;
        let (messages, document) = (kept.messages.clone(), kept.document.clone());
        drop(all);
        Some(Stored {
            id: id.to_owned(),
            owner: owner.to_owned(),
            messages: serde_json::from_str(&messages).ok()?,
            document,
        })
    }

    /// Whether there was one to forget.
    pub(super) fn forget(&self, id: &str, owner: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|stored| stored.id != id || stored.owner != owner);
        all.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_oldest_go_first_and_owners_see_their_own() {
        let store = Store::default();
        let stored = |id: usize, owner: &str, text: &str| {
            let messages = vec![json!({"content": text})];
            Stored { id: id.to_string(), owner: owner.into(), messages, document: "{}".into() }
        };
        for id in 0..=MOST {
            store.keep(&stored(id, "ann", "x"));
        }
        assert!(store.find("0", "ann").is_none() && store.find("1", "ann").is_some());
        assert!(store.find("1", "bob").is_none() && !store.forget("1", "bob"));
        assert!(store.forget("1", "ann") && store.find("1", "ann").is_none());
        store.keep(&stored(5000, "ann", &"x".repeat(MOST_BYTES)));
        assert!(store.find("5", "ann").is_none() && store.find("5000", "ann").is_none());
    }
}
