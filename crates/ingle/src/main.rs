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
mod found;
mod input;
mod interrupt;
mod messages;
mod offline;
mod opening;
mod progress;
mod tensor_file;
mod tools;
mod whole_file;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let json = cli.command.json();
    commands::dispatch(cli).unwrap_or_else(|error| errors::report(&error, json))
}
