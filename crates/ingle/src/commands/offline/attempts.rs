//! Ways out.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// How long an attempt may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// An address that belongs to nobody (RFC 5737), and one of the next generation (RFC 3849).
const ELSEWHERE: &str = "192.0.2.1:443";
const ELSEWHERE_6: &str = "[2001:db8::1]:443";
/// A name that nobody has (RFC 2606), but that a resolver would be asked for.
const NAME: &str = "ingle.invalid:443";

/// Something that answers on this machine.
pub(super) struct Listener {
    tcp: TcpListener,
    udp: UdpSocket,
    #[cfg(unix)]
    unix: Unix,
}

/// A socket in a folder of its own, which goes with it.
#[cfg(unix)]
struct Unix {
    _listener: std::os::unix::net::UnixListener,
    path: std::path::PathBuf,
}

#[cfg(unix)]
impl Drop for Unix {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.path);
    }
}

impl Listener {
    pub(super) fn open() -> io::Result<Listener> {
        let here = ("127.0.0.1", 0);
        #[cfg(unix)]
        let unix = {
            let path = std::env::temp_dir().join(format!("ingle-offline-{}.sock", std::process::id()));
            Unix { _listener: std::os::unix::net::UnixListener::bind(&path)?, path }
        };
        Ok(Listener {
            tcp: TcpListener::bind(here)?,
            udp: UdpSocket::bind(here)?,
            #[cfg(unix)]
            unix,
        })
    }
}

/// One way, and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) way: &'static str,
    /// How it is to be judged.
    pub(super) kind: Kind,
    /// The kernel's answer; `None` where it got through.
    pub(super) refused: Option<Refusal>,
}

/// Kinds of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Gets through where nothing keeps it: the kernel has to refuse it afterwards, and not before.
    Control,
    /// Whether it gets through otherwise depends on the machine; the kernel has to refuse it afterwards.
    Other,
    /// The same, but the system's library answers, in words of its own.
    Library,
}

/// What the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// "Operation not permitted", and nothing like an address that is out of reach.
    pub(super) by_seal: bool,
    pub(super) words: String,
}

impl Refusal {
    fn new(error: &io::Error) -> Refusal {
        Refusal { by_seal: error.kind() == io::ErrorKind::PermissionDenied, words: error.to_string() }
    }
}

/// Opens a TCP connection.
pub(super) fn connect(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&address, PATIENCE).map(drop)
}

/// Tries them all.
pub(super) fn all(listener: &Listener) -> Vec<Attempt> {
    let tcp = || listener.tcp.local_addr();
    let mut tried = Vec::new();
    let mut attempt = |way, kind, outcome: io::Result<()>| {
        tried.push(Attempt { way, kind, refused: outcome.err().map(|error| Refusal::new(&error)) });
    };
    attempt(
        "TCP connection to a listener of its own on this machine",
        Kind::Control,
        tcp().and_then(connect),
    );
    attempt("TCP connection to another machine (192.0.2.1)", Kind::Other, parse(ELSEWHERE).and_then(connect));
    attempt("TCP connection over IPv6 (2001:db8::1)", Kind::Other, parse(ELSEWHERE_6).and_then(connect));
    attempt("UDP packet to a socket of its own on this machine", Kind::Control, packet(listener));
    attempt("looking up a name (ingle.invalid)", Kind::Library, NAME.to_socket_addrs().map(drop));
    #[cfg(unix)]
    attempt(
        "connection to a Unix socket, behind which a resolver could be",
        Kind::Control,
        std::os::unix::net::UnixStream::connect(&listener.unix.path).map(drop),
    );
    #[cfg(target_os = "linux")]
    {
        let socket = |domain: i32, kind: i32| {
            socket2::Socket::new(socket2::Domain::from(domain), socket2::Type::from(kind), None).map(drop)
        };
        attempt(
            "netlink socket (routes, firewall)",
            Kind::Control,
            socket(libc::AF_NETLINK, libc::SOCK_DGRAM),
        );
        attempt("socket to a hypervisor (vsock)", Kind::Other, socket(libc::AF_VSOCK, libc::SOCK_STREAM));
        attempt("packets below IP", Kind::Other, socket(libc::AF_PACKET, libc::SOCK_DGRAM));
        attempt("packets of one's own making (raw IP)", Kind::Other, socket(libc::AF_INET, libc::SOCK_RAW));
    }
    attempt("TCP connection of a program started now", Kind::Control, tcp().and_then(child));
    tried
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(io::Error::other)
}

fn packet(listener: &Listener) -> io::Result<()> {
    let to = listener.udp.local_addr()?;
    UdpSocket::bind(("127.0.0.1", 0))?.send_to(b"?", to).map(drop)
}

/// Starts this program anew, which says what came of it.
fn child(address: SocketAddr) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    let said = command.args(["offline", "attempt", &address.to_string()]).output()?;
    match String::from_utf8_lossy(&said.stdout).trim() {
        "connected" => Ok(()),
        said if said.contains("not permitted") => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, said.to_owned()))
        }
        said => Err(io::Error::other(said.to_owned())),
    }
}
