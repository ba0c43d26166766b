//! The machine that reads any dialect.

use super::calls::{Begins, Fault};
use super::dialect::Dialect;
use super::grammar::{Place, Syntax, Then};
use super::header::{self, Header, Message};
use super::held::{Found, Held, Marker};
use super::schema::Schemas;
use super::{Ending, LONGEST_CALL, Notice, Piece};
use serde_json::Value;

/// Line ends before a marker that are waited with, and belong to it. More are content.
const LINE_ENDS: usize = 64;
/// Markers inside the texts of one call. With more, it is no call: each costs reading it again.
const INNER_MARKERS: usize = 64;
/// Bytes of a call after which it is first looked at without an end marker; afterwards each time it has doubled.
const FIRST_LOOK: usize = 256;

/// Reads an answer while it comes. See the [module](super) for what it promises.
#[derive(Debug)]
pub struct AnswerReader {
    dialect: Dialect,
    schemas: Schemas,
    held: Held,
    state: State,
    /// Calls so far.
    calls: usize,
    /// Whether the thought speaks of a call.
    suspect: bool,
}

#[derive(Debug)]
enum State {
    /// Text of a kind. `fresh`: line ends belong to the marker before.
    Text { place: Place, fresh: bool },
    /// The header of a message, from `held.at` on.
    Header { role_known: bool },
    /// A call.
    Call(Open),
    /// The rest of what is no call, up to its end marker.
    Spoilt,
}

/// A call that is not over.
#[derive(Debug)]
struct Open {
    syntax: Syntax,
    /// The tool, where the header named it.
    name: Option<String>,
    /// Where its marker ends.
    marked: usize,
    /// Where the call is: after its marker, or with it.
    body: usize,
    /// Whether it begins as a call does.
    begun: bool,
    /// Where text goes on if it does not.
    back: Place,
    /// Length at which to look at it next.
    look: usize,
    /// Markers met inside its texts.
    inner: usize,
}

impl AnswerReader {
    /// A reader of one answer. `tools` are the tools offered, in the OpenAI layout: some dialects need the types of
    /// their parameters. `in_reasoning`: the prompt has opened a thought
    /// ([`opens_reasoning`](Dialect::opens_reasoning)).
    ///
    /// `kinds_known`: control tokens will come through [`push_control`](AnswerReader::push_control) and only through
    /// it; a marker that is one is then not found in other text. Otherwise markers are found wherever they are spelled.
    pub fn new(dialect: &Dialect, tools: &[Value], in_reasoning: bool, kinds_known: bool) -> AnswerReader {
        let state = match dialect.grammar.start {
            Place::Header => State::Header { role_known: true },
            _ if in_reasoning => State::Text { place: Place::Reasoning, fresh: true },
            place => State::Text { place, fresh: false },
        };
        AnswerReader {
            dialect: dialect.clone(),
            schemas: Schemas::new(tools),
            held: Held::new(kinds_known),
            state,
            calls: 0,
            suspect: false,
        }
    }

    /// A reader for which everything is content.
    pub fn plain() -> AnswerReader {
        AnswerReader::new(&Dialect::plain(), &[], false, false)
    }

    /// Whether what comes next is thought, as far as is known.
    pub fn in_reasoning(&self) -> bool {
        matches!(self.state, State::Text { place: Place::Reasoning, .. })
    }

