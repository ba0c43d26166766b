//! Random and mutated bodies to every route that reads one. No answer may be the server's fault, none may be missing, and in
//! the end the server must say what it said before.
//!
//! Each request is made from the seed and its number alone, so that one can be sent again.

mod mutate;
mod seeds;
mod wire;

use anyhow::{Context, Result, bail, ensure};
use mutate::{Random, mutated};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wire::{Answer, Line, Server};

/// What to run.
pub struct Options<'a> {
    /// The program.
    pub binary: Option<&'a Path>,
    /// Requests.
    pub count: u64,
    /// The number of the first one.
    pub first: u64,
    /// What they are made from.
    pub seed: u64,
    /// Clients at a time.
    pub clients: usize,
}

/// The longest that an answer may take.
const LIMIT: Duration = Duration::from_secs(120);
/// After so many requests the server has to show that it is well.
const ROUND: u64 = 20_000;

/// A route with bodies to begin with.
struct Target {
    path: &'static str,
    seed: Value,
    /// Fields that the route knows.
    names: Vec<String>,
    /// Whether it says that it is not there.
    absent: bool,
}

/// Runs it.
///
/// # Errors
/// A defect: the request that showed it is in a file.
pub fn bodies(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = target.join("bodies");
    std::fs::create_dir_all(&folder)?;
    let built = target.join("debug/ingle");
    let server = Server::start(options.binary.unwrap_or(&built), &folder.join("server.log"))?;
    let targets = targets(&ingle_server::openapi())?;
    let before = said(&server)?;
    let memory = server.memory();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let work = || -> Result<BTreeMap<u16, u64>> {
        let mut line = Line::new(&server.address, LIMIT);
        let mut counts = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= options.count {
                break;
            }
            let number = options.first + at;
            let sent = one(&mut line, &targets, options.seed, number, &mut counts);
            if let Err((error, body)) = sent {
                stop.store(true, Ordering::Relaxed);
                let file = folder.join(format!("request-{number}"));
                std::fs::write(&file, body)?;
                let again = format!("again: --first {number} --count 1 --seed {}", options.seed);
                return Err(
                    error.context(format!("request {number}, whose body is {}; {again}", file.display()))
                );
            }
            if at % ROUND == ROUND - 1 {
                let well = well(&server, &before);
                well.inspect_err(|_| stop.store(true, Ordering::Relaxed))
                    .with_context(|| format!("at request {number}"))?;
                let rate = at as f64 / started.elapsed().as_secs_f64();
                println!("{:9} requests, {rate:6.0}/s, {:5.0} MB", at + 1, server.memory() as f64 / 1e6);
            }
        }
        *counts.entry(1).or_default() += line.again;
        Ok(counts)
    };
    let counted: Result<Vec<BTreeMap<u16, u64>>> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..options.clients).map(|_| scope.spawn(work)).collect();
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| bail!("a client broke"))).collect()
    });
    let seconds = started.elapsed().as_secs_f64();
    if let Some(panic) = server.panics()? {
        bail!("the server panicked ({:?}): {panic}", counted.err());
    }
    let mut all: BTreeMap<u16, u64> = BTreeMap::new();
    for (status, count) in counted?.into_iter().flatten() {
        *all.entry(status).or_default() += count;
    }
    well(&server, &before)?;
    println!("{} requests in {seconds:.0} s, {:.0}/s", options.count, options.count as f64 / seconds);
    for (status, count) in all {
        match status {
            0 => println!("  left in the middle  {count}"),
            1 => println!("  connection ended and opened again  {count}"),
            status => println!("  {status}                 {count}"),
        }
    }
    let after = server.memory();
    println!("memory before {:.0} MB, after {:.0} MB", memory as f64 / 1e6, after as f64 / 1e6);
    println!("no answer was the server's fault, none was missing, and it says what it said before");
    Ok(())
}

