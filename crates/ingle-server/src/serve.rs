//! Listening: connections in, answers out, until it is time to go.

use crate::app::{App, Log, router};
use crate::guard::keys::Keys;
use crate::guard::{Hosts, Peer};
use crate::keep::Keep;
use crate::listen::{self, Bytes, Listener};
use crate::models::{Models, Offer};
use crate::patience::Patient;
use crate::tls::Tls;
use axum::http::Request;
use futures_util::future::{Either, select};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use ingle_engine::EngineError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// The longest that a request's headers may take to arrive.
const HEADER_TIME: Duration = Duration::from_secs(15);
/// Most bytes of them.
const MOST_HEADERS: usize = 16 * 1024;
/// Most connections at a time.
const MOST_CONNECTIONS: usize = 1024;

/// The longest that caches may take to be written to disk at the end.
const WRITING_TIME: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(Clone, Debug)]
pub enum At {
    /// At a port.
    Address(SocketAddr),
    /// At a socket in the file system, which its owner alone may use.
    Socket(PathBuf),
}

/// How to serve.
pub struct ServeOptions {
    /// Where to listen.
    pub at: At,
    /// With what to listen in secret; `None` listens openly.
    pub tls: Option<Tls>,
    /// Keys, of which every request needs one; `None` needs none.
    pub keys: Option<Keys>,
    /// Listen beyond this machine without keys.
    pub insecure: bool,
    /// Names that requests may call this machine by, beside the loopback's.
    pub host_names: Vec<String>,
    /// Web pages that may use the server, by origin.
    pub origins: Vec<String>,
    /// Most bytes of a request's body.
    pub most_body: usize,
    /// How long models stay when nobody asks them.
    pub keep: Keep,
    /// How long answers under way may take to end when the server stops.
    pub drain: Duration,
    /// How long a client may take nothing of what is there for it.
    pub write_time: Duration,
    /// Gets a line per request when it is over, a JSON object without what was asked.
    pub log: Option<Log>,
    /// Whether what was asked stands in it after all.
    pub log_prompts: bool,
    /// Called when the listener is bound, before a model is loaded: what the process needs no longer is given up.
    pub seal: fn() -> Result<(), String>,
}

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// What is to be given up cannot be.
    #[error("{0}")]
    Seal(String),
    /// Everybody could use it.
    #[error(
        "{address} can be reached from other machines, and there are no keys: everybody could use the models; make a key \
         (`ingle key new NAME --keys FILE`) and give the file with --keys, or say --insecure-no-keys"
    )]
    Open {
        /// Where it would have listened.
        address: SocketAddr,
    },
    /// The keys cannot be read.
    #[error("the keys in {} cannot be used: {problem}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate or its key cannot be used.
    #[error("{} cannot be used for TLS: {problem}", path.display())]
    Tls {
        /// The file that is to blame.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There can be no socket.
    #[error("cannot listen at {}: {problem}", path.display())]
    Socket {
        /// Where it was to be.
        path: PathBuf,
        /// What is in the way.
        problem: String,
    },
    /// The address is taken, or not this machine's.
    #[error("cannot listen at {address}: {error}; choose another port (--port), or 0 for any that is free")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The system's answer.
        error: std::io::Error,
    },
    /// A model that is wanted from the start.
    #[error("cannot use {id}: {error}")]
    Load {
        /// Its name.
        id: String,
        /// Why not.
        error: EngineError,
    },
    /// The system does not start threads.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// A server that listens.
pub struct Serving {
    runtime: tokio::runtime::Runtime,
    listener: Listener,
    tls: Option<Tls>,
    app: Arc<App>,
    drain: Duration,
    write_time: Duration,
}

impl Serving {
    /// Listens, so that the address is known; answers nothing yet.
    ///
    /// # Errors
    /// An address that is taken, or open to everybody.
    pub fn start(offers: Vec<Offer>, options: ServeOptions) -> Result<Serving, ServeError> {
        let ServeOptions { at, tls, keys, insecure, host_names, origins, most_body, keep, .. } = options;
        let ServeOptions { drain, write_time, log, log_prompts, seal, .. } = options;
        let beyond = at.check(keys.is_some() || insecure)?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            // for templates, texts and grammars: as many as can compute, so that what they use of the memory has a bound
            .max_blocking_threads(threads)
            .enable_all()
            .thread_name("ingle-http")
            .build()?;
        let listener = runtime.block_on(async {
            match at {
                At::Socket(path) => listen::at_path(&path),
                At::Address(address) => {
                    let listener = TcpListener::bind(address).await;
                    listener.map(Listener::Tcp).map_err(|error| ServeError::Listen { address, error })
                }
            }
        })?;
        seal().map_err(ServeError::Seal)?;
        let models = Arc::new(Models::new(offers, keep));
        models.start().map_err(|(id, error)| ServeError::Load { id, error })?;
        // whoever opens it to others is called by names that this machine cannot know; keys guard it then, and without
        // keys the names have to be told
        let hosts = Hosts { names: host_names, origins, beyond, any: beyond && keys.is_some() };
        let app = Arc::new(App::new(models, keys, hosts, most_body, log, log_prompts));
        Ok(Serving { runtime, listener, tls, app, drain, write_time })
    }

