//! The command line's grammar.

mod compute;
mod sampling;

use crate::commands::{completions, logits, run, show, tokenize};
use crate::messages;
use clap::{Parser, Subcommand};
pub(crate) use compute::ComputeArgs;
pub(crate) use sampling::SamplingArgs;

/// Runs open-weight language models on your own machine. Nothing leaves it.
#[derive(Debug, Parser)]
#[command(name = "ingle", version, about, after_help = messages::EXAMPLES, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Args>),
    Show(show::Args),
    Tokenize(tokenize::Args),
    Logits(logits::Args),
    Completions(completions::Args),
    /// Print the manual page in roff (`ingle man > ingle.1`).
    Man,
}
