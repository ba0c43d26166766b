//! `ingle key`: keys for `ingle serve`.

use crate::console::{Output, say};
use anyhow::{Context, Result};
use ingle_server::{Limits, Role, new_key};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Make keys for `ingle serve --keys FILE`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a key, print it this one time, and add its hash to the file
    New {
        /// Whose key it is: one word
        name: String,
        /// What it allows
        #[arg(long, value_name = "ROLE", default_value = "infer", value_parser = role)]
        role: Role,
        /// The file of keys; it is made if it is not there
        #[arg(long, value_name = "FILE")]
        keys: PathBuf,
        /// Requests that its owner may send in any sixty seconds [default: no limit]
        #[arg(long, value_name = "N")]
        requests_per_minute: Option<u64>,
        /// Tokens that its owner may use from midnight to midnight, UTC: those of prompts that had to be computed, and
        /// those of answers [default: no limit]
        #[arg(long, value_name = "N")]
        tokens_per_day: Option<u64>,
        /// Requests that its owner may have under way at a time [default: no limit]
        #[arg(long, value_name = "N")]
        parallel: Option<u64>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| {
        "`infer` (ask models) or `manage` (change what models there are, too) is needed".into()
    })
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Action::New { name, role, keys, requests_per_minute, tokens_per_day, parallel } = &args.action;
    let limits = Limits {
        requests_per_minute: *requests_per_minute,
        tokens_per_day: *tokens_per_day,
        parallel: *parallel,
    };
    let (key, line) = new_key(name, *role, limits).map_err(anyhow::Error::msg)?;
    append(keys, &line).with_context(|| format!("cannot write {}", keys.display()))?;
    say(&format!("the key of {name}, which is shown this one time; {} holds its hash:", keys.display()));
    let mut output = Output::new("the key");
    writeln!(output, "{key}")?;
    output.flush()?;
    Ok(())
}

/// Adds a line to a file that its owner alone may read.
fn append(path: &Path, line: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    file.sync_all()
}
