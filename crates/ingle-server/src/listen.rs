//! Where connections come from: a port, or a socket in the file system.

use crate::serve::ServeError;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// Where a server listens.
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, unix::Place),
}

/// A connection's bytes.
pub(crate) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Listener {
    /// Whether it is a file, with the rights of files.
    pub(crate) fn is_file(&self) -> bool {
        !matches!(self, Listener::Tcp(_))
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the system says, most likely that there are too many open files.
    pub(crate) async fn accept(&self) -> std::io::Result<Box<dyn Bytes>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // events are small, and each is waited for
                _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            #[cfg(unix)]
            Listener::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Whether a socket can be put at `path`, as far as can be told without doing it.
///
/// # Errors
/// A path where something else is, or another server listens.
pub(crate) fn is_free(path: &Path) -> Result<(), ServeError> {
    #[cfg(unix)]
    unix::is_free(path).map_err(|problem| ServeError::Socket { path: path.to_owned(), problem })?;
    _ = path;
    Ok(())
}

/// Listens at a socket in the file system that its owner alone may use. Runs in a runtime.
///
/// # Errors
/// A path where something else is, or another server listens; a system that has no such sockets.
pub(crate) fn at_path(path: &Path) -> Result<Listener, ServeError> {
    let bad = |problem: String| ServeError::Socket { path: path.to_owned(), problem };
    #[cfg(unix)]
    {
        let (listener, place) = unix::listen(path).map_err(bad)?;
        Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?, place))
    }
    #[cfg(not(unix))]
    Err(bad("this system has no such sockets; use --host and --port".into()))
}

#[cfg(unix)]
pub(crate) mod unix {
    use std::io::ErrorKind;
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};

    /// A socket in the file system, which goes with this.
    pub(crate) struct Place {
        path: PathBuf,
        /// The file system and the number of the file there.
        file: (u64, u64),
    }

    impl Place {
        pub(crate) fn path(&self) -> &Path {
            &self.path
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            // not what somebody else has put there since
            if file(&self.path).is_ok_and(|there| there == self.file) {
                _ = std::fs::remove_file(&self.path);
            }
        }
    }

    fn file(path: &Path) -> std::io::Result<(u64, u64)> {
        std::fs::symlink_metadata(path).map(|about| (about.dev(), about.ino()))
    }

    /// Listens at `path`. A socket that a dead server has left there is replaced.
    ///
    /// The socket is made in a folder that nobody else may enter, and moved to its place when nobody else may use it: so
    /// there is no moment at which they could.
    ///
    /// # Errors
    /// In words.
    pub(super) fn listen(path: &Path) -> Result<(UnixListener, Place), String> {
        is_free(path)?;
        let cannot = |what: &str, error: std::io::Error| match error.kind() {
            ErrorKind::InvalidInput => "the path is too long for a socket; choose a shorter one".to_owned(),
            _ => format!("cannot {what}: {error}"),
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new(".")).join(format!(".i{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| cannot(&format!("make the folder {}", folder.display()), error))?;
        let inside = folder.join("s");
        let made = (|| {
            let listener = UnixListener::bind(&inside).map_err(|error| cannot("listen there", error))?;
            let own = || {
                std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600))?;
                let file = file(&inside)?;
                listener.set_nonblocking(true)?;
                std::fs::rename(&inside, path)?;
                Ok(file)
            };
            let file = own().map_err(|error| cannot("put the socket there", error))?;
            Ok((listener, Place { path: path.to_owned(), file }))
        })();
        if made.is_err() {
            _ = std::fs::remove_file(&inside);
        }
        _ = std::fs::remove_dir(&folder);
        made
    }

    /// Whether a socket can be put at `path`: nothing is there, or a socket that nobody answers at.
    pub(super) fn is_free(path: &Path) -> Result<(), String> {
        let about = match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("cannot look at it: {error}")),
            Ok(about) => about,
        };
        if !about.file_type().is_socket() {
            return Err(
                "there is something else than a socket, which is left alone; choose another path".into()
            );
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Ok(_) => Err("a server listens there already; end it, or choose another path".into()),
            Err(error) => Err(format!(
                "there is a socket, and whether a server listens there cannot be told ({error}); remove it, or choose \
                 another path"
            )),
        }
    }
}