    /// The next text of the answer; what became certain is added to `out`.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.held.push(text, false);
        self.advance(out);
    }

    /// The text of a control token.
    pub fn push_control(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.held.push(text, true);
        self.advance(out);
    }

    /// The rest, when no more text comes.
    pub fn finish(mut self, ending: Ending, out: &mut Vec<Piece>) {
        self.advance(out);
        let end = self.held.text.len();
        match &self.state {
            State::Text { place: Place::Reasoning, .. } => {
                self.deliver(Place::Reasoning, end, out);
                let notice = if self.suspect { Notice::CallInReasoning } else { Notice::UnfinishedReasoning };
                out.push(Piece::Notice(notice));
            }
            State::Text { place, .. } => self.deliver(*place, end, out),
            State::Header { .. } if self.held.rest().trim().is_empty() => {
                self.deliver(Place::Header, end, out)
            }
            State::Header { .. } => {
                out.push(Piece::Notice(Notice::BadHeader));
                self.deliver(Place::Content, end, out);
            }
            State::Spoilt => self.deliver(Place::Content, end, out),
            State::Call(open) => {
                let may_end = ending == Ending::Turn && open.syntax.ends_with_turn();
                let body = self.held.text.get(open.body..).unwrap_or_default();
                let read = open.syntax.read(body, open.name.as_deref(), &self.schemas, true);
                match read {
                    Ok(calls) if may_end && body.len() <= LONGEST_CALL => self.deliver_calls(calls, end, out),
                    Err(Fault::Broken(reason)) => self.spoil(Notice::NotACall { reason }, end, out),
                    _ => self.spoil(Notice::UnfinishedCall, end, out),
                }
            }
        }
    }

    /// Goes as far as the text allows.
    fn advance(&mut self, out: &mut Vec<Piece>) {
        while match &self.state {
            State::Text { place, fresh } => self.text(*place, *fresh, out),
            State::Header { role_known } => self.header(*role_known, out),
            State::Call(_) => self.call(out),
            State::Spoilt => self.spoilt(out),
        } {}
        let gone = self.held.at;
        if let State::Call(open) = &mut self.state {
            open.body = open.body.saturating_sub(gone);
            open.marked = open.marked.saturating_sub(gone);
        }
        self.held.compact();
    }

    /// One step through text of a kind. Like every step, returns whether there may be another.
    fn text(&mut self, place: Place, fresh: bool, out: &mut Vec<Piece>) -> bool {
        let rest = self.held.rest();
        if fresh {
            let white: fn(char) -> bool =
                if place == Place::Between { char::is_whitespace } else { |c| c == '\n' };
            let body = rest.trim_start_matches(white).len();
            let end = self.held.text.len() - body;
            self.deliver(Place::Header, end, out);
            if body == 0 {
                return false;
            }
            self.state = State::Text { place, fresh: false };
        }
        let rules = || within(&self.dialect, place);
        match self.held.find(rules()) {
            Found::Nothing(end) => {
                let waits = rules().any(|(number, _)| self.dialect.markers[number].before);
                let end = if waits { self.before_line_ends(end) } else { end };
                self.deliver(place, end, out);
                false
            }
            Found::Marker(number, at) => {
                let rule = &self.dialect.markers[number];
                let (then, start) = (rule.then, if rule.before { self.before_line_ends(at) } else { at });
                self.deliver(place, start, out);
                self.enter(then, number, at, place, out);
                true
            }
        }
    }

    /// Follows the rule `number` at its marker, which begins at `at`; everything before it that is not the marker's is
    /// delivered.
    fn enter(&mut self, then: Then, number: usize, at: usize, from: Place, out: &mut Vec<Piece>) {
        let rule = &self.dialect.markers[number];
        let end = at + rule.marker.text.len();
        let fresh = rule.after;
        let open = |syntax, body| {
            State::Call(Open {
                syntax,
                name: None,
                marked: end,
                body,
                begun: false,
                back: from,
                look: FIRST_LOOK,
                inner: 0,
            })
        };
        self.held.scanned = end;
        self.state = match then {
            Then::Call(syntax) => open(syntax, end),
            Then::CallFrom(syntax) => open(syntax, at),
            Then::HeaderFrom => {
                self.deliver(Place::Header, at, out);
                self.held.scanned = at;
                State::Header { role_known: true }
            }
            Then::Go(place) => {
                self.deliver(Place::Header, end, out);
                match place {
                    Place::Header => State::Header { role_known: false },
                    _ => State::Text { place, fresh: fresh || place == Place::Between },
                }
            }
            Then::NoCall => {
                self.deliver(Place::Header, end, out);
                out.push(Piece::Notice(Notice::NamelessCall));
                State::Text { place: Place::Between, fresh: true }
            }
            Then::Suspect => {
                self.suspect = true;
                self.deliver(from, end, out);
                State::Text { place: from, fresh: false }
            }
        };
        if then == Then::Go(Place::Reasoning) {
            self.suspect = false;
        }
    }

    /// One step through a header.
    fn header(&mut self, role_known: bool, out: &mut Vec<Piece>) -> bool {
        let (end, place) = match header::read(&self.held, self.held.at, role_known) {
            Header::Open => return false,
            Header::Bad(end) => {
                out.push(Piece::Notice(Notice::BadHeader));
                // the marker that led here may be all there is of it, and shall not lead here again
                let begin = self.held.at;
                self.deliver(Place::Content, end, out);
                self.held.scanned = end.max(begin + 1).min(self.held.text.len());
                self.state = State::Text { place: Place::Content, fresh: false };
                return true;
            }
            Header::Whole(end, Message::Content) => (end, Place::Content),
            Header::Whole(end, Message::Reasoning) => (end, Place::Reasoning),
            Header::Whole(end, Message::Call(name)) => {
                self.deliver(Place::Header, end, out);
                self.state = State::Call(Open {
                    syntax: Syntax::Harmony,
                    name: Some(name),
                    marked: end,
                    body: end,
                    begun: false,
                    back: Place::Content,
                    look: FIRST_LOOK,
                    inner: 0,
                });
                return true;
            }
        };
        self.deliver(Place::Header, end, out);
        self.state = State::Text { place, fresh: false };
        true
    }

    /// One step through a call.
    fn call(&mut self, out: &mut Vec<Piece>) -> bool {
        let State::Call(open) = &mut self.state else { return false };
        if !open.begun {
            let body = self.held.text.get(open.body..).unwrap_or_default();
            match open.syntax.begins(body) {
                Begins::Yes => open.begun = true,
                Begins::Perhaps if body.len() <= LONGEST_CALL => return false,
                Begins::Perhaps | Begins::No => {
                    let (end, place) = (open.marked, open.back);
                    let reason = "it does not begin as one".to_owned();
                    self.spoil(Notice::NotACall { reason }, end, out);
                    self.held.scanned = end;
                    self.state = State::Text { place, fresh: false };
                    return true;
                }
            }
        }
        let found = self.held.find(within(&self.dialect, Place::Call));
        let (Found::Marker(_, at) | Found::Nothing(at)) = found;
        let body = self.held.text.get(open.body..at).unwrap_or_default();
        let is_end = matches!(found, Found::Marker(..));
        if body.len() < open.look && !is_end {
            return false;
        }
        open.look = (body.len() * 2).min(LONGEST_CALL + 1);
        let known = body.get(..body.floor_char_boundary(LONGEST_CALL)).unwrap_or(body);
        let read = open.syntax.read(known, open.name.as_deref(), &self.schemas, is_end);
        let long = known.len() < body.len();
        let notice = match (read, found) {
            (Err(Fault::Broken(reason)), _) => Notice::NotACall { reason },
            _ if long => Notice::LongCall,
            (_, Found::Nothing(_)) => return false,
            (Ok(calls), Found::Marker(number, at)) => {
                let rule = &self.dialect.markers[number];
                // A marker that ends this call and begins the next is the next one's.
                let ends = matches!(rule.then, Then::Go(_));
                let (then, end) = (rule.then, if ends { at + rule.marker.text.len() } else { at });
                self.deliver_calls(calls, end, out);
                self.enter(then, number, at, Place::Content, out);
                return true;
            }
            (Err(Fault::Open { inside: true }), Found::Marker(number, _))
                if open.inner < INNER_MARKERS
                    && !self.held.is_certain(&self.dialect.markers[number].marker) =>
            {
                open.inner += 1;
                self.held.scanned = at + 1;
                return true;
            }
            (Err(Fault::Open { .. }), _) if open.inner >= INNER_MARKERS => {
                Notice::NotACall { reason: format!("its texts hold more than {INNER_MARKERS} markers") }
            }
            (Err(Fault::Open { .. }), _) => Notice::NotACall { reason: "it ends early".into() },
        };
        self.spoil(notice, at, out);
        self.state = State::Spoilt;
        true
    }

    /// One step through what is no call: up to the next end marker, which is text too.
    fn spoilt(&mut self, out: &mut Vec<Piece>) -> bool {
        match self.held.find(within(&self.dialect, Place::Call)) {
            Found::Nothing(end) => {
                self.deliver(Place::Content, end, out);
                false
            }
            Found::Marker(number, at) => {
                let rule = &self.dialect.markers[number];
                // In Harmony they are structure on their own; elsewhere they belong to the call that is none.
                let is_text = matches!(rule.then, Then::Go(_)) && self.dialect.grammar.start != Place::Header;
                let (then, end) = (rule.then, if is_text { at + rule.marker.text.len() } else { at });
                self.deliver(Place::Content, end, out);
                self.enter(then, number, at, Place::Content, out);
                if is_text && let State::Text { place, fresh } = &mut self.state {
                    *fresh = *place == Place::Between;
                }
                true
            }
        }
    }

    /// Where the line ends right before `end` begin, as far as they are not delivered.
    fn before_line_ends(&self, end: usize) -> usize {
        let before = self.held.text.get(self.held.at..end).unwrap_or_default();
        let line_ends = before.bytes().rev().take(LINE_ENDS).take_while(|&byte| byte == b'\n').count();
        end - line_ends
    }

    /// Gives out everything up to `end`.
    fn deliver(&mut self, place: Place, end: usize, out: &mut Vec<Piece>) {
        if end <= self.held.at {
            return;
        }
        let text = self.held.take(end);
        out.push(match place {
            Place::Reasoning => Piece::Reasoning(text),
            // Between calls only white space is expected, and that is given out as structure before.
            Place::Content | Place::Between => Piece::Content(text),
            Place::Header | Place::Call => Piece::Structure(text),
        });
    }

    fn deliver_calls(&mut self, calls: Vec<crate::message::ToolCall>, end: usize, out: &mut Vec<Piece>) {
        let mut source = self.held.take(end);
        if calls.is_empty() {
            out.push(Piece::Structure(std::mem::take(&mut source)));
        }
        for call in calls {
            out.push(Piece::Call { index: self.calls, call, source: std::mem::take(&mut source) });
            self.calls += 1;
        }
    }

    /// Gives out what turned out to be no call.
    fn spoil(&mut self, notice: Notice, end: usize, out: &mut Vec<Piece>) {
        out.push(Piece::Notice(notice));
        self.deliver(Place::Content, end, out);
    }
}

/// The markers that matter within a place, with the numbers of their rules.
fn within(dialect: &Dialect, place: Place) -> impl Iterator<Item = (usize, &Marker)> + Clone {
    let rules = dialect.markers.iter().enumerate();
    rules.filter(move |(_, rule)| rule.within == place).map(|(number, rule)| (number, &rule.marker))
}
