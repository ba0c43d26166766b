//! TLS with a certificate and a key from files, which are read once, when the server starts.

use crate::listen::Bytes;
use crate::serve::ServeError;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig, crypto};

/// The longest that a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What a server shows and with what it proves that it may.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// Of a certificate, with those that vouch for it behind it, and its key, both as PEM.
    ///
    /// # Errors
    /// By the file that is to blame: it cannot be read, has nothing of its kind, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Tls, ServeError> {
        let bad = |path: &Path, problem: String| ServeError::Tls { path: path.to_owned(), problem };
        let bytes = |path: &Path| std::fs::read(path).map_err(|error| bad(path, error.to_string()));
        let certificates: Result<Vec<CertificateDer>, PemError> =
            CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
        let certificates =
            certificates.map_err(|error| bad(certificate, format!("it is no sound PEM: {error}")))?;
        if certificates.is_empty() {
            let problem = "there is no certificate in it; a text with -----BEGIN CERTIFICATE----- is needed";
            return Err(bad(certificate, problem.into()));
        }
        let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| {
            let problem = match error {
                PemError::NoItemsFound => {
                    "there is no private key in it, or one that a password locks; a text with -----BEGIN PRIVATE \
                     KEY----- is needed"
                        .to_owned()
                }
                other => format!("it is no sound PEM: {other}"),
            };
            bad(key, problem)
        })?;
        let ring = Arc::new(crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, private));
        let mut config = config.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let problem = format!("it is not the key of the certificate in {}", certificate.display());
                bad(key, problem)
            }
            Error::InvalidCertificate(_) => bad(certificate, error.to_string()),
            other => bad(key, other.to_string()),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }

    /// What is said on a connection in secret; `None` where the other end speaks no TLS, or takes too long.
    pub(crate) async fn accept(&self, stream: impl Bytes + 'static) -> Option<Box<dyn Bytes>> {
        let shaken = tokio::time::timeout(HANDSHAKE_TIME, self.0.accept(stream)).await;
        shaken.ok()?.ok().map(|stream| Box::new(stream) as _)
    }
}
