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
    /// Both executors against the reference library's outputs, as a table.
    Goldens {
        /// A folder of checkpoints with golden.safetensors beside them; without it the project's fixtures.
        folder: Option<PathBuf>,
    },
    /// What quantised weights cost in accuracy, beside a peer.
    Errors {
        /// A folder of GGUF files, each with the peer's logits beside it (`NAME.llamacpp.bin`).
        folder: PathBuf,
    },
    /// Ember's score on its sealed test, beside its card.
    EmberEval {
        /// Another file than the built-in one, such as models/ember/ember-q4_k_m.gguf.
        #[arg(long)]
        model: Option<PathBuf>,
        /// Run the scalar reference executor.
        #[arg(long)]
        reference: bool,
        /// How keys and values are kept: 16bit, 8bit or 4bit.
        #[arg(long, default_value = "16bit")]
        kv: String,
    },
    /// The kernels' tests on emulated 64-bit Arm processors.
    Emulated {
        /// Processors in QEMU's names, separated by commas.
        #[arg(long, value_delimiter = ',', default_values = xtask::emulated::PROCESSORS)]
        cpu: Vec<String>,
        /// Parts of the names of the tests to run.
        #[arg(default_values = ["kernels", "matrix"])]
        filters: Vec<String>,
    },
    /// Random and mutated bodies to all routes of a server, which has to bear them. Build the program first (`cargo build`).
    Bodies {
        /// Another program than target/debug/ingle.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Requests.
        #[arg(short = 'n', long, default_value_t = 1_000_000)]
        count: u64,
        /// The number of the first request.
        #[arg(long, default_value_t = 0)]
        first: u64,
        /// What they are made from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Clients at a time.
        #[arg(short, long, default_value_t = 8)]
        clients: usize,
    },
    /// Other people's clients, installed from their registries, against the server.
    Clients,
    /// Clients at a server, whose every stream must say what its request says alone: a table of times. Build the program
    /// first (`cargo build --release`).
    Load {
        /// The model to serve.
        #[arg(default_value = "ember")]
        model: String,
        /// Another program than target/release/ingle.
        #[arg(long)]
        binary: Option<PathBuf>,
        /// Numbers of clients, one after the other.
        #[arg(short, long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,32")]
        clients: Vec<usize>,
        /// Seconds for each of them.
        #[arg(short, long, default_value_t = 60)]
        seconds: u64,
        /// Tokens of an answer, about.
        #[arg(short = 'n', long, default_value_t = 64)]
        tokens: usize,
        /// Different requests.
        #[arg(short, long, default_value_t = 40)]
        requests: usize,
        /// How keys and values are kept: 16bit, 8bit or 4bit.
        #[arg(long, default_value = "16bit")]
        kv: String,
    },
    /// What guessing ahead brings: answers that are made to be an edited file and a summary, with and without it.
    Guess {
        /// A GGUF file or a folder.
        model: PathBuf,
        /// A small model that guesses, too.
        #[arg(long)]
        draft: Option<PathBuf>,
        /// The model's own block guesses, too.
        #[arg(long, conflicts_with = "draft")]
        mtp: bool,
        /// Share of its guesses that are made right.
        #[arg(long, default_value_t = 0.8)]
        right: f64,
        /// Threads; 0 takes the physical cores.
        #[arg(short, long, default_value_t = 0)]
        threads: usize,
        /// Rounds of without and with.
        #[arg(short, long, default_value_t = 3)]
        rounds: usize,
    },
    /// Writes the document that describes the server's routes.
    Openapi {
        /// Where it goes.
        #[arg(long, default_value = "docs/openapi.json")]
        out: PathBuf,
    },
    /// The thread pool's protocol under a model checker.
    Loom,
    /// Time per decoded token over the context, with sparse attention and without: a table and a chart.
    SparseCurve {
        /// Where the chart goes.
        #[arg(long, default_value = "docs/sparse-attention.svg")]
        out: PathBuf,
        /// Layers of the slice.
        #[arg(long, default_value_t = 2)]
        layers: usize,
        /// Threads; 0 takes the physical cores.
        #[arg(short, long, default_value_t = 0)]
        threads: usize,
        /// Tokens decoded at each context.
        #[arg(short = 'n', long, default_value_t = 15)]
        tokens: usize,
        /// Longest context.
        #[arg(short, long, default_value_t = 65_536)]
        context: usize,
    },
    /// Tokens per second beside another engine's, interleaved.
    Versus {
        /// A GGUF file.
        model: PathBuf,
        /// The peer's command, to which -t, -p, -n, -d and the model's path are appended; empty measures ours alone. It
        /// must print a JSON line with prompt_tps and gen_tps.
        #[arg(long, default_value = "python3 ../shared/tools/peer_bench.py --best")]
        peer: String,
        /// Threads; 0 takes the physical cores.
        #[arg(short, long, default_value_t = 0)]
        threads: usize,
        /// Tokens of the prompt.
        #[arg(short, long, default_value_t = 512)]
        prompt: usize,
        /// Tokens generated after it.
        #[arg(short = 'n', long, default_value_t = 64)]
        generate: usize,
        /// Tokens in the cache before the prompt.
        #[arg(short, long, default_value_t = 0)]
        depth: usize,
        /// Rounds of A and B.
        #[arg(short, long, default_value_t = 3)]
        rounds: usize,
        /// Runs of ours in a round, of which the median counts.
        #[arg(long, default_value_t = 3)]
        repeats: usize,
        /// Also print the result as a line of a Markdown table.
        #[arg(long)]
        markdown: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Goldens { folder } => xtask::goldens::goldens(folder.as_deref()),
        Chore::Errors { folder } => xtask::errors::errors(&folder),
        Chore::EmberEval { model, reference, kv } => {
            xtask::ember_eval::eval(model.as_deref(), reference, &kv)
        }
        Chore::Emulated { cpu, filters } => xtask::emulated::emulated(&cpu, &filters),
        Chore::Bodies { binary, count, first, seed, clients } => {
            let binary = binary.as_deref();
            xtask::bodies::bodies(&xtask::bodies::Options { binary, count, first, seed, clients })
        }
        Chore::Clients => xtask::clients::clients(),
        Chore::Load { model, binary, clients, seconds, tokens, requests, kv } => {
            let (model, binary, clients) = (&model[..], binary.as_deref(), &clients[..]);
            xtask::load::load(&xtask::load::Options {
                model,
                binary,
                clients,
                seconds,
                tokens,
                requests,
                kv: &kv,
            })
        }
        Chore::Guess { model, draft, mtp, right, threads, rounds } => {
            let (model, draft) = (&model, draft.as_deref());
            xtask::guess::guess(&xtask::guess::Options { model, draft, mtp, right, threads, rounds })
        }
        Chore::Loom => xtask::loom::loom(),
        Chore::Openapi { out } => xtask::openapi::write(&out),
        Chore::SparseCurve { out, layers, threads, tokens, context } => {
            let out = &out;
            xtask::sparse_curve::sparse_curve(&xtask::sparse_curve::Options {
                out,
                layers,
                threads,
                tokens,
                context,
            })
        }
        Chore::Versus { model, peer, threads, prompt, generate, depth, rounds, repeats, markdown } => {
            let (model, peer) = (&model, &peer);
            xtask::versus::versus(&xtask::versus::Options {
                model,
                peer,
                threads,
                prompt,
                generate,
                depth,
                rounds,
                repeats,
                markdown,
            })
        }
    }
}
