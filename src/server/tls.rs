//! TLS with a certificate that can be replaced while the server runs.
//!
//! Invariant: a certificate that cannot be read, or does not fit its key, never replaces one that works.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};

/// TLS sessions that clients may resume; each is some hundred bytes.
const SESSIONS_MAX: usize = 4096;

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM, the server's certificate first, then those between it and the authority.
    pub cert: PathBuf,
    /// PEM, PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate file holds no certificate.
    #[error("'{}' holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A file cannot be read or is not PEM.
    #[error("cannot read '{}': {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// The key is of no use, or belongs to another certificate.
    #[error("cannot use the key '{}' with the certificate '{}': {source}", key.display(), cert.display())]
    Key {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// TLS itself could not be set up.
    #[error("cannot set TLS up: {0}")]
    Setup(#[source] rustls::Error),
}

/// The TLS side of a listener.
#[derive(Debug)]
pub struct Tls {
    acceptor: AcceptorDebug,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    source: Mutex<Source>,
}

struct AcceptorDebug(TlsAcceptor);

impl std::fmt::Debug for AcceptorDebug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsAcceptor")
    }
}

/// Which files, and what they looked like when they were last read.
#[derive(Debug)]
struct Source {
    files: TlsFiles,
    seen: Seen,
}

type Seen = [Option<(SystemTime, u64)>; 2];

fn look(files: &TlsFiles) -> Seen {
    [&files.cert, &files.key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

/// The certificate of new connections.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads `files` and makes TLS 1.2 and 1.3 of them, with HTTP/2 and HTTP/1.1 by ALPN.
    ///
    /// # Errors
    ///
    /// When the files cannot be read or do not fit each other.
    pub fn new(files: TlsFiles) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let seen = look(&files);
        let current = Arc::new(Current(RwLock::new(Arc::new(read(&files, &provider)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        let acceptor = AcceptorDebug(TlsAcceptor::from(Arc::new(config)));
        Ok(Tls {
            acceptor,
            current,
            provider,
            source: Mutex::new(Source { files, seen }),
        })
    }

    /// Reads the certificate again, from `files` from now on.
    ///
    /// # Errors
    ///
    /// When it is of no use; the old one stays.
    pub fn reload(&self, files: TlsFiles) -> Result<(), Error> {
        let seen = look(&files);
        let fresh = read(&files, &self.provider);
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        // What was wrong once is not read again until it changes.
        source.seen = seen;
        let fresh = fresh?;
        source.files = files;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(())
    }

    /// Reads the certificate again if its files look different; tells whether they did.
    ///
    /// # Errors
    ///
    /// As [`Tls::reload`].
    pub fn reload_if_changed(&self) -> Result<bool, Error> {
        let files = {
            let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
            if look(&source.files) == source.seen {
                return Ok(false);
            }
            source.files.clone()
        };
        self.reload(files)?;
        Ok(true)
    }

    /// Shakes hands with a client.
    pub(super) async fn accept<S>(&self, io: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.acceptor.0.accept(io).await
    }
}

fn read(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert).map_err(at(&files.cert))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(at(&files.cert))?;
    if chain.is_empty() {
        return Err(Error::NoCertificate(files.cert.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(at(&files.key))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|source| Error::Key {
        key: files.key.clone(),
        cert: files.cert.clone(),
        source,
    })
}
