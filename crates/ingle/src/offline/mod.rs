//! The program without a network.
//!
//! Before a model is read, the process gives up what it would need to open a connection, and the kernel holds it to that:
//! a seccomp filter over system calls, for all threads and for every program started from then on, and Landlock beside it.
//! Neither can be taken back. A listener that was bound before goes on accepting. On systems without such means nothing
//! is enforced, and [`seal`] says so.
//!
//! What is not covered: another program that hands over a socket of its own (it would have to be told to), and what other
//! programs do with files that this one writes.

#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod landlock;

use crate::console::on_errors;
use crate::{env, messages};
use anyhow::{Error, Result};

/// What the kernel enforces from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Why system calls are not filtered; `None` if they are.
    pub(crate) unfiltered: Option<String>,
    /// Why Landlock does not refuse connections besides; `None` if it does.
    pub(crate) landlock_missing: Option<String>,
}

/// Gives up what can be given up while the program may still bind a listener: for the thread that calls it, and those it
/// starts. Where that is not possible, why.
pub(crate) fn seal_connections() -> Option<String> {
    #[cfg(target_os = "linux")]
    return landlock::restrict().err();
    #[cfg(not(target_os = "linux"))]
    return Some(messages::NO_SEAL_HERE.into());
}

/// Gives up the network, for all threads.
///
/// # Errors
/// A kernel that refuses, unless the person has said to go on then (`INGLE_UNSEALED=1`).
pub(crate) fn seal() -> Result<()> {
    match filter() {
        Some(why) if cfg!(target_os = "linux") && !is_allowed() => {
            Err(Error::msg(messages::not_sealed(&why)))
        }
        Some(why) if cfg!(target_os = "linux") => {
            on_errors(|notes| notes.say(&messages::goes_on_unsealed(&why)));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether the person goes on without.
fn is_allowed() -> bool {
    env::is_on(env::UNSEALED)
}

/// Filters system calls of all threads; where that is not possible, why.
fn filter() -> Option<String> {
    #[cfg(target_os = "linux")]
    return filter::install().err();
    #[cfg(not(target_os = "linux"))]
    return Some(messages::NO_SEAL_HERE.into());
}

/// Both, with what became of them.
pub(crate) fn seal_and_tell() -> Seal {
    let landlock_missing = seal_connections();
    Seal { unfiltered: filter(), landlock_missing }
}
