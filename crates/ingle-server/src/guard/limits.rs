//! How much the owner of a key may ask, and how much they did.
//!
//! Counted are requests that ask for something (`POST`), when they come, and tokens, when their answer ends: those of the
//! prompt that had to be computed, and those of the answer. What the cache had costs nothing and is not counted. What was
//! begun before the day's tokens were used up is ended, so a day may have some more. All counts begin anew when the server
//! does.

use crate::problem::Problem;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);
/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// Most requests a minute that are worth counting one by one.
const MOST_A_MINUTE: u64 = 1_000_000;

/// How much a key's owner may ask; what is `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests in any sixty seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens from midnight to midnight, UTC.
    pub tokens_per_day: Option<u64>,
    /// Requests under way at a time.
    pub parallel: Option<u64>,
}

impl Limits {
    /// Their names in a file of keys, and their values.
    pub(crate) fn named(self) -> [(&'static str, Option<u64>); 3] {
        [
            ("requests-per-minute", self.requests_per_minute),
            ("tokens-per-day", self.tokens_per_day),
            ("parallel", self.parallel),
        ]
    }

    /// With one more, as a file of keys has it: `NAME=N`.
    ///
    /// # Errors
    /// Something else, and a name that it has already.
    pub(crate) fn with(mut self, text: &str) -> Result<Limits, String> {
        let names = || self.named().map(|(name, _)| format!("{name}=N")).join(", ");
        let other = || format!("`{text}` is no limit; there are: {}", names());
        let (name, number) = text.split_once('=').ok_or_else(other)?;
        let number: u64 = number.parse().ok().filter(|&number| number > 0).ok_or_else(|| {
            format!("`{text}` has no number that can be a limit: a whole number above 0 is needed")
        })?;
        let most = if name == "requests-per-minute" { MOST_A_MINUTE } else { u64::MAX };
        if number > most {
            return Err(format!("`{text}` is more than the {most} that can be counted; leave the limit out"));
        }
        let of = match name {
            "requests-per-minute" => &mut self.requests_per_minute,
            "tokens-per-day" => &mut self.tokens_per_day,
            "parallel" => &mut self.parallel,
            _ => return Err(other()),
        };
        match of.replace(number) {
            None => Ok(self),
            Some(_) => Err(format!("`{name}` is there twice")),
        }
    }
}

/// What a key's owner has used.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// When requests came, of the last minute, where that is limited.
    came: VecDeque<Instant>,
    /// Days since 1970, of which these are the tokens.
    day: u64,
    tokens: u64,
    running: u64,
}

/// A request that was let through; it is over when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Account>);

