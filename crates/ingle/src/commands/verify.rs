//! `ingle verify`: whether files are those that were published.

use crate::console::{Output, harmless, say};
use crate::figures::bytes;
use crate::progress::{Progress, Unit};
use crate::{errors, found, messages};
use anyhow::Result;
use ingle_store::{Choice, Digest, Found, Listing};
use std::io::Write;
use std::process::ExitCode;

/// Compare models with the SHA-256 that was published with them, as far as whoever fetched them wrote it down.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names as `ingle list` shows them [default: all that have something to be compared with]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Only say what is damaged
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let listing = found::here();
    let models = chosen(&listing, &args.names)?;
    let mut output = Output::new("what was found");
    let mut damaged = 0;
    for (found, digest) in &models {
        let Some(digest) = digest else {
            say(&format!(
                "note: nobody wrote down a digest of {}; there is nothing to compare it with",
                found.name
            ));
            continue;
        };
        let mut progress = Progress::new_if(!args.quiet, "reading", Unit::Bytes);
        let verdict = digest.verify(&found.path, &mut |done| progress.update(done, found.bytes));
        progress.finish();
        match verdict {
            Ok(()) if args.quiet => {}
            Ok(()) => writeln!(
                output,
                "{}: as published ({digest}, {})",
                harmless(&found.name),
                bytes(found.bytes)
            )?,
            Err(mismatch) => {
                damaged += 1;
                let (name, path) = (harmless(&found.name), harmless(&found.path.display().to_string()));
                writeln!(output, "{name}: {mismatch} ({path})")?;
            }
        }
        output.flush()?;
    }
    if models.is_empty() {
        say("there is no model here that has something to be compared with");
    }
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The models that are meant, with their digests.
fn chosen<'a>(listing: &'a Listing, names: &[String]) -> Result<Vec<(&'a Found, Option<Digest>)>> {
    if names.is_empty() {
        let known = listing.models.iter().filter(|found| found.digest.is_some());
        return Ok(known.map(|found| (found, found.digest)).collect());
    }
    let one = |name: &String| match listing.choose(name) {
        Choice::One(found) => Ok((found, found.digest)),
        Choice::None => Err(errors::Usage(messages::not_listed(name)).into()),
        Choice::Several(all) => {
            let all: Vec<String> = all.iter().map(|found| found::told(found)).collect();
            Err(errors::Usage(messages::several_models(name, &all)).into())
        }
    };
    names.iter().map(one).collect()
}
