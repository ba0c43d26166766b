//! `ingle completions`: completion scripts for shells.

use crate::args::Cli;
use crate::console::Output;
use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// Print a completion script for a shell (bash: `source <(ingle completions bash)`).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ingle", &mut script);
    let mut output = Output::new("the script");
    output.write_all(&script)?;
    Ok(output.flush()?)
}
