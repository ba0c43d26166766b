//! The models that can be asked: loaded when somebody asks, gone when others need their memory.
//!
//! ```text
//!            ask                   made room for another, or kept long enough
//! on disk ─────────► loaded ────────────────────────────────────────────────► on disk
//!                    │    ▲
//!                    └────┘ leases: whoever answers with it holds one
//! ```
//!
//! One model is loaded at a time, so that the memory each of them finds is what there is. A model that is being
//! answered with is never taken away: whoever needs its memory waits until its answers have ended, and further
//! requests to it wait behind.

use crate::ask::blocking;
use crate::keep::Keep;
use crate::problem::Problem;
use axum::http::StatusCode;
use ingle_engine::{Description, Engine, EngineError};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest that a model waits for the answers of others to end, so that it finds room.
const PATIENCE: Duration = Duration::from_secs(300);
/// What names may end with where no other version is meant.
const LATEST: &str = ":latest";

/// What a model that is to be loaded has to know of the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Bytes of the free memory that are promised to them.
    pub promised: u64,
    /// Refuse rather than make do with less than what is wanted: some of them could go.
    pub no_less: bool,
}

/// Loads a model.
pub type Load = Box<dyn Fn(&Room) -> Result<Engine, EngineError> + Send + Sync>;

/// A model that can be asked, loaded or not.
pub struct Offer {
    /// The name that requests call it by.
    pub id: String,
    /// Other names that it answers to.
    pub aliases: Vec<String>,
    /// What it is.
    pub description: Description,
    /// Seconds since 1970 at which its files were changed.
    pub changed: u64,
    /// Whether it is loaded before anybody asks.
    pub at_start: bool,
    /// Whether it never makes room.
    pub pinned: bool,
    /// Brings it into the memory.
    pub load: Load,
}

impl Offer {
    fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }
}

