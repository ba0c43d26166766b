//! One file from somewhere else: fetched piece by piece, gone on with where it was interrupted, and used by nobody before
//! its digest is right.

use crate::digest::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, ResponseExt};

/// Attempts in a row that bring nothing until it is given up.
const ATTEMPTS: u32 = 6;
/// How long nothing may come.
const SILENCE: Duration = Duration::from_secs(30);
/// Most bytes of a document (a manifest, a list of files).
const DOCUMENT: u64 = 16 << 20;

/// What is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it is.
    pub url: String,
    /// Of its bytes, where it was published.
    pub digest: Option<Digest>,
    /// How many there are, where that was published.
    pub bytes: Option<u64>,
    /// Sent as a bearer token, to this place alone and to no other it leads to.
    pub token: Option<String>,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The other side answered no.
    #[error("{url} answered {status}{}", advice(*.status))]
    Status {
        /// Where.
        url: String,
        /// How.
        status: u16,
    },
    /// The connection failed, again and again.
    #[error(
        "{url} cannot be fetched: {why} (tried {ATTEMPTS} times without getting further; start again to go on from there)"
    )]
    Connection {
        /// Where.
        url: String,
        /// The last failure.
        why: String,
    },
    /// The bytes are not those that were published.
    #[error("{url} gave bytes with digest {found}, and {expected} was published; nothing of it is kept")]
    Digest {
        /// Where.
        url: String,
        /// What was published.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// Too many bytes or too few.
    #[error("{url} gave {found} bytes, and {expected} were published; nothing of it is kept")]
    Length {
        /// Where.
        url: String,
        /// What was published.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A document that is not what it has to be.
    #[error("{url} gave something else than what was asked for: {why}")]
    Document {
        /// Where.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// An address that is not spoken to.
    #[error("{0} is not fetched: only https is spoken, and http to this machine alone")]
    Insecure(String),
    /// Another program is at it.
    #[error("another program is fetching {0} right now; wait for it, or end it")]
    Busy(String),
    /// The disk has no room.
    #[error(
        "there is no room for it: {needed} bytes are needed and {free} are free in {folder}; remove something, or set XDG_DATA_HOME to another disk"
    )]
    Room {
        /// Bytes still to come.
        needed: u64,
        /// Bytes there are.
        free: u64,
        /// Where.
        folder: String,
    },
    /// The certificates of one's own cannot be read.
    #[error("the certificates in {path} cannot be used: {why}")]
    Certificates {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The file system.
    #[error("{path}: {error}")]
    Disk {
        /// Which file.
        path: String,
        /// What it says.
        error: io::Error,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            " (it is not open to everybody; for Hugging Face, accept the model's terms there and set HF_TOKEN)"
        }
        404 => " (there is nothing of that name)",
        429 => " (too many requests; wait a while)",
        _ => "",
    }
}

/// Speaks to other machines.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
}

