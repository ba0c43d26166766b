//! `ingle rm` and `ingle gc`: models and files go.

use crate::console::{Output, harmless};
use crate::figures::bytes;
use crate::{errors, found, messages};
use anyhow::{Context, Result};
use ingle_store::{Freed, TaggedName};
use std::io::Write;

/// Remove models that `ingle pull` has fetched, once no fetch is under way. What other programs keep is theirs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names as `ingle list` shows them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Remove files that belong to no model: what was interrupted, and what damaged folders left behind.
#[derive(Debug, clap::Args)]
pub(crate) struct CollectArgs {}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (store, listing) = (found::own_store()?, found::here());
    let names: Vec<TaggedName> =
        args.names.iter().map(|word| found::ours(&listing, word)).collect::<Result<_>>()?;
    let mut output = Output::new("what was removed");
    for name in names {
        if !store.remove(&name).with_context(|| format!("cannot remove {name}"))? {
            return Err(errors::Usage(messages::not_ours(&name.to_string())).into());
        }
        writeln!(output, "{} is removed", harmless(&name.to_string()))?;
    }
    tell(&mut output, store.free().context("its files cannot be removed")?)
}

pub(crate) fn collect(_: &CollectArgs) -> Result<()> {
    let freed = found::own_store()?.collect().context("files that belong to no model cannot be removed")?;
    tell(&mut Output::new("what was removed"), freed)
}

fn tell(output: &mut Output, freed: Freed) -> Result<()> {
    let files = if freed.files == 1 { "file is" } else { "files are" };
    writeln!(output, "{} {files} gone, {} free", freed.files, bytes(freed.bytes))?;
    Ok(output.flush()?)
}
