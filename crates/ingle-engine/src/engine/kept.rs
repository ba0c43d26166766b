//! Sequences whose answers are over, kept for prompts that begin alike.
//!
//! A prompt's beginning is looked for in all of them, one after the other: there are at most some hundreds, and the first
//! token that differs ends each comparison.

use ingle_model::executor::SequenceId;
use std::time::SystemTime;

/// A sequence and the tokens it has cached.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) sequence: SequenceId,
    pub(super) tokens: Vec<u32>,
    /// When it was last of use.
    pub(super) used: SystemTime,
    bytes: u64,
}

/// Kept sequences, those used last at the end.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<Entry>);

/// Tokens that two lists begin with alike.
pub(super) fn shared(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of all of them, as if none shared any.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|entry| entry.bytes).sum()
    }

    /// The sequences that share a beginning with `tokens`, and how long it is, the best first.
    pub(super) fn beginnings(&self, tokens: &[u32]) -> Vec<(SequenceId, usize)> {
        let found = self.0.iter().map(|entry| (entry, shared(&entry.tokens, tokens)));
        let mut found: Vec<(&Entry, usize)> = found.filter(|&(_, length)| length > 0).collect();
        // where caches forget, one that ends where the beginning does is worth more
        found.sort_by_key(|&(entry, length)| std::cmp::Reverse((length, length == entry.tokens.len())));
        found.into_iter().map(|(entry, length)| (entry.sequence, length)).collect()
    }

    /// A sequence was of use.
    pub(super) fn used(&mut self, sequence: SequenceId) {
        if let Some(at) = self.0.iter().position(|entry| entry.sequence == sequence) {
            let entry = self.0.remove(at);
            self.0.push(Entry { used: SystemTime::now(), ..entry });
        }
    }

    /// Keeps a sequence; gives those that are of no more use beside it: the same, and, unless caches `forget` how to go
    /// back, those it goes on from.
    pub(super) fn keep(
        &mut self,
        sequence: SequenceId,
        tokens: Vec<u32>,
        bytes: u64,
        forget: bool,
    ) -> Vec<SequenceId> {
        let mut gone = Vec::new();
        self.0.retain(|entry| {
            let covered = if forget { tokens == entry.tokens } else { tokens.starts_with(&entry.tokens) };
            if covered {
                gone.push(entry.sequence);
            }
            !covered
        });
        self.0.push(Entry { sequence, tokens, used: SystemTime::now(), bytes });
        gone
    }

    /// Gives up the sequence that was of no use for longest.
    pub(super) fn give_up(&mut self) -> Option<Entry> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// All of them, those used last first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_beginning_is_found_and_the_oldest_given_up() {
        let mut kept = Kept::default();
        assert!(kept.keep(SequenceId(1), vec![1, 2, 3], 10, false).is_empty());
        assert!(kept.keep(SequenceId(2), vec![1, 2, 4, 5], 20, false).is_empty());
        assert!(kept.keep(SequenceId(3), vec![9], 5, false).is_empty());
        assert_eq!(kept.beginnings(&[1, 2, 4, 6]), [(SequenceId(2), 3), (SequenceId(1), 2)]);
        assert_eq!(kept.beginnings(&[7]), []);
        kept.used(SequenceId(1));
        let given_up = (kept.bytes(), kept.give_up().map(|entry| entry.sequence));
        assert_eq!(given_up, (35, Some(SequenceId(2))));
        assert_eq!(
            kept.keep(SequenceId(4), vec![1, 2, 3, 4], 12, false),
            [SequenceId(1)],
            "it begins the longer one"
        );
        assert_eq!((kept.len(), kept.bytes()), (2, 17));
        assert!(kept.keep(SequenceId(5), vec![1, 2, 3, 4, 5], 12, true).is_empty(), "it cannot go back");
        assert_eq!(kept.keep(SequenceId(6), vec![1, 2, 3, 4, 5], 12, true), [SequenceId(5)]);
    }
}
