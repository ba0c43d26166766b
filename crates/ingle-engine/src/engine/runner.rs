//! The engine's thread: admits, steps, tells.

mod tier;

use super::disk::Disk;
use super::draft::From;
use super::drafter::{Drafter, Promise, Wanted};
use super::job::{Job, OnDisk, Place};
use super::kept::{Kept, shared};
use super::reads::Reads;
use super::schedule::{Fairness, Pace, Portion, portions};
use super::{About, EngineOptions, Guess, Order, Shown, Status, Texts};
use crate::answer::Next;
use crate::error::EngineError;
use crate::generate::{Flow, prefill_rows};
use crate::model::Model;
use ingle_model::executor::{Batch, ExecutorError, Hidden, LogitRows, SequenceId, Slice, StepOutput};
use ingle_model::spec::{KvBytes, KvKind, ModelSpec};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Positions that an answer of unknown length is given at a time.
const GROWTH: usize = 512;
/// A prompt waits for another one that is being computed, if so many more of its tokens come for nothing then.
const WORTH_WAITING: usize = 64;
/// Texts that are embedded between two steps.
const TEXTS_AT_ONCE: usize = 8;
/// Candidates for a prompt's beginning that are tried where caches forget.
const TRIES: usize = 4;
/// Most sequences that are kept.
const MOST_KEPT: usize = 512;
/// Rows of a step, of all prompts whose tokens are told of, whose logits are kept at most: those of a row are as many as
/// there are tokens.
const MOST_TOLD: usize = 32;
/// How often bytes of cache are counted while answers are made.
const COUNTED_EVERY: Duration = Duration::from_millis(250);
/// How often an engine with nothing to do looks after itself.
const IDLE: Duration = Duration::from_millis(500);
/// How often an engine that waits for the disk alone looks for what was read.
const READING: Duration = Duration::from_millis(2);
/// How long the end waits for what is kept to be written.
const WRITING: Duration = Duration::from_secs(10);

/// All that the thread has.
pub(super) struct Runner {
    model: Model,
    about: Arc<About>,
    shown: Arc<Shown>,
    status: Status,
    at_once: usize,
    /// Those that were put back first, then in the order in which they came.
    waiting: VecDeque<Job>,
    /// In the order in which they were begun.
    running: Vec<Job>,
    kept: Kept,
    /// Where what is kept goes when it is given up.
    disk: Option<Disk>,
    /// A file that somebody has waited for too long.
    overdue: Option<String>,
    texts: VecDeque<Texts>,
    draining: Vec<Sender<()>>,
    fairness: Fairness,
    pace: Pace,
    /// Whether sequences cannot go back to any earlier position.
    forgets: bool,
    /// When tokens are guessed ahead.
    guess: Guess,
    /// What guesses beside earlier text.
    drafter: Option<Drafter>,
    output: StepOutput,
    reads: Reads,
    /// When bytes of cache were counted.
    counted: Instant,
}

/// Whether a layer caches in such a way.
fn caches(spec: &ModelSpec, is: impl Fn(KvKind) -> bool) -> bool {
    spec.layers.iter().flat_map(|layer| layer.mixer.kv()).any(|kv| is(kv.kind))
}

impl Runner {
    pub(super) fn new(
        model: Model,
        drafter: Option<Drafter>,
        about: Arc<About>,
        shown: Arc<Shown>,
        options: &EngineOptions,
    ) -> Runner {
        let forgets = caches(model.spec(), |kind| matches!(kind, KvKind::Window(_) | KvKind::Recurrent));
        let disk = options.prefixes.as_ref();
        // what waits to be written takes memory beyond the budget
        let disk = disk.and_then(|folder| Disk::start(folder, &model, forgets, about.kv_budget / 8));
        let found = disk.as_ref().map(Disk::status).unwrap_or_default();
        let status = Status { kv_budget: about.kv_budget, disk: found, ..Status::default() };
        *shown.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = status.clone();
        Runner {
            disk,
            overdue: None,
            pace: Pace::new(prefill_rows(model.spec())),
            forgets,
            drafter,
            guess: options.guess,
            model,
            about,
            shown,
            status,
            at_once: options.at_once.max(1),
            waiting: VecDeque::new(),
            running: Vec::new(),
            kept: Kept::default(),
            texts: VecDeque::new(),
            draining: Vec::new(),
            fairness: Fairness::default(),
            output: StepOutput::default(),
            reads: Reads::default(),
            counted: Instant::now(),
        }
    }

