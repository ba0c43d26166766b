//! `ingle man`: the manual page.

use crate::args::Cli;
use crate::console::Output;
use anyhow::Result;
use clap::CommandFactory;
use clap_mangen::Man;
use std::io::Write;

/// One page for the program, followed by the sections of every command.
pub(crate) fn run() -> Result<()> {
    let mut page = Vec::new();
    let mut command = Cli::command();
    command.build();
    Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let title = format!("ingle {}", sub.get_name());
        let man = Man::new(sub.clone().display_name(title.clone()));
        writeln!(page, ".SH \"COMMAND {}\"", title.to_uppercase())?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    let mut output = Output::new("the manual page");
    output.write_all(&page)?;
    Ok(output.flush()?)
}
