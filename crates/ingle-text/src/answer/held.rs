//! Text of an answer that is not delivered yet, and the search for markers in it.

use std::ops::Range;

/// A marker in the terms of one vocabulary.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    /// What it spells.
    pub(super) text: &'static str,
    /// The parts of it that are control tokens: spelled by ordinary tokens they are not the marker.
    pub(super) control: Vec<Range<usize>>,
}

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The marker of this number begins here.
    Marker(usize, usize),
    /// Nothing; one may begin here, when more text comes.
    Nothing(usize),
}

/// The end of the answer so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) text: String,
    /// Everything before is delivered.
    pub(super) at: usize,
    /// No marker that matters begins between `at` and here.
    pub(super) scanned: usize,
    /// Where control tokens are.
    controls: Vec<Range<usize>>,
    /// Whether the origin of the text is known: control tokens are marked, and everything else is none.
    kinds_known: bool,
}

impl Held {
    /// For text whose control tokens will be marked, or not.
    pub(super) fn new(kinds_known: bool) -> Held {
        Held { kinds_known, ..Held::default() }
    }

    /// Adds text.
    pub(super) fn push(&mut self, text: &str, control: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        if control && !text.is_empty() {
            self.controls.push(start..self.text.len());
        }
    }

    /// Forgets what is delivered.
    pub(super) fn compact(&mut self) {
        let gone = self.at;
        if gone == 0 {
            return;
        }
        self.text.drain(..gone);
        self.controls.retain_mut(|range| {
            let keep = range.start >= gone;
            if keep {
                *range = range.start - gone..range.end - gone;
            }
            keep
        });
        self.at = 0;
        self.scanned = self.scanned.saturating_sub(gone);
    }

    /// The text not delivered.
    pub(super) fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Delivers the text up to `end`.
    pub(super) fn take(&mut self, end: usize) -> String {
        let taken = self.text.get(self.at..end).unwrap_or_default().to_owned();
        self.at = self.at.max(end);
        self.scanned = self.scanned.max(self.at);
        taken
    }

    /// Looks for the leftmost of `markers` from where the last search stopped.
    pub(super) fn find<'a>(&mut self, markers: impl Iterator<Item = (usize, &'a Marker)> + Clone) -> Found {
        let bytes = self.text.as_bytes();
        let mut from = self.scanned.max(self.at);
        while let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) {
            for (number, marker) in markers.clone() {
                let text = marker.text.as_bytes();
                let length = text.len().min(rest.len());
                if rest[..length] == text[..length] && self.is_control(from, marker, length) {
                    self.scanned = from;
                    return if length == text.len() {
                        Found::Marker(number, from)
                    } else {
                        Found::Nothing(from)
                    };
                }
            }
            from += 1;
        }
        self.scanned = bytes.len();
        Found::Nothing(bytes.len())
    }

    /// Whether the control tokens in the first `length` bytes of a marker at `from` are such. One that is only begun
    /// cannot be: tokens come whole.
    fn is_control(&self, from: usize, marker: &Marker, length: usize) -> bool {
        !self.kinds_known
            || marker.control.iter().filter(|part| part.start < length).all(|part| {
                let wanted = from + part.start..from + part.end;
                let at = self.controls.partition_point(|range| range.start < wanted.start);
                self.controls.get(at) == Some(&wanted)
            })
    }

    /// Whether a marker that was found cannot be text: the model made its token.
    pub(super) fn is_certain(&self, marker: &Marker) -> bool {
        self.kinds_known && marker.control.first() == Some(&(0..marker.text.len()))
    }

    /// Whether a control token begins at `at`, as far as that is known.
    pub(super) fn may_be_control(&self, at: usize) -> bool {
        !self.kinds_known || self.controls.binary_search_by_key(&at, |range| range.start).is_ok()
    }
}
