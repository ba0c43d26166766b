//! A server, and connections to it that stay, or are left in the middle.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(super) struct Server {
    child: Child,
    pub(super) address: String,
    log: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Server {
    /// What it says on standard error goes to a file, `log`.
    pub(super) fn start(binary: &Path, log: &Path) -> Result<Server> {
        let errors = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = Command::new(binary)
            .args(["serve", "ember", "--port", "0", "--quiet", "--context", "512"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", binary.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.to_owned());
        Ok(Server {
            child,
            address: address.with_context(|| format!("no address: {line}"))?,
            log: log.to_owned(),
        })
    }

    /// Bytes of memory in use.
    pub(super) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kilobytes.unwrap_or(0) * 1024
    }

    /// What a panic left in the log.
    pub(super) fn panics(&self) -> Result<Option<String>> {
        let log = String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned();
        Ok(log.find("panicked at").map(|at| log[at..].chars().take(2000).collect()))
    }
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Whether the connection takes another request.
    stays: bool,
}

/// A connection, opened when it is needed.
pub(super) struct Line<'a> {
    address: &'a str,
    limit: Duration,
    stream: Option<BufReader<TcpStream>>,
    /// How often the connection had ended unnoticed.
    pub(super) again: u64,
}

impl<'a> Line<'a> {
    pub(super) fn new(address: &'a str, limit: Duration) -> Line<'a> {
        Line { address, limit, stream: None, again: 0 }
    }

    pub(super) fn hang_up(&mut self) {
        self.stream = None;
    }

    /// Sends the first `most` bytes of a request.
    pub(super) fn send(&mut self, method: &str, path: &str, body: &[u8], most: usize) -> Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).context("the server takes no connection")?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(self.limit))?;
                stream.set_write_timeout(Some(self.limit))?;
                self.stream.insert(BufReader::new(stream))
            }
        };
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.get_mut().write_all(&request[..most.min(request.len())])?;
        Ok(())
    }

    /// Reads the answer.
    pub(super) fn read(&mut self) -> Result<Answer> {
        let stream = self.stream.as_mut().context("nothing was sent")?;
        let answer = answer(stream)?;
        if !answer.stays {
            self.stream = None;
        }
        Ok(answer)
    }

    /// Reads some bytes of the answer.
    pub(super) fn read_some(&mut self, most: usize) {
        if let Some(stream) = &mut self.stream {
            _ = stream.read(&mut vec![0; most.max(1)]);
        }
    }

    /// Sends and reads. A server may end a connection after any answer: whoever finds theirs ended tries once more.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
        let used = self.stream.is_some();
        let asked = self.send(method, path, body, usize::MAX).and_then(|()| self.read());
        match asked {
            Err(_) if used => {
                self.again += 1;
                self.hang_up();
                self.send(method, path, body, usize::MAX)?;
                self.read()
            }
            asked => asked,
        }
    }
}

fn answer(stream: &mut BufReader<TcpStream>) -> Result<Answer> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the server hung up without an answer");
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no HTTP: {line}"))?;
    let (mut length, mut chunked, mut stays) = (0usize, false, true);
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the server hung up within the headers");
        let header = line.trim().to_ascii_lowercase();
        match header.split_once(':') {
            None => break,
            Some(("content-length", value)) => length = value.trim().parse()?,
            Some(("transfer-encoding", value)) => chunked |= value.contains("chunked"),
            Some(("connection", value)) => stays &= value.trim() != "close",
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    if !chunked {
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
        return Ok(Answer { status, body, stays });
    }
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the server hung up within an answer");
        let Ok(size) = usize::from_str_radix(line.trim(), 16) else { bail!("no chunk: {line}") };
        let start = body.len();
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(Answer { status, body, stays });
        }
    }
}