/// The routes of the document, each with a body to begin with at least.
fn targets(document: &Value) -> Result<Vec<Target>> {
    let seeds = seeds::seeds();
    let paths = document["paths"].as_object().context("the document has no paths")?;
    let posts = paths.iter().filter_map(|(path, of)| Some((path.split('{').next()?, of.get("post")?)));
    let posts: Vec<(&str, &Value)> = posts.collect();
    for (path, _) in &posts {
        let known =
            seeds.iter().any(|(seed, _)| seed == path || path.ends_with('/') && seed.starts_with(path));
        ensure!(known, "{path} has no body to begin with; add one to xtask/src/bodies/seeds.rs");
    }
    let target = |(path, seed): (&'static str, Value)| {
        let (_, of) = posts
            .iter()
            .find(|(known, _)| *known == path || known.ends_with('/') && path.starts_with(known))
            .with_context(|| format!("there is no {path}"))?;
        let known = of.pointer("/requestBody/content/application~1json/schema/properties");
        let names = known.and_then(Value::as_object).map(|names| names.keys().cloned().collect());
        Ok(Target {
            path,
            seed,
            names: names.unwrap_or_default(),
            absent: of.pointer("/responses/501").is_some(),
        })
    };
    seeds.into_iter().map(target).collect()
}

/// Sends a request; what of it goes wrong, with its body.
fn one(
    line: &mut Line,
    targets: &[Target],
    seed: u64,
    number: u64,
    counts: &mut BTreeMap<u16, u64>,
) -> Result<(), (anyhow::Error, Vec<u8>)> {
    let mut random = Random::new(seed, number);
    let mut target = &targets[random.below(targets.len())];
    // what is not there has little to show
    while target.absent && !random.once_in(8) {
        target = &targets[random.below(targets.len())];
    }
    let body = mutated(&target.seed, &target.names, &mut random);
    let leaves = random.below(16);
    let sent = (|| {
        if leaves < 2 {
            // in the middle of the request, or of the answer
            let most = if leaves == 0 { random.below(body.len() + 200) } else { usize::MAX };
            // the connection may have ended before
            _ = line.send("POST", target.path, &body, most);
            if leaves == 1 {
                line.read_some(random.below(400));
            }
            line.hang_up();
            return Ok(0);
        }
        let answer = line.ask("POST", target.path, &body).context(target.path)?;
        blameless(&answer, target).context(target.path)?;
        Ok(answer.status)
    })();
    match sent {
        Ok(status) => *counts.entry(status).or_default() += 1,
        Err(error) => return Err((error, body)),
    }
    Ok(())
}

/// That an answer is not the server's fault.
fn blameless(answer: &Answer, target: &Target) -> Result<()> {
    let text = || String::from_utf8_lossy(&answer.body).chars().take(2000).collect::<String>();
    let said = std::str::from_utf8(&answer.body).with_context(|| format!("no UTF-8: {}", text()))?;
    ensure!(answer.status < 500 || answer.status == 501 && target.absent, "{}: {}", answer.status, text());
    ensure!(!target.absent || answer.status >= 400, "{}: {}", answer.status, text());
    // what goes wrong within a stream
    for fault in ["server_error", "\"code\":500", "api_error", "response.failed", "met a defect"] {
        ensure!(answer.status != 200 || !said.contains(fault), "{fault}: {}", text());
    }
    if !said.contains("data: ") && !said.trim_end().contains('\n') {
        serde_json::from_str::<Value>(said).with_context(|| format!("no JSON: {}", text()))?;
    }
    Ok(())
}

/// What the server says to a usual request.
fn said(server: &Server) -> Result<String> {
    let mut line = Line::new(&server.address, LIMIT);
    let health = line.ask("GET", "/health", b"")?;
    ensure!(health.status == 200, "/health says {}", health.status);
    let chat = json!({"messages": [{"role": "user", "content": "What is Ingle?"}], "temperature": 0, "max_tokens": 40});
    let answer = line.ask("POST", "/v1/chat/completions", chat.to_string().as_bytes())?;
    let document: Value = serde_json::from_slice(&answer.body)?;
    let said = document.pointer("/choices/0/message/content").and_then(Value::as_str);
    Ok(said.with_context(|| format!("no answer: {document}"))?.to_owned())
}

fn well(server: &Server, before: &str) -> Result<()> {
    let now = said(server)?;
    ensure!(now == before, "the server said\n{before}\nbefore, and now\n{now}");
    if let Some(panic) = server.panics()? {
        bail!("the server panicked: {panic}");
    }
    Ok(())
}
