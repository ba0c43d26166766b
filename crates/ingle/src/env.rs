//! Environment variables the program reads, by name. No other file spells one.

use std::ffi::OsString;
use std::path::PathBuf;

/// Number of threads, where `--threads` is not given.
pub(crate) const THREADS: &str = "INGLE_THREADS";
/// Instruction set of the kernels, where `--isa` is not given.
pub(crate) const ISA: &str = "INGLE_ISA";
/// Memory for routed experts, where `--expert-memory` is not given.
pub(crate) const EXPERT_MEMORY: &str = "INGLE_EXPERT_MEMORY";

/// Set and not 0: commands go on where the kernel does not let them give up the network.
pub(crate) const UNSEALED: &str = "INGLE_UNSEALED";
/// Set and not 0: nothing is fetched.
pub(crate) const OFFLINE: &str = "INGLE_OFFLINE";
/// A mirror of Hugging Face's repositories.
pub(crate) const HUB: &str = "INGLE_HUB";
/// A mirror of Ollama's registry.
pub(crate) const REGISTRY: &str = "INGLE_REGISTRY";
/// Certificates to trust in place of the usual ones, as companies' proxies need them.
pub(crate) const CERTIFICATES: &str = "INGLE_CERTIFICATES";
/// A token for Hugging Face's repositories that are not open to everybody.
pub(crate) const HUB_TOKEN: &str = "HF_TOKEN";

/// Set and not empty: no colour, on any stream (<https://no-color.org>).
const NO_COLOR: &str = "NO_COLOR";
/// What the terminal can do; `dumb` can do nothing.
const TERM: &str = "TERM";
/// Where programs keep a person's data (XDG base directories).
const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// The same on Windows.
const APPDATA: &str = "APPDATA";
/// The person's home.
const HOME: &str = "HOME";

/// Whether the person and the terminal allow colour.
pub(crate) fn colour_allowed() -> bool {
    set(NO_COLOR).is_none() && std::env::var_os(TERM).is_none_or(|term| term != "dumb")
}

/// The folder for this program's data, whether it exists or not; `None` where the system names no home.
pub(crate) fn data_folder() -> Option<PathBuf> {
    let absolute = |name| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute(XDG_DATA_HOME)
        .or_else(|| if cfg!(windows) { absolute(APPDATA) } else { None })
        .or_else(|| absolute(HOME).map(|home| home.join(".local/share")));
    data.map(|folder| folder.join("ingle"))
}

/// `path` with a leading `~` replaced by the home folder, for shells and prompts that did not.
pub(crate) fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), set(HOME)) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// Whether a variable is there, not empty and not 0.
pub(crate) fn is_on(name: &str) -> bool {
    set(name).is_some_and(|value| value != "0")
}

/// A variable that is there and not empty.
pub(crate) fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