    /// Works until nobody can order any more.
    pub(super) fn run(&mut self, orders: &Receiver<Order>) {
        while self.listen(orders) {
            self.drop_cancelled();
            self.embed_some();
            self.admit();
            self.step();
            self.show();
        }
        let (reply, written) = mpsc::channel();
        self.write_kept(reply);
        _ = written.recv_timeout(WRITING);
    }

    /// Takes orders, and waits for one if there is nothing to do. Whether to go on.
    fn listen(&mut self, orders: &Receiver<Order>) -> bool {
        loop {
            let idle = self.waiting.is_empty() && self.running.is_empty() && self.texts.is_empty();
            if idle {
                self.draining.drain(..).for_each(|drained| _ = drained.send(()));
                self.fairness.retain(|_| false);
            }
            let reads =
                self.running.is_empty() && self.texts.is_empty() && self.waiting.iter().all(Job::is_read);
            let wait = match (idle, reads) {
                (true, _) => IDLE,
                (false, true) => READING,
                (false, false) => Duration::ZERO,
            };
            match orders.recv_timeout(wait) {
                Ok(Order::Answer(job)) => {
                    self.fairness.arrives(&job.client);
                    self.waiting.push_back(*job);
                }
                Ok(Order::Embed(texts)) => self.texts.push_back(texts),
                Ok(Order::Drain(reply)) => self.draining.push(reply),
                Ok(Order::Write(reply)) => self.write_kept(reply),
                Err(RecvTimeoutError::Timeout) if idle => {}
                Err(RecvTimeoutError::Timeout) => return true,
                // whoever could listen to an answer is gone
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    fn drop_cancelled(&mut self) {
        for at in (0..self.running.len()).rev() {
            if self.running[at].is_cancelled() {
                let job = self.running.remove(at);
                self.end(job, End::Stopped);
            }
        }
        let all = self.waiting.len();
        let (gone, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(Job::is_cancelled);
        self.waiting = waiting;
        self.shown.waiting.fetch_sub(all - self.waiting.len(), Ordering::Relaxed);
        for job in VecDeque::into_iter(gone) {
            self.end(job, End::Stopped);
        }
    }

    /// Embeds the next few texts.
    fn embed_some(&mut self) {
        self.texts.retain(|job| !job.cancelled.load(Ordering::Acquire));
        let Some(mut job) = self.texts.pop_front() else { return };
        let first = job.done.len();
        let some = first..job.texts.len().min(first + TEXTS_AT_ONCE);
        let texts: Vec<&str> = job.texts[some].iter().map(String::as_str).collect();
        match self.model.embed(&texts, &job.options, &mut |_, _| {}) {
            Ok(embeddings) => job.done.extend(embeddings),
            Err(error) => {
                (job.on_end)(Err(error.counted_from(first)));
                return;
            }
        }
        if job.done.len() == job.texts.len() {
            (job.on_end)(Ok(job.done));
        } else {
            self.texts.push_back(job);
        }
    }

    /// Begins as many of those that wait as there is room for.
    fn admit(&mut self) {
        self.take_what_was_read();
        while self.running.len() < self.at_once {
            let key = |job: &Job| (std::cmp::Reverse(job.priority), self.fairness.served(&job.client));
            let ready = (0..self.waiting.len()).filter(|&at| !self.waiting[at].is_read());
            let Some(next) = ready.min_by_key(|&at| key(&self.waiting[at])) else { return };
            if !self.begin(next) {
                return;
            }
        }
    }

    /// Begins a job that waits, or has its beginning read. Whether there is room for it.
    fn begin(&mut self, at: usize) -> bool {
        let job = &self.waiting[at];
        let history = job.history();
        let length = history.len();
        let most = job.most_cached();
        let best = self.kept.beginnings(history).first().map_or(0, |&(_, length)| length);
        let coming = |other: &Job| {
            let fed = other.place.map_or(0, |place| place.fed);
            let beginning = shared(other.history(), history).min(most);
            other.unfed() > 1 && beginning > fed && beginning >= best + WORTH_WAITING
        };
        if self.running.iter().any(coming) {
            return false;
        }
        if self.read(at, best) {
            return true;
        }
        let job = &self.waiting[at];
        let reserved = job.most.unwrap_or((length + GROWTH).min(self.about.context));
        let Ok((sequence, fed)) = self.place(at) else { return self.refuse_memory(at) };
        if !self.make_room(self.about.kv_bytes(reserved), None) {
            self.model.executor.close(sequence);
            return false;
        }
        let Some(mut job) = self.waiting.remove(at) else { return false };
        self.shown.waiting.fetch_sub(1, Ordering::Relaxed);
        let first = job.is_new();
        let flow = job.begin(sequence, fed, reserved);
        if let (Some(disk), OnDisk::Read { memory }) = (&self.disk, &job.on_disk)
            && first
            && fed > *memory
        {
            disk.hit(fed - memory);
        }
        if first {
            self.status.prompt_tokens += length as u64;
            self.status.cached_tokens += fed as u64;
        }
        match flow {
            Flow::Continue => self.running.push(job),
            Flow::Stop => self.end(job, End::Stopped),
        }
        true
    }

    /// A job that not even an empty sequence could be had for.
    fn refuse_memory(&mut self, at: usize) -> bool {
        if self.give_up() {
            // the next attempt finds what that has freed
        } else if self.running.is_empty()
            && let Some(job) = self.waiting.remove(at)
        {
            self.status.failed += 1;
            job.fail(
                ExecutorError::Memory { what: "the system has no memory for another sequence".into() }.into(),
            );
        }
        false
    }

    /// A sequence for a job that waits, with as much of its history as another one has cached, and how much that is.
    fn place(&mut self, at: usize) -> Result<(SequenceId, usize), ExecutorError> {
        let (context, history) = (self.about.context, self.waiting[at].history());
        let longest = self.waiting[at].most_cached();
        let running = self.running.iter().filter_map(|job| {
            let place = job.place?;
            Some((place.sequence, shared(&job.history()[..place.fed], history)))
        });
        let mut candidates = self.kept.beginnings(history);
        candidates.extend(running.filter(|&(_, length)| length > 0));
        candidates.sort_by_key(|&(_, length)| std::cmp::Reverse(length));
        let mut best: Option<(SequenceId, usize, SequenceId)> = None;
        for (from, length) in candidates.into_iter().take(if self.forgets { TRIES } else { 1 }) {
            let length = length.min(longest);
            if best.is_some_and(|(_, found, _)| found >= length) {
                continue;
            }
            let (fork, found) = self.model.executor.fork(from, length, context)?;
            let worse = match best {
                Some((_, before, _)) if before >= found => Some(fork),
                _ => best.replace((fork, found, from)).map(|(before, ..)| before),
            };
            worse.into_iter().for_each(|sequence| self.model.executor.close(sequence));
        }
        match best {
            Some((sequence, found, from)) => {
                self.kept.used(from);
                Ok((sequence, found))
            }
            None => Ok((self.model.executor.open(context)?, 0)),
        }
    }

    /// Gives answers that outgrow their room more of it; where there is none, the youngest of the least important ones
    /// is put back.
    fn grow(&mut self, rows: usize) {
        let mut at = 0;
        while at < self.running.len() {
            let job = &self.running[at];
            let Some(Place { fed, reserved, .. }) = job.place else {
                unreachable!("a running job has a place")
            };
            let next = fed + job.unfed().min(rows.max(1));
            if next <= reserved {
                at += 1;
                continue;
            }
            let wanted = (next + GROWTH).min(self.about.context);
            if self.make_room(self.about.kv_bytes(wanted), Some(at)) {
                if let Some(place) = &mut self.running[at].place {
                    place.reserved = wanted;
                }
                at += 1;
                continue;
            }
            let last = (0..self.running.len()).min_by_key(|&at| (self.running[at].priority, usize::MAX - at));
            let Some(last) = last else { return };
            self.put_back(last);
            at = 0;
        }
    }

    fn put_back(&mut self, at: usize) {
        let mut job = self.running.remove(at);
        if let Some(place) = job.place.take() {
            self.model.executor.close(place.sequence);
        }
        if let Some(drafter) = &mut self.drafter {
            drafter.forget(&mut job);
        }
        self.status.put_back += 1;
        self.waiting.push_front(job);
        self.shown.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the next rows of every running job through the network, and their answers a token further.
    fn step(&mut self) {
        let answers = self.running.iter().filter(|job| job.unfed() == 1).count();
        let rows = self.pace.rows(answers);
        self.grow(rows);
        let mut told = MOST_TOLD;
        let unfed = self.running.iter().map(|job| match job.tells_of_prompt() {
            true => {
                let some = job.unfed().min(told);
                told -= some;
                some
            }
            false => job.unfed(),
        });
        let portions = portions(unfed, rows);
        if portions.is_empty() {
            return;
        }
        self.guess(&portions);
        let mut over = Vec::new();
        if self.compute(&portions).is_ok() {
            self.hear(&portions, &mut over);
        } else {
            // one of them is to blame, and the others shall not suffer for it
            for portion in &portions {
                let alone = std::slice::from_ref(portion);
                match self.compute(alone) {
                    Ok(()) => self.hear(alone, &mut over),
                    Err(error) => over.push((portion.job, End::Failed(error.into()))),
                }
            }
        }
        for (at, end) in over.into_iter().rev() {
            let job = self.running.remove(at);
            self.end(job, end);
        }
    }

    /// Guesses what the answers say next.
    fn guess(&mut self, portions: &[Portion]) {
        let mut rows = portions.iter().map(|portion| portion.tokens).sum::<usize>() - 1;
        let mut wanted = Vec::new();
        let free = Pace::without_cost();
        let promise = self.drafter.as_ref().map(Drafter::promise);
        let (pace, promise) = match self.guess {
            Guess::Always => (&free, promise.map(|promise| Promise { seconds: 0.0, ..promise })),
            _ => (&self.pace, promise),
        };
        for portion in portions {
            let job = &mut self.running[portion.job];
            let Some(Place { fed, reserved, .. }) = job.place else { continue };
            // the last guess is not fed before it has proved right, so the next token needs no place
            let most = if self.guess != Guess::Never && job.unfed() == 1 { reserved - fed - 1 } else { 0 };
            let count = job.guess(rows, most, pace, promise);
            rows += job.draft.tokens.len() + count;
            if count > 0 {
                wanted.push(Wanted { job: portion.job, count });
            }
        }
        if let Some(drafter) =
            self.drafter.as_mut().filter(|drafter| drafter.takes_rows() || !wanted.is_empty())
        {
            let started = Instant::now();
            drafter.guess(&mut self.running, &wanted);
            self.status.draft_seconds += started.elapsed().as_secs_f64();
        }
    }

    /// The step itself; on an error nothing has changed.
    fn compute(&mut self, portions: &[Portion]) -> Result<(), ExecutorError> {
        portions.iter().for_each(|portion| self.running[portion.job].gather(portion.tokens));
        let slices: Vec<Slice> = portions
            .iter()
            .filter_map(|portion| {
                let job = &self.running[portion.job];
                let last = portion.tokens == job.unfed();
                let logits = match (job.tells_of_prompt(), last, job.draft.tokens.is_empty()) {
                    (false, false, _) => LogitRows::None,
                    (false, true, true) => LogitRows::Last,
                    (true, ..) | (false, true, false) => LogitRows::All,
                };
                Some(Slice { sequence: job.place?.sequence, tokens: job.gathered(), logits })
            })
            .collect();
        let rows = self.guess != Guess::Never && self.drafter.as_ref().is_some_and(Drafter::takes_rows);
        let hidden = if rows { Hidden::Final } else { Hidden::None };
        let started = Instant::now();
        self.model.executor.step(&Batch { slices: &slices, hidden, beside: &[] }, &mut self.output)?;
        let seconds = started.elapsed().as_secs_f64();
        let rows: usize = slices.iter().map(|slice| slice.tokens.len()).sum();
        self.status.steps += 1;
        self.status.rows += rows as u64;
        self.status.step_seconds += seconds;
        let lengths = slices.iter().map(|slice| self.model.executor.length(slice.sequence));
        self.status.step_bytes += self.reads.of(&self.about.spec, KvBytes::of(self.about.kv), rows, lengths);
        match portions.iter().all(|portion| portion.tokens == 1) {
            true => self.pace.answered(rows, seconds),
            false => self.pace.measured(rows, seconds),
        }
        Ok(())
    }

    /// What the step's logits say; `over` gets the jobs that come to an end by it, in order.
    fn hear(&mut self, portions: &[Portion], over: &mut Vec<(usize, End)>) {
        let output = std::mem::take(&mut self.output);
        let mut logits = output.logits.chunks_exact(self.model.spec().vocabulary.max(1));
        let width = self.model.spec().hidden;
        let mut hidden = output.hidden.first().map_or(&[][..], Vec::as_slice);
        for portion in portions {
            let job = &mut self.running[portion.job];
            self.fairness.charge(&job.client, portion.tokens);
            let chosen_from = if portion.tokens == job.unfed() { 1 + job.draft.tokens.len() } else { 0 };
            let before = if job.tells_of_prompt() { portion.tokens - chosen_from.min(1) } else { 0 };
            let told: Vec<&[f32]> = logits.by_ref().take(before).collect();
            let rows: Vec<&[f32]> = logits.by_ref().take(chosen_from).collect();
            let first = job.place.map_or(0, |place| place.fed);
            let (own, rest) = hidden.split_at(hidden.len().min(job.gathered().len() * width));
            hidden = rest;
            let flow = job.tell_of_prompt(first, &told);
            if job.advance(portion.tokens) == Flow::Stop || flow == Flow::Stop {
                over.push((portion.job, End::Stopped));
            } else if !rows.is_empty() {
                // a prompt's end: what was guessed wrong is fed again, too, but nobody comes back to that
                if self.forgets && portion.tokens > 1 && job.usage().decoded_tokens == 0 {
                    self.mark(portion.job);
                }
                if let Some(end) = self.choose(portion.job, &rows) {
                    over.push((portion.job, end));
                }
            }
            if let Some(drafter) = &mut self.drafter {
                let job = &mut self.running[portion.job];
                let known = job.place.map_or(0, |place| place.fed).saturating_sub(first) * width;
                drafter.hear(job, first, &own[..known.min(own.len())]);
            }
        }
        self.output = output;
    }

    /// Chooses an answer's next token, and for every guess that was right one more.
    fn choose(&mut self, at: usize, rows: &[&[f32]]) -> Option<End> {
        let job = &mut self.running[at];
        let before = job.history().len();
        let (mut right, mut end) = (0, None);
        for row in rows {
            match job.next(row) {
                Ok(Next::Feed(token)) if job.draft.tokens.get(right) == Some(&token) => right += 1,
                Ok(Next::Feed(_)) => break,
                Ok(Next::End) => {
                    end = Some(End::Over);
                    break;
                }
                Err(error) => {
                    end = Some(End::Failed(error));
                    break;
                }
            }
        }
        self.status.decoded_tokens += (job.history().len() - before) as u64;
        if !job.draft.tokens.is_empty() {
            self.status.guessed_tokens += job.draft.tokens.len() as u64;
            self.status.right_guesses += right as u64;
            if job.draft.from() == From::Model {
                self.status.drafted_tokens += job.draft.tokens.len() as u64;
                self.status.right_drafts += right as u64;
            }
            job.judged(right);
            if let Some(place) = &mut job.place {
                place.fed += right;
                // what was guessed wrong is taken back, and what cannot be without more is fed again
                match self.model.executor.truncate(place.sequence, place.fed) {
                    Ok(length) => place.fed = length,
                    Err(error) => return Some(End::Failed(error.into())),
                }
            }
        }
        end
    }

    /// Keeps a prompt's cache as it is now: the next prompt may begin with this one and another answer, and the cache
    /// could not go back.
    fn mark(&mut self, at: usize) {
        let job = &self.running[at];
        let Some(place) = job.place else { return };
        let tokens = job.history()[..place.fed].to_vec();
        if let Ok((fork, _)) = self.model.executor.fork(place.sequence, place.fed, self.about.context) {
            self.keep(fork, tokens);
        }
    }

    /// Tells how a job ended. What it has cached is kept.
    fn end(&mut self, mut job: Job, end: End) {
        if let Some(drafter) = &mut self.drafter {
            drafter.forget(&mut job);
        }
        if let Some(place) = job.place.take() {
            let tokens = job.history()[..place.fed].to_vec();
            match end {
                End::Failed(_) => self.model.executor.close(place.sequence),
                End::Over | End::Stopped => self.keep(place.sequence, tokens),
            }
        }
        let usage = job.usage();
        self.status.masks += usage.masks as u64;
        self.status.mask_seconds += usage.mask_seconds;
        self.status.mask_wait_seconds += usage.mask_wait_seconds;
        match end {
            End::Over => self.status.finished += 1,
            End::Stopped => self.status.cancelled += 1,
            End::Failed(_) => self.status.failed += 1,
        }
        // whoever hears of the end finds it counted
        self.show();
        match end {
            End::Over => job.end(false),
            End::Stopped => job.end(true),
            End::Failed(error) => job.fail(error),
        }
    }

    fn keep(&mut self, sequence: SequenceId, tokens: Vec<u32>) {
        if tokens.is_empty() {
            self.model.executor.close(sequence);
            return;
        }
        let bytes = self.about.kv_bytes(tokens.len());
        let gone = self.kept.keep(sequence, tokens, bytes, self.forgets);
        while self.kept.len() > MOST_KEPT && self.give_up() {}
        gone.into_iter().for_each(|sequence| self.model.executor.close(sequence));
        self.make_room(0, None);
    }

    fn show(&mut self) {
        self.status.running = self.running.len();
        self.status.kept = self.kept.len();
        // every page is asked for this, which takes longer than all else here
        if self.running.is_empty() || self.counted.elapsed() > COUNTED_EVERY {
            self.status.kv_bytes = self.model.kv_bytes() + self.drafter.as_ref().map_or(0, Drafter::kv_bytes);
            self.counted = Instant::now();
        }
        self.status.disk = self.disk.as_ref().map(Disk::status).unwrap_or_default();
        *self.shown.status.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = self.status.clone();
    }
}

/// How a job ends.
enum End {
    /// The answer is over.
    Over,
    /// Nobody wants it any more.
    Stopped,
    Failed(EngineError),
}