/// A model that is loaded.
pub(crate) struct Served {
    /// The name that requests call it by.
    pub(crate) id: String,
    /// Answers.
    pub(crate) engine: Engine,
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What is to be known of an offer's memory.
struct State {
    loaded: Option<Arc<Served>>,
    /// Leases.
    users: usize,
    used: Instant,
    keep: Keep,
    /// Whether it makes room as soon as nobody uses it; further users wait.
    leaving: bool,
}

/// All of them.
pub(crate) struct Models {
    offers: Vec<Offer>,
    states: Mutex<Vec<State>>,
    /// Told whenever a lease ends.
    freed: Condvar,
    /// Held while one is loaded.
    loading: Mutex<()>,
    /// The turn to load one.
    turn: tokio::sync::Mutex<()>,
    /// How long they stay, where a request does not say.
    keep: Keep,
    pub(crate) loads: AtomicU64,
    pub(crate) unloads: AtomicU64,
}

/// The right to answer with a model, which stays loaded meanwhile.
pub(crate) struct Lease {
    models: Arc<Models>,
    at: usize,
    served: Arc<Served>,
    /// How long it took to load, if it was not.
    pub(crate) load: Duration,
}

impl Deref for Lease {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Clone for Lease {
    fn clone(&self) -> Lease {
        self.models.states()[self.at].users += 1;
        Lease { models: self.models.clone(), at: self.at, served: self.served.clone(), load: self.load }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut states = self.models.states();
        let state = &mut states[self.at];
        state.users -= 1;
        state.used = Instant::now();
        let gone = if self.models.is_over(self.at, state) { state.loaded.take() } else { None };
        drop(states);
        if gone.is_some() {
            self.models.unloads.fetch_add(1, Ordering::Relaxed);
        }
        self.models.freed.notify_all();
    }
}

impl Lease {
    /// Sets how long the model stays after this, and says what of that cannot be.
    pub(crate) fn keep(&self, keep: Keep) -> Option<String> {
        if self.models.offers[self.at].pinned {
            let stays = keep != Keep::Forever;
            return stays.then(|| "`keep_alive` has no effect on this model, which always stays".into());
        }
        self.models.states()[self.at].keep = keep;
        None
    }
}

impl Models {
    pub(crate) fn new(offers: Vec<Offer>, keep: Keep) -> Models {
        let state = |_: &Offer| State { loaded: None, users: 0, used: Instant::now(), keep, leaving: false };
        Models {
            states: Mutex::new(offers.iter().map(state).collect()),
            offers,
            freed: Condvar::new(),
            loading: Mutex::new(()),
            turn: tokio::sync::Mutex::new(()),
            keep,
            loads: AtomicU64::new(0),
            unloads: AtomicU64::new(0),
        }
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// All that can be asked.
    pub(crate) fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// Those that are loaded, with how long each stays if nobody asks it.
    pub(crate) fn loaded(&self) -> Vec<(&Offer, Arc<Served>, Keep)> {
        let states = self.states();
        let both = self.offers.iter().zip(states.iter());
        both.filter_map(|(offer, state)| {
            let left = match state.keep {
                Keep::For(time) if state.users == 0 => Keep::For(time.saturating_sub(state.used.elapsed())),
                keep => keep,
            };
            Some((offer, state.loaded.clone()?, if offer.pinned { Keep::Forever } else { left }))
        })
        .collect()
    }

    /// The one of that name; without a name, the first.
    ///
    /// # Errors
    /// A name that none has.
    pub(crate) fn named(&self, name: Option<&str>) -> Result<usize, Problem> {
        let called = |name: &str| self.offers.iter().position(|offer| offer.is_called(name));
        let found = match name {
            None => (!self.offers.is_empty()).then_some(0),
            Some(name) => called(name).or_else(|| match name.strip_suffix(LATEST) {
                Some(bare) => called(bare),
                None => called(&format!("{name}{LATEST}")),
            }),
        };
        found.ok_or_else(|| {
            let name: String = name.unwrap_or_default().chars().take(200).collect();
            let all: Vec<&str> = self.offers.iter().map(|offer| offer.id.as_str()).collect();
            let message = format!("there is no model `{name}` here; there is: {}", all.join(", "));
            Problem { kind: "model_not_found", field: Some("model".into()), ..Problem::not_found(message) }
        })
    }

    /// A lease of the model of that name, or of the first; loads it if need be.
    ///
    /// # Errors
    /// A name that none has, and a model that cannot be loaded.
    pub(crate) async fn lease(self: &Arc<Models>, name: Option<&str>) -> Result<Lease, Problem> {
        let at = self.named(name)?;
        if let Some(lease) = self.leased(at) {
            return Ok(lease);
        }
        // those that wait take no thread
        let _one_at_a_time = self.turn.lock().await;
        if let Some(lease) = self.leased(at) {
            return Ok(lease);
        }
        let models = self.clone();
        blocking(move || models.loaded_lease(at)).await
    }

    /// A lease of what is loaded and stays.
    fn leased(self: &Arc<Models>, at: usize) -> Option<Lease> {
        let state = &mut self.states()[at];
        // one whose files were overwritten has to be loaded again
        let served = state.loaded.clone().filter(|served| !state.leaving && served.engine.is_intact())?;
        state.users += 1;
        // what an earlier request said of it was for that one
        state.keep = self.keep;
        Some(Lease { models: self.clone(), at, served, load: Duration::ZERO })
    }

    fn loaded_lease(self: &Arc<Models>, at: usize) -> Result<Lease, Problem> {
        self.load(at).map_err(|error| {
            let id = &self.offers[at].id;
            match error {
                EngineError::DoesNotFit { .. } => {
                    let message = format!("the model `{id}` finds no room: {error}");
                    Problem::with_status(StatusCode::SERVICE_UNAVAILABLE, "overloaded_error", message)
                }
                _ => Problem::internal(format!("the model `{id}` cannot be loaded: {error}")),
            }
        })
    }

    /// Loads those that are wanted from the start.
    ///
    /// # Errors
    /// The first that cannot be loaded.
    pub(crate) fn start(self: &Arc<Models>) -> Result<(), (String, EngineError)> {
        let mut wanted = self.offers.iter().enumerate().filter(|(_, offer)| offer.at_start || offer.pinned);
        wanted.try_for_each(|(at, offer)| self.load(at).map(drop).map_err(|error| (offer.id.clone(), error)))
    }

    /// Loads one that may be loaded already; others make room, those first that were not used for longest.
    fn load(self: &Arc<Models>, at: usize) -> Result<Lease, EngineError> {
        let started = Instant::now();
        let _one_at_a_time = self.loading.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(mut lease) = self.leased(at) {
                lease.load = started.elapsed();
                return Ok(lease);
            }
            if self.states()[at].loaded.is_some() && !self.unload(at, deadline) {
                return Err(EngineError::Gone);
            }
            let idle = self.oldest(|state| state.users == 0);
            let room = Room { promised: self.promised(), no_less: idle.is_some() };
            let refused = match (self.offers[at].load)(&room) {
                Ok(engine) => {
                    let served = Arc::new(Served { id: self.offers[at].id.clone(), engine });
                    let state = &mut self.states()[at];
                    (state.loaded, state.users, state.keep) = (Some(served.clone()), 1, self.keep);
                    self.loads.fetch_add(1, Ordering::Relaxed);
                    return Ok(Lease { models: self.clone(), at, served, load: started.elapsed() });
                }
                Err(refused @ EngineError::DoesNotFit { .. }) => refused,
                Err(error) => return Err(error),
            };
            match idle.or_else(|| self.oldest(|_| true)) {
                Some(victim) if self.unload(victim, deadline) => {}
                _ => return Err(refused),
            }
        }
    }

