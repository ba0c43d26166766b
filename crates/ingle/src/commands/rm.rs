//! `ingle rm` and `ingle gc`: models and files go.

use crate::console::{Output, harmless};
use crate::figures::bytes;
use crate::{errors, found, messages};
use anyhow::{Context, Result};
use ingle_store::{Choice, Freed, Program, Store, TaggedName};
use std::io::Write;

/// Remove models that `ingle pull` has fetched. What other programs keep is theirs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names as `ingle list` shows them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Remove files that belong to no model: what was interrupted, and what damaged folders left behind.
#[derive(Debug, clap::Args)]
pub(crate) struct CollectArgs {}

fn store() -> Result<Store> {
    found::store().ok_or_else(|| anyhow::Error::msg(messages::NO_HOME))
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (store, listing) = (store()?, found::here());
    let names: Vec<TaggedName> = args.names.iter().map(|word| ours(&listing, word)).collect::<Result<_>>()?;
    let mut output = Output::new("what was removed");
    for name in names {
        if !store.remove(&name).with_context(|| format!("cannot remove {name}"))? {
            return Err(errors::Usage(messages::not_ours(&name.to_string())).into());
        }
        writeln!(output, "{} is removed", harmless(&name.to_string()))?;
    }
    tell(&mut output, store.collect().context("its files cannot be removed")?)
}

pub(crate) fn collect(_: &CollectArgs) -> Result<()> {
    let freed = store()?.collect().context("files that belong to no model cannot be removed")?;
    tell(&mut Output::new("what was removed"), freed)
}

/// The model of this program's own that a word means.
fn ours(listing: &ingle_store::Listing, word: &str) -> Result<TaggedName> {
    let refuse = |message: String| Err(errors::Usage(message).into());
    match listing.choose(word) {
        Choice::None => refuse(messages::not_listed(word)),
        Choice::Several(all) => {
            let all: Vec<String> = all.iter().map(|found| found::told(found)).collect();
            refuse(messages::several_models(word, &all))
        }
        Choice::One(found) => match found.name.parse() {
            Ok(name) if found.program == Program::Ingle => Ok(name),
            _ => refuse(messages::not_ours(&found::told(found))),
        },
    }
}

fn tell(output: &mut Output, freed: Freed) -> Result<()> {
    let files = if freed.files == 1 { "file is" } else { "files are" };
    writeln!(output, "{} {files} gone, {} free", freed.files, bytes(freed.bytes))?;
    Ok(output.flush()?)
}
