//! `ingle serve`: models for other programs, over HTTP.

mod offers;

use crate::args::{ComputeArgs, kv_of, positive, size};
use crate::console::{Output, on_errors, say};
use crate::errors::Usage;
use crate::messages;
use anyhow::Result;
use ingle_engine::{EngineError, PrefixFolder};
use ingle_model::spec::KvFormat;
use ingle_server::{At, Keep, Keys, ServeOptions, Serving, Tls};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Answer other programs over HTTP, with the APIs of OpenAI, Anthropic and Ollama.
///
/// Many requests are answered at once, each as if it were alone. Nobody beyond this machine can ask unless you open the
/// address and give out keys.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(value_name = "MODEL", help = format!(
        "{} [default: ember]. The first is loaded at the start, further ones when they are asked; NAME=MODEL sets what \
         requests call it", messages::MODEL_HELP))]
    models: Vec<String>,
    /// Serve the models in this folder, too; may be given several times
    #[arg(long, value_name = "FOLDER")]
    folder: Vec<PathBuf>,
    /// What requests call the first model [default: its file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Another name that requests may call the first model by; may be given several times
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// A model that is loaded at the start and always stays, by its name; may be given several times
    #[arg(long, value_name = "NAME")]
    pin: Vec<String>,
    /// Keys and values of one model kept in another way than --kv says, such as big=8bit; may be given several times
    #[arg(long, value_name = "NAME=FORMAT", value_parser = kv_of)]
    kv_of: Vec<(String, KvFormat)>,
    /// How long a model stays loaded when nobody asks it, such as 30m [default: until another needs its memory]
    #[arg(long, value_name = "TIME", value_parser = Keep::parse, allow_hyphen_values = true)]
    keep_alive: Option<Keep>,
    /// Options from a TOML file, by the names they have here; what is given here overrules it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The address to listen at; beyond this machine it needs keys
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 takes any that is free
    #[arg(long, value_name = "N", default_value_t = 11435)]
    port: u16,
    /// Listen at a socket of this path instead, which you alone may use (HTTP as before: `curl --unix-socket PATH`)
    #[arg(long, value_name = "PATH", conflicts_with_all = ["host", "port", "insecure_no_keys", "tls_cert", "tls_key"])]
    socket: Option<PathBuf>,
    /// Speak TLS with the certificate in this file (PEM), behind which those stand that vouch for it; read at start
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Ask for one of the keys whose hashes are in this file (`ingle key new`)
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Let everybody who reaches the address use the models
    #[arg(long, conflicts_with = "keys")]
    insecure_no_keys: bool,
    /// A name that requests may call this machine by, beside localhost; may be given several times
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// A web page that may use the server, such as http://localhost:3000; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Most answers in the making at a time
    #[arg(long, value_name = "N", default_value_t = 16, allow_negative_numbers = true, value_parser = positive)]
    at_once: usize,
    /// Most requests that wait for their turn; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 512, allow_negative_numbers = true, value_parser = positive)]
    queue: usize,
    /// Memory for keys and values of all conversations, such as 4GB [default: half of what is free]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    kv_memory: Option<u64>,
    /// Keep what was computed of conversations in this folder, too, so that they go on quickly after a restart. What people
    /// wrote stands in its files, readable to this user alone
    #[arg(long, value_name = "FOLDER")]
    prefix_cache: Option<PathBuf>,
    /// Most bytes of that folder's files; those that were of no use for longest are removed
    #[arg(long, value_name = "SIZE", default_value = "8GiB", value_parser = size)]
    prefix_cache_size: u64,
    /// Tokens that a conversation may have [default: what the model was made for, if it fits]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    context: Option<usize>,
    /// A small model with the same tokens that guesses what the first model will say; it says the same, sooner
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,
    /// Guess with the models' own blocks that predict further tokens (MTP), where the files have them; they say the same,
    /// sooner
    #[arg(long, conflicts_with = "draft")]
    mtp: bool,
    /// Do not guess tokens ahead, neither from text that repeats itself nor with a small model
    #[arg(long, conflicts_with_all = ["draft", "mtp"])]
    no_guessing: bool,
    /// Most bytes of a request
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    max_body: u64,
    /// Seconds that answers under way may take to end when the server stops
    #[arg(long, value_name = "N", default_value_t = 30)]
    drain: u64,
    /// Seconds that a client may take nothing of its answer before it is cut off, and the answer given up
    #[arg(long, value_name = "N", default_value_t = 60, allow_negative_numbers = true, value_parser = positive)]
    write_timeout: usize,
    /// No line per request
    #[arg(short, long)]
    quiet: bool,
    /// Write what was asked into the line of each request, for whoever can read standard error
    #[arg(long, conflicts_with = "quiet")]
    log_prompts: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

