//! `ingle list`: the models that this machine has already.

use crate::console::{Output, harmless, say};
use crate::figures::bytes;
use crate::{ember, found, messages};
use anyhow::Result;
use ingle_store::{Found, Kind};
use serde_json::json;
use std::io::Write;

/// List the models that this machine has already, whichever program keeps them. They are used where they lie.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let listing = found::here();
    let mut output = Output::new("the list");
    if args.json {
        let folders = found::folders().0;
        let folders = folders.iter().map(
            |(program, path)| json!({ "program": program.name(), "path": path, "there": path.is_dir() }),
        );
        let document = json!({
            "models": listing.models.iter().map(document).collect::<Vec<_>>(),
            "troubles": listing.troubles, "looked_in": folders.collect::<Vec<_>>(),
        });
        writeln!(output, "{document:#}")?;
    } else {
        let name = |found: &Found| found.name.chars().count();
        let width = listing.models.iter().map(name).max().unwrap_or(0).clamp(20, 72);
        writeln!(output, "{:width$}  {:>9}  kept by", "name", "size")?;
        writeln!(output, "{:width$}  {:>9}  this program", ember::NAME, bytes(ember::bytes()))?;
        for found in &listing.models {
            writeln!(
                output,
                "{:width$}  {:>9}  {}",
                harmless(&found.name),
                bytes(found.bytes),
                found.program.name()
            )?;
        }
    }
    output.flush()?;
    if !args.json {
        listing.troubles.iter().for_each(|trouble| say(&format!("note: {trouble}")));
        if listing.models.is_empty() {
            say(&messages::no_models(&found::folders()));
        }
    }
    Ok(())
}

fn document(found: &Found) -> serde_json::Value {
    json!({
        "name": found.name, "program": found.program.name(), "path": found.path, "bytes": found.bytes,
        "kind": match found.kind { Kind::Gguf => "gguf", Kind::Checkpoint => "checkpoint" },
        "digest": found.digest.map(|digest| digest.to_string()),
    })
}
