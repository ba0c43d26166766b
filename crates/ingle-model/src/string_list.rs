//! Many texts in little memory: a vocabulary has hundreds of thousands of a few bytes each.

use std::sync::Arc;

/// A list of texts that lie one after the other in one allocation, 4 GiB of them at most. Clones share them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringList {
    shared: Arc<Texts>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Texts {
    joined: String,
    /// For each text, the byte of `joined` after its last.
    ends: Vec<u32>,
}

impl StringList {
    /// An empty list with room for the ends of `count` texts.
    pub fn with_capacity(count: usize) -> StringList {
        let texts = Texts { joined: String::new(), ends: Vec::with_capacity(count) };
        StringList { shared: Arc::new(texts) }
    }

    /// Adds a text; false, and nothing is added, when the list would hold more than 4 GiB. The texts are copied when
    /// a clone shares them.
    #[must_use]
    pub fn push(&mut self, text: &str) -> bool {
        let Some(end) =
            self.shared.joined.len().checked_add(text.len()).and_then(|end| u32::try_from(end).ok())
        else {
            return false;
        };
        let texts = Arc::make_mut(&mut self.shared);
        texts.joined.push_str(text);
        texts.ends.push(end);
        true
    }

    /// Gives back the room for more texts.
    pub fn shrink_to_fit(&mut self) {
        let texts = Arc::make_mut(&mut self.shared);
        texts.joined.shrink_to_fit();
        texts.ends.shrink_to_fit();
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.shared.ends.len()
    }

    /// True when there are no texts.
    pub fn is_empty(&self) -> bool {
        self.shared.ends.is_empty()
    }

    /// The text at `index`, if there are so many.
    pub fn get(&self, index: usize) -> Option<&str> {
        let ends = &self.shared.ends;
        let end = *ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { ends[index - 1] as usize };
        self.shared.joined.get(start..end)
    }

    /// The texts in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.shared.ends.iter().map(move |&end| {
            let text = &self.shared.joined[start..end as usize];
            start = end as usize;
            text
        })
    }
}

impl std::fmt::Debug for StringList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: AsRef<str>> FromIterator<T> for StringList {
    /// # Panics
    /// When the texts are more than 4 GiB; [`push`](StringList::push) is for those from outside.
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> StringList {
        let mut list = StringList::default();
        for text in texts {
            assert!(list.push(text.as_ref()), "more than 4 GiB of text");
        }
        list.shrink_to_fit();
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        for texts in [&[][..], &[""], &["a", "", "", "é▁", "b"]] {
            let list: StringList = texts.iter().collect();
            assert_eq!((list.len(), list.is_empty()), (texts.len(), texts.is_empty()));
            assert_eq!(list.iter().collect::<Vec<_>>(), texts);
            assert_eq!(list.iter().len(), texts.len());
            for (index, text) in texts.iter().enumerate() {
                assert_eq!(list.get(index), Some(*text));
            }
            assert_eq!((list.get(texts.len()), list.get(usize::MAX)), (None, None));
            assert_eq!(format!("{list:?}"), format!("{texts:?}"));
        }
        // The same bytes cut elsewhere are another list.
        let list = |texts: [&str; 2]| texts.into_iter().collect::<StringList>();
        assert_ne!(list(["ab", "c"]), list(["a", "bc"]));
        assert_eq!(list(["ab", "c"]), list(["ab", "c"]).clone());
    }

    #[test]
    fn a_clone_stays_as_it_was() {
        let mut list: StringList = ["a"].into_iter().collect();
        let clone = list.clone();
        assert!(list.push("b"));
        assert_eq!((list.get(1), clone.get(1)), (Some("b"), None));
    }
}
