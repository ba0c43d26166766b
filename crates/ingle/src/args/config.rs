//! A file of options: each of its keys is an option of the command line, by the same name, that the command line does not
//! give itself.
//!
//! The command's own definition says which keys there are and what they take, so no option is written twice and none is
//! known on one side alone.

use crate::errors::Usage;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The option that names such a file. It is no key of one.
pub(crate) const OPTION: &str = "config";

/// The arguments that `path` says and `given`, what the command line says, does not. All of the file is checked, what the
/// command line overrules included.
///
/// # Errors
/// A file that cannot be read or is no TOML; a key that is no option of `command`, and a value that is none of its key's,
/// by file, line and key.
pub(crate) fn read(path: &Path, command: &Command, given: &ArgMatches) -> Result<Vec<OsString>, Usage> {
    let at = |line: usize, problem: String| Usage(format!("{}, line {line}: {problem}", path.display()));
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("cannot read the options in {}: {error}", path.display())))?;
    let line = |byte: usize| text.as_bytes()[..byte].iter().filter(|&&byte| byte == b'\n').count() + 1;
    let table = DeTable::parse(&text)
        .map_err(|error| at(line(error.span().map_or(0, |span| span.start)), error.message().to_owned()))?;
    let mut arguments = Vec::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        let told = |problem| at(line(key.span().start), problem);
        let option = options(command).find(|option| key_of(option) == name);
        let option = option.ok_or_else(|| told(unknown(name, command)))?;
        let said = said(option, value).map_err(|problem| told(format!("`{name}` {problem}")))?;
        let alone = command.clone().no_binary_name(true).try_get_matches_from(&said);
        alone.map_err(|error| told(format!("`{name}` {}; it is: {}", refused(&error), help(option))))?;
        if given.value_source(option.get_id().as_str()) != Some(ValueSource::CommandLine) {
            arguments.extend(said);
        }
    }
    Ok(arguments)
}

/// All that a file may say.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let shown = |option: &&Arg| ![OPTION, "help", "version"].contains(&option.get_id().as_str());
    command.get_arguments().filter(shown)
}

/// What an option is called in a file: as on the command line, without the dashes.
fn key_of(option: &Arg) -> &str {
    option.get_long().unwrap_or(option.get_id().as_str())
}

fn help(option: &Arg) -> String {
    option.get_help().map(ToString::to_string).unwrap_or_default()
}

/// A value as the arguments that say it.
fn said(option: &Arg, value: &Spanned<DeValue>) -> Result<Vec<OsString>, String> {
    let several = matches!(option.get_action(), ArgAction::Append);
    match (option.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{}", key_of(option)).into()]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => Err("is either on or off: `true` or `false` is needed".into()),
        (_, DeValue::Array(list)) if several => {
            list.iter().map(|one| argument(option, one.get_ref(), several)).collect()
        }
        (_, one) => Ok(vec![argument(option, one, several)?]),
    }
}

fn argument(option: &Arg, value: &DeValue, several: bool) -> Result<OsString, String> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => return Err(format!("has a number that is too large, {}", number.as_str())),
        },
        DeValue::Float(number) => number.as_str().to_owned(),
        other if several => {
            let kind = other.type_str();
            return Err(format!(
                "takes texts in quotes, one or a list as in [\"a\", \"b\"], and has a {kind}"
            ));
        }
        other => return Err(format!("takes a number or a text in quotes, and is a {}", other.type_str())),
    };
    Ok(match option.get_long() {
        Some(long) => format!("--{long}={text}"),
        // what begins with a dash would be read as an option
        None if text.starts_with('-') => format!("./{text}"),
        None => text,
    }
    .into())
}

/// Why a value is not taken.
fn refused(error: &clap::Error) -> String {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value.as_str(),
        _ => "that",
    };
    let why = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("cannot be `{value}`{}", why.unwrap_or_default())
}

fn unknown(name: &str, command: &Command) -> String {
    let mut keys: Vec<&str> = options(command).map(key_of).collect();
    keys.sort_unstable();
    let dashes = name.replace('_', "-");
    match keys.contains(&dashes.as_str()) {
        true => format!("there is no option `{name}`; it is written `{dashes}`"),
        false => format!("there is no option `{name}`; there are: {}", keys.join(", ")),
    }
}