    /// Where it listens: `http://ADDRESS:PORT`, the same with `https`, or `unix:PATH`.
    ///
    /// # Errors
    /// What the system says.
    pub fn place(&self) -> std::io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(match &self.listener {
            Listener::Tcp(listener) => format!("{scheme}://{}", listener.local_addr()?),
            #[cfg(unix)]
            Listener::Unix(_, place) => format!("unix:{}", place.path().display()),
        })
    }

    /// Answers until the process is told to end (SIGTERM or SIGINT) and what is under way has ended.
    pub fn run(self) {
        let Serving { runtime, listener, tls, app, drain, write_time } = self;
        let models = app.models.clone();
        runtime.block_on(async {
            let graceful = GracefulShutdown::new();
            tokio::spawn(sweep(app.models.clone()));
            accept(&listener, &Connections { tls, write_time }, app, &graceful).await;
            drop(listener);
            _ = tokio::time::timeout(drain, graceful.shutdown()).await;
        });
        // what is not written by then is computed again
        models.write_cached(WRITING_TIME);
        // what a template or a text still computes is of no use to anybody
        runtime.shutdown_background();
    }
}

/// Lets models go that were kept long enough, from time to time.
async fn sweep(models: Arc<Models>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        models.sweep();
    }
}

impl At {
    /// Whether others than this machine can reach it; they may if it is `guarded`. Says before anything is loaded what
    /// would be refused after it.
    ///
    /// # Errors
    /// They can, and it is not; a path where no socket can be put.
    pub fn check(&self, guarded: bool) -> Result<bool, ServeError> {
        match self {
            &At::Address(address) if !address.ip().is_loopback() => match guarded {
                true => Ok(true),
                false => Err(ServeError::Open { address }),
            },
            At::Address(_) => Ok(false),
            At::Socket(path) => listen::is_free(path).map(|()| false),
        }
    }
}

/// What all connections have in common.
struct Connections {
    tls: Option<Tls>,
    write_time: Duration,
}

async fn accept(listener: &Listener, connections: &Connections, app: Arc<App>, graceful: &GracefulShutdown) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let service = TowerToHyperService::new(router(app));
    let mut number = 0u64;
    let mut ended = pin!(told_to_end());
    // dropped at the end: nobody waits for a handshake then
    let (_going, gone) = tokio::sync::watch::channel(());
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = {
            let mut next = pin!(listener.accept());
            let either = std::future::poll_fn(|context| {
                use std::future::Future;
                use std::task::Poll;
                if ended.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                next.as_mut().poll(context).map(Some)
            });
            match either.await {
                None => return,
                Some(Ok(stream)) => stream,
                Some(Err(_)) => {
                    // out of files, most likely: others have to go first
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            }
        };
        number += 1;
        let (peer, service) = (Peer { number, by_file: listener.is_file() }, service.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
        let stream = Patient::new(stream, connections.write_time);
        let (tls, watcher, mut gone) = (connections.tls.clone(), graceful.watcher(), gone.clone());
        tokio::spawn(async move {
            let stream: Box<dyn Bytes> = match tls {
                None => Box::new(stream),
                Some(tls) => match select(pin!(tls.accept(stream)), pin!(gone.changed())).await {
                    Either::Left((Some(stream), _)) => stream,
                    Either::Left((None, _)) | Either::Right(_) => return,
                },
            };
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME)
                .max_buf_size(MOST_HEADERS)
                .serve_connection(TokioIo::new(stream), service);
            // a connection that breaks is its client's concern
            _ = watcher.watch(connection).await;
            drop(place);
        });
    }
}

/// SIGTERM or SIGINT.
async fn told_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        {
            std::future::poll_fn(|context| {
                match terminate.poll_recv(context).is_ready() || interrupt.poll_recv(context).is_ready() {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            })
            .await;
            return;
        }
    }
    _ = tokio::signal::ctrl_c().await;
}