impl Client {
    /// With certificates of one's own (a PEM file) in place of the usual ones, if there are any. A proxy is taken from the
    /// environment.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(certificates: Option<&Path>) -> Result<Client, FetchError> {
        let roots = match certificates {
            None => RootCerts::WebPki,
            Some(path) => own_roots(path)?,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(8)
            // a token is for whom it was given to
            .redirect_auth_headers(RedirectAuthHeaders::Never)
            .timeout_connect(Some(SILENCE))
            .timeout_resolve(Some(SILENCE))
            .timeout_recv_response(Some(2 * SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("ingle/", env!("CARGO_PKG_VERSION")))
            // what is compared is what is stored there
            .accept_encoding("identity")
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        Ok(Client { agent: config.into() })
    }

    /// A document of at most 16 MiB.
    ///
    /// # Errors
    /// What went wrong.
    pub fn document(&self, url: &str, accept: &str, token: Option<&str>) -> Result<Vec<u8>, FetchError> {
        check_scheme(url)?;
        let mut attempt = 0;
        loop {
            let failed = match self.get(url, token, &[("Accept", accept)]) {
                Ok((200, body, _)) => {
                    let mut bytes = Vec::new();
                    match body.into_with_config().limit(DOCUMENT).reader().read_to_end(&mut bytes) {
                        Ok(_) => return Ok(bytes),
                        Err(error) => error.to_string(),
                    }
                }
                Ok((status, ..)) if !passing(status) => {
                    return Err(FetchError::Status { url: url.into(), status });
                }
                Ok((status, ..)) => format!("it answered {status}"),
                Err(why) => why,
            };
            attempt += 1;
            pause(url, attempt, failed)?;
        }
    }

    /// Status, body, and the headers that say which bytes these are.
    fn get(
        &self,
        url: &str,
        token: Option<&str>,
        headers: &[(&str, &str)],
    ) -> Result<(u16, Body, About), String> {
        let mut request = self.agent.get(url);
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.call().map_err(|error| error.to_string())?;
        let from = response.get_uri().to_string();
        check_scheme(&from).map_err(|error| error.to_string())?;
        let header = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let about = About {
            range: header("content-range"),
            length: header("content-length").and_then(|length| length.parse().ok()),
        };
        Ok((response.status().as_u16(), response.into_body(), about))
    }

    /// Fetches a file to `partial`, going on where an earlier attempt ended, and gives its digest and length. The file is the
    /// caller's then. `progress` hears of bytes done and in all (0 where nobody says).
    ///
    /// # Errors
    /// What went wrong. What is right of the file stays, except where it cannot be.
    pub fn fetch(
        &self,
        wanted: &Wanted,
        partial: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Digest, u64), FetchError> {
        check_scheme(&wanted.url)?;
        let disk = |error: io::Error| FetchError::Disk { path: partial.display().to_string(), error };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(partial)
            .map_err(disk)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy(wanted.url.clone())),
            Err(TryLockError::Error(error)) => return Err(disk(error)),
        }
        let mut sum = Sha256::new();
        let mut have = read_again(&mut file, &mut sum).map_err(disk)?;
        let mut all = wanted.bytes;
        if all.is_some_and(|all| have > all) {
            (have, sum) = (0, Sha256::new());
            file.set_len(0).map_err(disk)?;
        }
        let (mut attempt, mut best) = (0, have);
        while all.is_none_or(|all| have < all) {
            room(partial, all.unwrap_or(0).saturating_sub(have))?;
            let failed = match self.rest(wanted, &mut file, &mut have, &mut all, &mut sum, progress) {
                Ok(Rest::Whole) => break,
                Ok(Rest::Cut(why)) => why,
                Err(error) => {
                    if matches!(error, FetchError::Length { .. }) {
                        _ = std::fs::remove_file(partial);
                    }
                    return Err(error);
                }
            };
            file.sync_data().map_err(disk)?;
            // to begin again and again is no progress
            attempt = if have > best { 0 } else { attempt + 1 };
            best = best.max(have);
            pause(&wanted.url, attempt, failed)?;
        }
        file.sync_all().map_err(disk)?;
        let found = Digest::finished(sum);
        match wanted.digest {
            Some(expected) if expected != found => {
                // which of its bytes are wrong nobody can say
                _ = std::fs::remove_file(partial);
                Err(FetchError::Digest { url: wanted.url.clone(), expected, found })
            }
            _ => Ok((found, have)),
        }
    }

    /// Asks for what is missing, and takes what comes.
    fn rest(
        &self,
        wanted: &Wanted,
        file: &mut File,
        have: &mut u64,
        all: &mut Option<u64>,
        sum: &mut Sha256,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rest, FetchError> {
        let url = || wanted.url.clone();
        let disk = |error: io::Error| FetchError::Disk { path: url(), error };
        let range = format!("bytes={have}-");
        let headers: &[(&str, &str)] = if *have > 0 { &[("Range", &range)] } else { &[] };
        let (status, body, about) = match self.get(&wanted.url, wanted.token.as_deref(), headers) {
            Ok(answer) => answer,
            Err(why) => return Ok(Rest::Cut(why)),
        };
        let (begins, total) = match status {
            200 => (0, about.length),
            206 => match about.range.as_deref().and_then(content_range) {
                Some((begins, total)) => (begins, total),
                None => return Ok(Rest::Cut("it does not say which bytes these are".into())),
            },
            // there is nothing after what is here: all of it, or something else
            416 if *have > 0 => {
                let all_of_it =
                    about.range.as_deref().and_then(|range| range.strip_prefix("bytes */")?.parse().ok());
                if all.is_none() && all_of_it == Some(*have) {
                    return Ok(Rest::Whole);
                }
                (*have, *sum) = (0, Sha256::new());
                file.set_len(0).map_err(disk)?;
                return Ok(Rest::Cut("it has less than what is here".into()));
            }
            status if passing(status) => return Ok(Rest::Cut(format!("it answered {status}"))),
            status => return Err(FetchError::Status { url: url(), status }),
        };
        if let (Some(expected), Some(found)) = (*all, total)
            && expected != found
        {
            return Err(FetchError::Length { url: url(), expected, found });
        }
        *all = all.or(total);
        if begins != *have {
            // it begins again, or where it likes: what is there is of no use
            (*have, *sum) = (0, Sha256::new());
            file.set_len(0).map_err(disk)?;
            if begins != 0 {
                return Ok(Rest::Cut("it gave other bytes than were asked for".into()));
            }
        }
        file.seek(SeekFrom::Start(*have)).map_err(disk)?;
        let mut reader = body.into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            let bytes = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Rest::Cut(error.to_string())),
            };
            if let Some(expected) = *all
                && *have + bytes as u64 > expected
            {
                return Err(FetchError::Length { url: url(), expected, found: *have + bytes as u64 });
            }
            file.write_all(&buffer[..bytes]).map_err(disk)?;
            sum.update(&buffer[..bytes]);
            *have += bytes as u64;
            progress(*have, all.unwrap_or(0));
        }
        match *all {
            Some(all) if *have < all => Ok(Rest::Cut("the connection ended too early".into())),
            _ => Ok(Rest::Whole),
        }
    }
}

