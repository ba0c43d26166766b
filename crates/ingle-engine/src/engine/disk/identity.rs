//! What a cached prefix belongs to: whatever changes the numbers in it, or how they lie, changes this.

use super::file::Identity;
use ingle_model::Source;
use ingle_model::spec::{KvFormat, ModelSpec};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write};
use std::time::UNIX_EPOCH;

/// Counts changes of what executors cache: of layouts, and of networks that are computed otherwise.
const LAYOUT: u32 = 1;

/// Of a model and the format of its cache. A model's files are known by their lengths, their times of change and all that
/// their headers say; one that is part of the program by its bytes.
pub(super) fn identity(source: &Source, spec: &ModelSpec, kv: KvFormat) -> Identity {
    let mut sum = Sum(Sha256::new());
    let order = if cfg!(target_endian = "little") { "little" } else { "big" };
    sum.say(format_args!("{LAYOUT} {order} {}\n{spec:?}\n", kv.name()));
    source.tensors().iter().for_each(|tensor| sum.say(format_args!("{tensor:?}\n")));
    for (bytes, changed) in source.versions() {
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        sum.say(format_args!("{bytes} {changed:?}\n"));
        if changed.is_none() {
            source.tensors().iter().for_each(|tensor| sum.0.update(source.bytes(tensor)));
        }
    }
    sum.0.finalize().into()
}

struct Sum(Sha256);

impl Sum {
    fn say(&mut self, what: fmt::Arguments) {
        _ = self.write_fmt(what);
    }
}

impl Write for Sum {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
