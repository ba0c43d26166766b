//! `ingle offline`: the claim that nothing leaves the machine, put to the test.

mod attempts;
mod report;

use crate::console::Output;
use crate::{errors, offline};
use anyhow::Result;
use std::io::Write;
use std::process::ExitCode;

/// Show that this program cannot open a connection.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Give up the network as every command does before it reads a model, try in many ways to get out all the same, and
    /// report what the kernel answered
    Prove {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// What a program that was started afterwards can do; `prove` starts it
    #[command(hide = true)]
    Attempt { address: std::net::SocketAddr },
}

impl Args {
    pub(crate) fn json(&self) -> bool {
        matches!(self.action, Action::Prove { json: true })
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    match args.action {
        Action::Prove { json } => prove(json),
        // it is not sealed, and shall be of no use to anybody else
        Action::Attempt { address } if !address.ip().is_loopback() => {
            Err(errors::Usage("only an address on this machine is tried".into()).into())
        }
        Action::Attempt { address } => {
            let mut output = Output::new("what came of it");
            writeln!(
                output,
                "{}",
                attempts::connect(address).err().map_or("connected".into(), |error| error.to_string())
            )?;
            output.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn prove(json: bool) -> Result<ExitCode> {
    let sockets = report::sockets();
    let listener = attempts::Listener::open()?;
    // whoever tries has to be able to get somewhere, or being refused would mean nothing
    let before = attempts::all(&listener);
    let seal = offline::seal_and_tell();
    let after = attempts::all(&listener);
    let report = report::Report { seal, before, after, sockets };
    let mut output = Output::new("the report");
    match json {
        true => writeln!(output, "{:#}", report.json())?,
        false => write!(output, "{report}")?,
    }
    output.flush()?;
    Ok(if report.verdict() == report::Verdict::Holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