/// What an answer says of its bytes.
struct About {
    range: Option<String>,
    length: Option<u64>,
}

/// How an attempt ended.
enum Rest {
    /// All is there.
    Whole,
    /// Some is missing, and why.
    Cut(String),
}

/// `bytes 5-9/10` as 5 and 10.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, total))
}

/// Whether it may be well the next time.
fn passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

fn pause(url: &str, attempt: u32, why: String) -> Result<(), FetchError> {
    if attempt >= ATTEMPTS {
        return Err(FetchError::Connection { url: url.into(), why });
    }
    std::thread::sleep(Duration::from_millis(100) * 2u32.pow(attempt.min(6)));
    Ok(())
}

/// Sums up what is there already.
fn read_again(file: &mut File, sum: &mut Sha256) -> io::Result<u64> {
    let (mut buffer, mut have) = (vec![0; 1 << 20], 0);
    file.rewind()?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(have),
            bytes => {
                sum.update(&buffer[..bytes]);
                have += bytes as u64;
            }
        }
    }
}

/// Whether so many bytes more have room where a file lies.
fn room(file: &Path, needed: u64) -> Result<(), FetchError> {
    #[cfg(unix)]
    if let Some(folder) = file.parent()
        && let Ok(about) = rustix::fs::statvfs(folder)
    {
        let free = about.f_bavail.saturating_mul(about.f_frsize);
        if free < needed {
            return Err(FetchError::Room { needed, free, folder: folder.display().to_string() });
        }
    }
    _ = (file, needed);
    Ok(())
}

/// Only what nobody on the way can read or change.
fn check_scheme(url: &str) -> Result<(), FetchError> {
    let here = url.strip_prefix("http://").is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        matches!(host, "127.0.0.1" | "localhost" | "[::1]")
    });
    if url.starts_with("https://") || here { Ok(()) } else { Err(FetchError::Insecure(url.into())) }
}

fn own_roots(path: &Path) -> Result<RootCerts, FetchError> {
    let wrong = |why: String| FetchError::Certificates { path: path.display().to_string(), why };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| wrong(error.to_string()))? {
            roots.push(certificate);
        }
    }
    if roots.is_empty() {
        return Err(wrong("there is none in it".into()));
    }
    Ok(RootCerts::new_with_certs(&roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_written() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in ["", "bytes", "bytes */10", "bytes 5/10", "bytes a-b/c", "5-9/10"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_https_leaves_the_machine() {
        for good in
            ["https://example.org/x", "http://127.0.0.1:80/x", "http://localhost/x", "http://[::1]:8080"]
        {
            check_scheme(good).unwrap();
        }
        for wrong in [
            "http://example.org",
            "http://127.0.0.1.example.org/x",
            "http://localhost@example.org/",
            "ftp://localhost/x",
            "file:///etc/passwd",
            "",
        ] {
            assert!(check_scheme(wrong).is_err(), "{wrong}");
        }
    }
}
