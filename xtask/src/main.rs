//! Runs the developer chores: `cargo run --release -p xtask -- CHORE`.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Developer chores of Ingle.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Both executors against the reference logits, as a table.
    Goldens,
    /// Ember's score on its sealed test, beside its card.
    EmberEval {
        /// Another file than the built-in one, such as models/ember/ember-q4_k_m.gguf.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Run the scalar reference executor.
        #[arg(long)]
        reference: bool,
    },
    /// Tokens per second beside another engine's, interleaved.
    Versus {
        /// A GGUF file.
        model: PathBuf,
        /// The peer's command; the model's path is appended. It must print a JSON line with prompt_tps and gen_tps.
        #[arg(long, default_value = "")]
        peer: String,
        /// Threads of ours; 0 takes the physical cores.
        #[arg(short, long, default_value_t = 0)]
        threads: usize,
        /// Tokens of the prompt.
        #[arg(short, long, default_value_t = 512)]
        prompt: usize,
        /// Tokens generated.
        #[arg(short = 'n', long, default_value_t = 64)]
        generate: usize,
        /// Rounds of A and B.
        #[arg(short, long, default_value_t = 2)]
        rounds: usize,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Goldens => xtask::goldens::goldens(),
        Chore::EmberEval { model, reference } => xtask::ember_eval::eval(model.as_deref(), reference),
        Chore::Versus { model, peer, threads, prompt, generate, rounds } => {
            let (model, peer) = (&model, &peer);
            xtask::versus::versus(&xtask::versus::Options { model, peer, threads, prompt, generate, rounds })
        }
    }
}
