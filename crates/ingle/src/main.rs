//! The command line: commands, terminal chat, and every word that people read.
#![forbid(unsafe_code)]

mod args;
mod chat;
mod commands;
mod console;
mod ember;
mod env;
mod errors;
mod figures;
mod input;
mod interrupt;
mod messages;
mod opening;
mod progress;
mod tensor_file;
mod whole_file;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::dispatch(args::Cli::parse()) {
        Ok(code) => code,
        Err(error) => errors::report(&error),
    }
}
