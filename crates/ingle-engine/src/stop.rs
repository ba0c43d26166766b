//! Stop texts: an answer ends where one appears, and none of it is shown.

/// Watches a growing text for stop texts, letting through only what cannot be the beginning of one.
pub(crate) struct StopWatch {
    stops: Vec<String>,
    held: String,
}

/// What came of the latest piece of text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Text that is certain.
    Text(String),
    /// Text before the stop text, and which one it was.
    Stopped(String, String),
}

impl StopWatch {
    pub(crate) fn new(stops: &[String]) -> StopWatch {
        StopWatch { stops: stops.to_vec(), held: String::new() }
    }

    pub(crate) fn push(&mut self, text: &str) -> Watched {
        self.held.push_str(text);
        let found = self.stops.iter().filter(|stop| !stop.is_empty());
        let found = found.filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at, stop)));
        if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
            self.held.truncate(at);
            return Watched::Stopped(std::mem::take(&mut self.held), stop.clone());
        }
        let certain = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(certain);
        Watched::Text(std::mem::replace(&mut self.held, rest))
    }

    /// What was held back, when no more text comes, or something else than text.
    pub(crate) fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text that may become a stop text.
    fn longest_beginning(&self) -> usize {
        let beginnings = self.stops.iter().map(|stop| {
            let ends = stop.char_indices().map(|(at, _)| at).skip(1);
            ends.filter(|&end| self.held.ends_with(&stop[..end])).max().unwrap_or(0)
        });
        beginnings.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_stop_text_is_shown_however_it_is_cut() {
        let stops = vec!["END".to_owned(), "ÄÖ".to_owned()];
        for (text, shown) in [("one two END three", "one two "), ("aÄÖb", "a"), ("EEND", "E")] {
            let mut watch = StopWatch::new(&stops);
            let mut seen = String::new();
            let mut stopped = false;
            for letter in text.chars() {
                match watch.push(&letter.to_string()) {
                    Watched::Text(text) => seen.push_str(&text),
                    Watched::Stopped(text, _) => {
                        seen.push_str(&text);
                        stopped = true;
                        break;
                    }
                }
            }
            assert!(stopped, "{text}");
            assert_eq!(seen, shown);
        }
    }

    #[test]
    fn a_beginning_that_leads_nowhere_is_delivered() {
        let stops = vec!["END".to_owned()];
        let mut watch = StopWatch::new(&stops);
        assert_eq!(watch.push("an EN"), Watched::Text("an ".into()));
        assert_eq!(watch.push("D"), Watched::Stopped("".into(), "END".into()));
        let mut watch = StopWatch::new(&stops);
        assert_eq!(watch.push("EN"), Watched::Text("".into()));
        assert_eq!(watch.push("t"), Watched::Text("ENt".into()));
        assert_eq!(watch.push("E"), Watched::Text("".into()));
        assert_eq!(watch.flush(), "E");
    }
}
