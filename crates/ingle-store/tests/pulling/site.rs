//! A web site on this machine that does what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) path: String,
    /// First byte that is asked for.
    pub(crate) from: Option<usize>,
    pub(crate) authorization: Option<String>,
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// The connection ends after so many bytes of it.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn whole(body: impl Into<Vec<u8>>) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub(crate) fn status(status: u16) -> Reply {
        Reply { status, ..Reply::whole("") }
    }

    /// What is asked for of a file.
    pub(crate) fn part(asked: &Asked, file: &[u8]) -> Reply {
        match asked.from {
            None => Reply::whole(file),
            Some(from) => Reply {
                status: 206,
                headers: vec![format!("Content-Range: bytes {from}-{}/{}", file.len() - 1, file.len())],
                body: file[from..].to_vec(),
                cut: None,
            },
        }
    }
}

/// What has been asked so far.
pub(crate) type Log = Arc<Mutex<Vec<Asked>>>;

/// Starts one; it lives as long as the test. `answer` hears the request and how many there were before.
pub(crate) fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let log = Log::default();
    let (asked, answer) = (log.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (asked, answer) = (asked.clone(), answer.clone());
            std::thread::spawn(move || while serve(&stream, &asked, &*answer).is_some() {});
        }
    });
    (base, log)
}

/// Answers a request; `None` when the connection is over.
fn serve(mut stream: &TcpStream, log: &Log, answer: &dyn Fn(&Asked, usize) -> Reply) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let mut asked = Asked { path: lines.next()?.ok()?.split(' ').nth(1)?.to_owned(), ..Asked::default() };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.from = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "authorization" => asked.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let before = {
        let mut log = log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let Reply { status, headers, body, cut } = answer(&asked, before);
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = if headers.contains("Content-Length") {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    write!(stream, "HTTP/1.1 {status} Fine\r\n{headers}{length}\r\n").ok()?;
    stream.write_all(&body[..cut.unwrap_or(body.len())]).ok()?;
    match cut {
        None => Some(()),
        Some(_) => {
            _ = stream.shutdown(std::net::Shutdown::Both);
            None
        }
    }
}
