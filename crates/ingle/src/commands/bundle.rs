//! `ingle bundle` and `ingle import`: models go to machines without a network.

use crate::args::size;
use crate::console::{Output, harmless};
use crate::figures::bytes;
use crate::found;
use crate::progress::{Progress, Unit};
use anyhow::{Context, Result};
use ingle_store::{Bundled, TaggedName, bundle, import};
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Write models that `ingle pull` has fetched into one file, to be carried to a machine without a network. What was
/// interrupted goes on where it was.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Names as `ingle list` shows them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// The file to make
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Write a set of files of at most so many bytes, FILE.001 and on, for disks that hold no larger ones (FAT32: 4GB)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    volume: Option<u64>,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

/// Take the models of a file that `ingle bundle` has made. All of it is compared with its table of contents before a model is
/// there.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file, or the first of a set (FILE.001)
    file: PathBuf,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let (store, listing) = (found::own_store()?, found::here());
    let model = |word: &String| -> Result<Bundled> {
        let name: TaggedName = found::ours(&listing, word)?;
        let parts =
            store.parts(&name).map_err(anyhow::Error::msg).with_context(|| format!("cannot use {name}"))?;
        Ok(Bundled { name, parts })
    };
    let models: Vec<Bundled> = args.names.iter().map(model).collect::<Result<_>>()?;
    let mut progress = Progress::new_if(!args.quiet, "writing", Unit::Bytes);
    let files = bundle(&store, &models, &args.out, args.volume, &mut |done, all| progress.update(done, all));
    progress.finish();
    let files = files?;
    let mut output = Output::new("what was made");
    for file in &files {
        let size = file.metadata().map_or(0, |about| about.len());
        writeln!(output, "{} ({})", harmless(&file.display().to_string()), bytes(size))?;
    }
    Ok(output.flush()?)
}

pub(crate) fn take(args: &ImportArgs) -> Result<()> {
    let store = found::own_store()?;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut progress = Progress::new_if(!args.quiet, "reading", Unit::Bytes);
    let models = import(&store, &args.file, seconds, &mut |done, all| progress.update(done, all));
    progress.finish();
    let mut output = Output::new("what has come");
    for model in &models? {
        let all: u64 = model.parts.iter().map(|part| part.bytes).sum();
        writeln!(output, "{} is here ({}); `ingle run {}` talks to it", model.name, bytes(all), model.name)?;
    }
    Ok(output.flush()?)
}