impl Account {
    /// Lets a request through at `now`, which is `seconds` after 1970 began.
    ///
    /// # Errors
    /// One more than `limits` allow, with how long it has to wait. It is not counted.
    pub(crate) fn admit(
        self: &Arc<Account>,
        name: &str,
        limits: Limits,
        now: Instant,
        seconds: u64,
    ) -> Result<Turn, Problem> {
        let mut used = self.used();
        if let Some(most) = limits.parallel
            && used.running >= most
        {
            let message = format!(
                "the key `{name}` may have {} under way at a time, and has; try again when one has ended",
                counted(most, "request")
            );
            return Err(later(message, 1));
        }
        if let Some(most) = limits.requests_per_minute {
            while used.came.front().is_some_and(|&came| now.duration_since(came) >= MINUTE) {
                used.came.pop_front();
            }
            if let Some(&first) = used.came.front()
                && used.came.len() as u64 >= most
            {
                let wait = MINUTE.saturating_sub(now.duration_since(first)).as_secs_f64().ceil() as u64;
                let most = counted(most, "request");
                let message =
                    format!("the key `{name}` may send {most} a minute, and did; try again in {wait} s");
                return Err(later(message, wait));
            }
        }
        if let Some(most) = limits.tokens_per_day
            && used.day == seconds / DAY
            && used.tokens >= most
        {
            let (tokens, wait) = (used.tokens, DAY - seconds % DAY);
            let message = format!(
                "the key `{name}` may use {} a day, and used {tokens}; try again in {wait} s, at midnight UTC",
                counted(most, "token")
            );
            return Err(later(message, wait));
        }
        if limits.requests_per_minute.is_some() {
            used.came.push_back(now);
        }
        used.running += 1;
        Ok(Turn(self.clone()))
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Turn {
    /// Counts tokens that were used by `seconds` after 1970 began.
    pub(crate) fn count(&self, tokens: u64, seconds: u64) {
        let mut used = self.0.used();
        if used.day != seconds / DAY {
            (used.day, used.tokens) = (seconds / DAY, 0);
        }
        used.tokens = used.tokens.saturating_add(tokens);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.used().running -= 1;
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// What tells clients when to come again, in seconds, beside the header that says the same.
pub(crate) const RETRY_AFTER: &str = "retry_after_seconds";

fn later(message: String, wait: u64) -> Problem {
    let more = vec![(RETRY_AFTER, wait.max(1))];
    Problem { more, ..Problem::with_status(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(texts: &[&str]) -> Limits {
        texts.iter().try_fold(Limits::default(), |limits, text| limits.with(text)).unwrap()
    }

    fn wait(refused: Result<Turn, Problem>) -> u64 {
        refused.unwrap_err().more.iter().find(|(name, _)| *name == RETRY_AFTER).unwrap().1
    }

    #[test]
    fn any_sixty_seconds_have_as_many_requests_as_are_allowed() {
        let (account, two, start) =
            (Arc::new(Account::default()), limits(&["requests-per-minute=2"]), Instant::now());
        let at = |seconds: f64| account.admit("ann", two, start + Duration::from_secs_f64(seconds), 0);
        drop((at(0.0).unwrap(), at(20.5).unwrap()));
        assert_eq!(wait(at(30.0)), 30);
        assert_eq!(wait(at(59.9)), 1);
        drop(at(60.0).unwrap());
        assert_eq!(wait(at(60.0)), 21);
        assert!(at(80.6).is_ok(), "what was refused does not count");
    }

    #[test]
    fn a_day_has_its_tokens_and_the_next_one_its_own() {
        let (account, some, now) =
            (Arc::new(Account::default()), limits(&["tokens-per-day=10"]), Instant::now());
        let at = |seconds: u64| account.admit("ann", some, now, seconds);
        let turn = at(DAY).unwrap();
        turn.count(9, DAY);
        turn.count(3, DAY + 1);
        assert_eq!(wait(at(2 * DAY - 100)), 100);
        assert!(at(2 * DAY).is_ok());
        turn.count(10, 2 * DAY);
        assert_eq!(wait(at(2 * DAY)), DAY);
    }

    #[test]
    fn so_many_are_under_way_at_a_time() {
        let (account, one, now) = (Arc::new(Account::default()), limits(&["parallel=1"]), Instant::now());
        let turn = account.admit("ann", one, now, 0).unwrap();
        assert_eq!(wait(account.admit("ann", one, now, 0)), 1);
        drop(turn);
        account.admit("ann", one, now, 0).unwrap();
    }

    #[test]
    fn limits_are_written_as_they_are_read() {
        let all = limits(&["parallel=3", "tokens-per-day=1000000", "requests-per-minute=60"]);
        let wanted =
            Limits { requests_per_minute: Some(60), tokens_per_day: Some(1_000_000), parallel: Some(3) };
        assert_eq!(all, wanted);
        for wrong in ["parallel", "parallel=", "parallel=0", "parallel=-1", "speed=3", "parallel=2", "=1"] {
            assert!(all.with(wrong).is_err(), "{wrong}");
        }
        assert!(Limits::default().with("requests-per-minute=1000001").is_err());
    }
}
