//! The command line's grammar.

mod compute;
mod config;
mod numbers;
mod sampling;

use crate::commands::{
    bench, bundle, completions, doctor, embed, key, list, logits, offline, pull, rm, run, serve, show,
    tokenize, verify,
};
use crate::console::{harmless, is_closed_pipe, on_errors};
use crate::errors;
use crate::messages;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
pub(crate) use compute::{Compute, ComputeArgs, ComputeListArgs, kv_of, size};
pub(crate) use numbers::{count, positive, tokens};
pub(crate) use sampling::SamplingArgs;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

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
    Serve(Box<serve::Args>),
    Key(key::Args),
    Pull(pull::Args),
    List(list::Args),
    Rm(rm::Args),
    Gc(rm::CollectArgs),
    Bundle(bundle::Args),
    Import(bundle::ImportArgs),
    Verify(verify::Args),
    Show(show::Args),
    Embed(Box<embed::Args>),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Tokenize(tokenize::Args),
    Logits(logits::Args),
    Offline(offline::Args),
    Completions(completions::Args),
    /// Print the manual page in roff (`ingle man > ingle.1`).
    Man,
}

impl Command {
    /// Whether a program reads the result, and the error if there is one.
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Run(args) => args.json,
            Command::List(args) => args.json,
            Command::Show(args) => args.json,
            Command::Embed(args) => args.json(),
            Command::Bench(args) => args.json,
            Command::Doctor(args) => args.json,
            Command::Tokenize(args) => args.json,
            Command::Offline(args) => args.json(),
            Command::Serve(_)
            | Command::Key(_)
            | Command::Pull(_)
            | Command::Rm(_)
            | Command::Gc(_)
            | Command::Bundle(_)
            | Command::Import(_)
            | Command::Verify(_)
            | Command::Logits(_)
            | Command::Completions(_)
            | Command::Man => false,
        }
    }
}

/// Reads the program's arguments. With help to print, or a mistake in them, it prints that and gives the exit code.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&arguments).map_err(refused)?;
    match &cli.command {
        Command::Serve(args) if let Some(file) = &args.config => with_file(arguments, file),
        _ => Ok(cli),
    }
}

/// The arguments of `ingle serve` with those of a file, which the command line overrules.
fn with_file(mut arguments: Vec<OsString>, file: &Path) -> Result<Cli, ExitCode> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(&arguments).map_err(refused)?;
    let found = matches.subcommand().and_then(|(name, given)| Some((command.find_subcommand(name)?, given)));
    let Some((serve, given)) = found else { return Err(ExitCode::from(2)) };
    let said = config::read(file, serve, given).map_err(|problem| errors::report(&problem.into(), false))?;
    // behind the program's and the command's names
    arguments.splice(2..2, said);
    Cli::try_parse_from(&arguments).map_err(|error| {
        let code = refused(error);
        on_errors(|notes| notes.say(&format!("(some of these arguments stand in {})", file.display())));
        code
    })
}

/// Prints help that was asked for, or what is wrong with the arguments.
fn refused(mut error: clap::Error) -> ExitCode {
    suggest_quotes(&mut error);
    let plain = || error.render().to_string();
    // clap sets off words with escape sequences of its own, but would let those of the arguments through
    let clean = |argument: OsString| {
        let argument = argument.to_string_lossy().into_owned();
        argument == harmless(&argument)
    };
    if error.use_stderr() {
        match std::env::args_os().all(clean) {
            true => drop(error.print()),
            false => on_errors(|notes| notes.say(plain().trim_end())),
        }
    } else if let Err(failed) = error.print() {
        let failed = anyhow::Error::from(failed);
        if !is_closed_pipe(&failed) {
            on_errors(|notes| notes.error(&format!("cannot write the help: {failed}")));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// A prompt of several words without quotes is the usual reason for one argument too many.
fn suggest_quotes(error: &mut clap::Error) {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).skip(1).collect();
    let extra = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(extra)) => extra,
        _ => return,
    };
    let one_too_many = error.kind() == ErrorKind::UnknownArgument && !extra.starts_with('-');
    if let [command, prompt @ ..] = words.as_slice()
        && command == "run"
        && one_too_many
    {
        let prompt: Vec<&str> =
            prompt.iter().map(String::as_str).take_while(|word| !word.starts_with('-')).collect();
        let tip = messages::quotes(&prompt.join(" "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
}
