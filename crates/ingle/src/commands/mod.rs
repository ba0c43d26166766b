//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod bundle;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod logits;
pub(crate) mod man;
pub(crate) mod offline;
pub(crate) mod pull;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod tokenize;
pub(crate) mod verify;

use crate::args::{Cli, Command};
use crate::offline::{seal, seal_connections};
use anyhow::Result;
use std::process::ExitCode;

/// Runs the command that was asked for.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    match &cli.command {
        // it binds its listener first, and gives up the rest before it reads a model
        Command::Serve(_) => _ = seal_connections(),
        // it does so itself, and compares
        Command::Offline(_) => {}
        // it reads no model
        Command::Pull(_) => {}
        _ => {
            _ = seal_connections();
            seal()?;
        }
    }
    let done = match cli.command {
        Command::Run(args) => return run::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Rm(args) => rm::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Import(args) => bundle::take(&args),
        Command::Gc(args) => rm::collect(&args),
        Command::List(args) => list::run(&args),
        Command::Verify(args) => return verify::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Bench(args) => return bench::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Offline(args) => return offline::run(&args),
        Command::Man => man::run(),
    };
    done.map(|()| ExitCode::SUCCESS)
}