const EXAMPLES: &str = "\
Examples:
  ingle serve ./qwen3-4b-q4_k_m.gguf
  curl http://127.0.0.1:11435/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'
  ingle serve small=./qwen3-0.6b.gguf big=./gpt-oss-20b.gguf --pin small
  ingle key new ann --keys keys.txt && ingle serve ./model.gguf --host 0.0.0.0 --keys keys.txt";

pub(crate) fn run(args: &Args) -> Result<()> {
    let compute = args.compute.choose()?;
    let keys = args.keys.as_deref().map(Keys::read).transpose()?;
    // what would be refused after minutes of loading is refused now
    let tls = match (&args.tls_cert, &args.tls_key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some(Tls::read(certificate, key)?),
        (Some(_), None) => return Err(Usage("--tls-cert is given without --tls-key".into()).into()),
        (None, Some(_)) => return Err(Usage("--tls-key is given without --tls-cert".into()).into()),
    };
    let at = match &args.socket {
        Some(path) => At::Socket(path.clone()),
        None => At::Address(SocketAddr::new(args.host, args.port)),
    };
    at.check(keys.is_some() || args.insecure_no_keys)?;
    let started = Arc::new(AtomicBool::new(false));
    let prefixes = args.prefix_cache.as_deref().map(|folder| prefixes(folder, args, &started)).transpose()?;
    let offers = offers::offers(args, compute, prefixes.as_ref(), &started)?;
    let names = offers.iter().map(|offer| offer.id.as_str()).collect::<Vec<_>>().join(", ");
    if !args.quiet {
        compute.notice().iter().for_each(|notice| say(&format!("note: {notice}")));
    }
    if args.log_prompts {
        on_errors(|notes| notes.say(messages::PROMPTS_ARE_LOGGED));
    }
    let serving = Serving::start(
        offers,
        ServeOptions {
            at,
            tls,
            keys,
            insecure: args.insecure_no_keys,
            host_names: args.allow_host.clone(),
            origins: args.cors.clone(),
            most_body: usize::try_from(args.max_body).unwrap_or(usize::MAX),
            keep: args.keep_alive.unwrap_or_default(),
            drain: Duration::from_secs(args.drain),
            write_time: Duration::from_secs(args.write_timeout as u64),
            log_prompts: args.log_prompts,
            seal: || crate::offline::seal().map_err(|error| error.to_string()),
            log: (!args.quiet).then(|| Arc::new(|line: &str| say(line)) as _),
        },
    )?;
    started.store(true, Ordering::Relaxed);
    let mut output = Output::new("the address");
    writeln!(output, "{names} at {}", serving.place()?)?;
    output.flush()?;
    serving.run();
    Ok(())
}

/// Where prefixes are kept on disk. What goes wrong there is a note for people as long as the server has not `started`, and a
/// line of its log after that.
fn prefixes(folder: &Path, args: &Args, started: &Arc<AtomicBool>) -> Result<PrefixFolder, EngineError> {
    let (quiet, started) = (args.quiet, started.clone());
    let tell = move |message: &str| match (quiet, started.load(Ordering::Relaxed)) {
        (true, _) => {}
        (false, false) => say(&format!("note: {message}")),
        (false, true) => say(&serde_json::json!({ "note": message }).to_string()),
    };
    PrefixFolder::open(folder, args.prefix_cache_size, Arc::new(tell))
}
