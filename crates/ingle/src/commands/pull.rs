//! `ingle pull`: a model comes to this machine. The one command that opens connections.

use crate::console::{Output, say};
use crate::figures::bytes;
use crate::progress::{Progress, Unit};
use crate::{env, errors, found, messages};
use anyhow::Result;
use ingle_engine::memory;
use ingle_store::{Bases, Client, Step, pull};
use std::io::Write;
use std::path::PathBuf;

/// Fetch a model, compare it with what was published, and keep it.
///
/// This is the only command that opens connections: to the place that the name says, and to those it leads to. What was
/// interrupted goes on where it was. INGLE_OFFLINE=1 forbids it. INGLE_HUB and INGLE_REGISTRY name mirrors, INGLE_CERTIFICATES
/// a PEM file of certificates to trust, HF_TOKEN a token for repositories that are not open to everybody; a proxy is taken
/// from HTTPS_PROXY or ALL_PROXY.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// NAME:TAG (Ollama's registry), OWNER/REPOSITORY[:FORMAT] (Hugging Face; without FORMAT the largest that fits the
    /// memory), or the address of a .gguf file
    #[arg(value_name = "MODEL")]
    model: String,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if env::is_on(env::OFFLINE) {
        return Err(errors::Usage(messages::OFFLINE.into()).into());
    }
    let store = found::own_store()?;
    let text = |name: &str| env::set(name).and_then(|value| value.into_string().ok());
    let usual = Bases::default();
    let bases = Bases {
        hub: text(env::HUB).unwrap_or(usual.hub),
        registry: text(env::REGISTRY).unwrap_or(usual.registry),
        hub_token: text(env::HUB_TOKEN),
    };
    let certificates = env::set(env::CERTIFICATES).map(PathBuf::from);
    let client = Client::new(certificates.as_deref())?;
    let mut progress = Progress::new_if(!args.quiet, "fetching", Unit::Bytes);
    let pulled = pull(&client, &bases, &store, &args.model, memory::available(), &mut |step| match step {
        Step::Chosen(why) => say(&format!("note: {why}")),
        Step::Bytes { done, all } => progress.update(done, all),
    });
    progress.finish();
    let pulled = pulled?;
    let all: u64 = pulled.parts.iter().map(|part| part.bytes).sum();
    for part in pulled.parts.iter().filter(|part| !part.published) {
        say(&messages::nothing_published(&part.path, &part.digest.to_string()));
    }
    let mut output = Output::new("the name");
    let how = if pulled.fetched == 0 { "is here already" } else { "is here" };
    writeln!(output, "{} {how} ({}); `ingle run {}` talks to it", pulled.name, bytes(all), pulled.name)?;
    output.flush()?;
    Ok(())
}
