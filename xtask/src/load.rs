//! Clients at a running server: every stream must say what its request says alone, and the times are told.
//!
//! Some clients hang up in the middle. Their streams are not compared beyond that; everybody else's are, to the last
//! character.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What to run.
pub struct Options<'a> {
    /// The model to serve.
    pub model: &'a str,
    /// The program.
    pub binary: Option<&'a Path>,
    /// Numbers of clients.
    pub clients: &'a [usize],
    /// Seconds for each of them.
    pub seconds: u64,
    /// Tokens of an answer.
    pub tokens: usize,
    /// Different requests.
    pub requests: usize,
    /// How keys and values are kept.
    pub kv: &'a str,
}

/// One in so many clients hangs up before its answer is over.
const HANGS_UP: usize = 7;

/// What a client saw of a stream.
struct Stream {
    text: String,
    first: Duration,
    between: Vec<Duration>,
    whole: Duration,
    hung_up: bool,
}

struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Server {
    fn start(binary: &Path, model: &str, kv: &str) -> Result<Server> {
        let mut command = Command::new(binary);
        command.args([
            "serve",
            model,
            "--port",
            "0",
            "--quiet",
            "--context",
            "4096",
            "--at-once",
            "32",
            "--kv",
            kv,
        ]);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.to_owned());
        Ok(Server { child, address: address.with_context(|| format!("no address: {line}"))? })
    }

    /// Bytes of memory in use.
    fn memory(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// Streams the answer to a request; hangs up after `most` pieces.
    fn stream(&self, body: &Value, most: usize) -> Result<Stream> {
        let started = Instant::now();
        let mut connection = TcpStream::connect(&self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(300)))?;
        let body = body.to_string();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes())?;
        connection.write_all(body.as_bytes())?;
        let mut stream = Stream {
            text: String::new(),
            first: Duration::ZERO,
            between: Vec::new(),
            whole: Duration::ZERO,
            hung_up: false,
        };
        let (mut last, mut pieces) = (None, 0);
        let mut lines = BufReader::new(connection);
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(lines.read_line(&mut line)? > 0, "the stream broke off: {}", stream.text);
            if let Some(status) = line.strip_prefix("HTTP/1.1 ").filter(|status| !status.starts_with("200")) {
                let mut rest = String::new();
                lines.read_to_string(&mut rest)?;
                bail!("{status}{rest}");
            }
            let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                break;
            }
            let chunk: Value = serde_json::from_str(data)?;
            ensure!(chunk.get("error").is_none(), "{chunk}");
            let text = chunk["choices"][0]["text"].as_str().unwrap_or_default();
            if !text.is_empty() {
                let now = Instant::now();
                match last.replace(now) {
                    None => stream.first = now - started,
                    Some(last) => stream.between.push(now - last),
                }
                stream.text.push_str(text);
                pieces += 1;
                if pieces >= most {
                    stream.hung_up = true;
                    break;
                }
            }
        }
        stream.whole = started.elapsed();
        Ok(stream)
    }
}

/// Requests of different lengths, each with a seed of its own.
fn requests(count: usize, tokens: usize) -> Vec<Value> {
    const WORDS: [&str; 12] =
        ["the", "old", "lamp", "sea", "and", "a", "cat", "of", "stone", "under", "seven", "winds"];
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    (0..count)
        .map(|seed| {
            let words: Vec<&str> = (0..20 + random(200)).map(|_| WORDS[random(WORDS.len())]).collect();
            let tokens = tokens / 2 + random(tokens);
            json!({"prompt": words.join(" "), "max_tokens": tokens, "seed": seed, "temperature": 0.8, "stream": true})
        })
        .collect()
}

/// Runs it.
///
/// # Errors
/// A stream that is lost, or says something else than alone.
pub fn load(options: &Options) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let built = target.join("release/ingle");
    let server = Server::start(options.binary.unwrap_or(&built), options.model, options.kv)?;
    let requests = requests(options.requests, options.tokens);
    let alone: Vec<String> =
        requests.iter().map(|request| Ok(server.stream(request, usize::MAX)?.text)).collect::<Result<_>>()?;
    println!("{} requests answered alone; then together:", requests.len());
    println!("clients  streams  hung up  tokens/s  first token p50, p99  between tokens p50, p99  memory");
    for &clients in options.clients {
        let next = AtomicUsize::new(0);
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let started = Instant::now();
        let work = |_: usize| -> Result<Vec<Stream>> {
            let mut streams = Vec::new();
            while Instant::now() < until {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let which = at % requests.len();
                let most = if at % HANGS_UP == HANGS_UP - 1 { 5 } else { usize::MAX };
                let stream = server.stream(&requests[which], most)?;
                let expected = &alone[which];
                let same = if stream.hung_up {
                    expected.starts_with(&stream.text)
                } else {
                    *expected == stream.text
                };
                ensure!(same, "request {which} says\n{}\nand alone\n{expected}", stream.text);
                streams.push(stream);
            }
            Ok(streams)
        };
        let streams: Vec<Stream> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients).map(|at| scope.spawn(move || work(at))).collect();
            let all: Result<Vec<Vec<Stream>>> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a client broke")))
                .collect();
            Ok::<_, anyhow::Error>(all?.into_iter().flatten().collect())
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let pieces: usize = streams.iter().map(|stream| stream.between.len() + 1).sum();
        let hung_up = streams.iter().filter(|stream| stream.hung_up).count();
        let mut first: Vec<Duration> = streams.iter().map(|stream| stream.first).collect();
        let mut between: Vec<Duration> = streams.iter().flat_map(|stream| stream.between.clone()).collect();
        let [first_half, first_most] = shares(&mut first);
        let [between_half, between_most] = shares(&mut between);
        println!(
            "{clients:7}  {:7}  {hung_up:7}  {:8.1}  {first_half:8.0} ms, {first_most:6.0} ms  {between_half:10.1} ms, \
             {between_most:6.1} ms  {:4.0} MB",
            streams.len(),
            pieces as f64 / seconds,
            server.memory().unwrap_or(0) as f64 / 1e6
        );
    }
    println!("no stream was lost, and each said what it says alone");
    Ok(())
}

/// What half of them, and all but a hundredth, stay below, in milliseconds.
fn shares(times: &mut [Duration]) -> [f64; 2] {
    times.sort_unstable();
    [50, 99]
        .map(|percent| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3))
}
