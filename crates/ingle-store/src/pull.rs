//! A model comes to this machine: looked up, fetched, compared with what was published, and only then there.

use crate::digest::Digest;
use crate::fetch::{Client, FetchError};
use crate::name::TaggedName;
use crate::own::{Part, Store};
use crate::remote::{self, Bases, NotThere};
use sha2::{Digest as _, Sha256};
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// What was chosen, and why.
    Chosen(&'a str),
    /// Bytes of all files that are here.
    Bytes {
        /// So many.
        done: u64,
        /// Of so many; 0 where nobody says.
        all: u64,
    },
}

/// A model that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What it is called.
    pub name: TaggedName,
    /// Where it lies.
    pub folder: PathBuf,
    /// Its files.
    pub parts: Vec<Part>,
    /// Bytes that had to be fetched.
    pub fetched: u64,
}

/// Why it did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// There is no such model.
    #[error(transparent)]
    NotThere(#[from] NotThere),
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It cannot be kept.
    #[error("the model cannot be kept: {0}")]
    Store(#[from] io::Error),
}

/// Fetches a model by the name that people give it.
///
/// # Errors
/// Why it did not come; what is here of it is gone on with the next time.
pub fn pull(
    client: &Client,
    bases: &Bases,
    store: &Store,
    text: &str,
    memory: Option<u64>,
    told: &mut dyn FnMut(Step),
) -> Result<Pulled, PullError> {
    let model = remote::find(client, bases, text, memory)?;
    if let Some(said) = &model.said {
        told(Step::Chosen(said));
    }
    let _guard = store.adding()?;
    let all: u64 = model.files.iter().filter_map(|(_, wanted)| wanted.bytes).sum();
    let (mut parts, mut before, mut fetched) = (Vec::new(), 0, 0);
    for (path, wanted) in &model.files {
        let part = |digest: Digest, bytes: u64| Part {
            path: path.clone(),
            digest,
            bytes,
            from: wanted.url.clone(),
            published: wanted.digest.is_some(),
        };
        let here =
            wanted.digest.and_then(|digest| Some((digest, store.blob(&digest).metadata().ok()?.len())));
        let part = match here.filter(|(_, bytes)| wanted.bytes.is_none_or(|wanted| wanted == *bytes)) {
            Some((digest, bytes)) => part(digest, bytes),
            None => {
                let key =
                    wanted.digest.unwrap_or_else(|| Digest::finished(Sha256::new_with_prefix(&wanted.url)));
                let partial = store.partial()?.join(key.hex());
                let (digest, bytes) = client.fetch(wanted, &partial, &mut |done, of| {
                    told(Step::Bytes { done: before + done, all: if all > 0 { all } else { of } });
                })?;
                fetched += bytes;
                store.adopt(&partial, &digest)?;
                part(digest, bytes)
            }
        };
        before += part.bytes;
        told(Step::Bytes { done: before, all: all.max(before) });
        parts.push(part);
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let folder = store.add(&model.name, &parts, seconds)?;
    Ok(Pulled { name: model.name, folder, parts, fetched })
}