    /// The loaded one that was not used for longest, among those that may go.
    fn oldest(&self, which: impl Fn(&State) -> bool) -> Option<usize> {
        let states = self.states();
        let all = states.iter().zip(&self.offers).enumerate();
        let may = all.filter(|(_, (state, offer))| state.loaded.is_some() && !offer.pinned && which(state));
        may.min_by_key(|(_, (state, _))| state.used).map(|(at, _)| at)
    }

    /// Bytes of the free memory that loaded models may still take for their caches.
    fn promised(&self) -> u64 {
        let states = self.states();
        let loaded = states.iter().filter_map(|state| state.loaded.as_ref());
        loaded
            .map(|served| {
                let status = served.engine.status();
                status.kv_budget.saturating_sub(status.kv_bytes)
            })
            .sum()
    }

    /// Takes a model away as soon as nobody uses it, and waits until its memory is free. Whether that happened in time.
    fn unload(&self, at: usize, deadline: Instant) -> bool {
        let mut states = self.states();
        states[at].leaving = true;
        while states[at].users > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                states[at].leaving = false;
                return false;
            }
            states = match self.freed.wait_timeout(states, left) {
                Ok((states, _)) => states,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        let state = &mut states[at];
        state.leaving = false;
        let gone = state.loaded.take();
        drop(states);
        if let Some(served) = gone {
            self.unloads.fetch_add(1, Ordering::Relaxed);
            if let Some(served) = Arc::into_inner(served) {
                served.engine.close();
            }
        }
        true
    }

    /// Has what loaded models have cached written to disk, where that is wanted, and waits for it, but no longer than
    /// `time`.
    pub(crate) fn write_cached(&self, time: Duration) {
        let deadline = Instant::now() + time;
        let writing: Vec<_> =
            self.loaded().iter().map(|(_, served, _)| served.engine.write_cached()).collect();
        for written in writing {
            // an engine without such a disk says nothing
            _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// Whether a model was kept long enough.
    fn is_over(&self, at: usize, state: &State) -> bool {
        let long = matches!(state.keep, Keep::For(time) if state.used.elapsed() >= time);
        long && state.users == 0 && !state.leaving && !self.offers[at].pinned
    }

    /// Lets those go that were kept long enough.
    pub(crate) fn sweep(&self) {
        let mut states = self.states();
        let over = states.iter_mut().enumerate().filter(|(at, state)| self.is_over(*at, state));
        let gone: Vec<_> = over.filter_map(|(_, state)| state.loaded.take()).collect();
        drop(states);
        self.unloads.fetch_add(gone.len() as u64, Ordering::Relaxed);
    }
}
