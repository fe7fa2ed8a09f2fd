//! TLS on the gateway's port: the person's own certificate, or one that the daemon makes for itself.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::config::{Tls, keep_private, write_private};

const CERTIFICATE: &str = "gateway-cert.pem";
const KEY: &str = "gateway-key.pem";

/// Why the port cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {error}; see gateway.tls.certPath and gateway.tls.keyPath", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} holds no {what} in PEM; see gateway.tls.certPath and gateway.tls.keyPath", path = .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit.
    #[error("the certificate cannot be used: {0}; see gateway.tls.certPath and gateway.tls.keyPath")]
    Unusable(#[from] rustls::Error),
}

/// What encrypts the port.
pub(super) fn acceptor(settings: &Tls, state_dir: &Path) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = files(settings, state_dir)?;
    let chain = certificates(&certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(&key).map_err(|_| TlsError::Pem { path: key, what: "private key" })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// SHA-256 of the certificate, in the form in which clients compare it.
pub(crate) fn fingerprint(settings: &Tls, state_dir: &Path) -> Result<String, TlsError> {
    let (certificate, _) = files(settings, state_dir)?;
    let chain = certificates(&certificate)?;
    let first = chain.first().map(Sha256::digest).unwrap_or_default();
    let pairs: Vec<String> = first.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(pairs.join(":"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let text = fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(missing)
}

/// The files of the certificate and its key; a certificate of the daemon's own is made when there is none yet.
fn files(settings: &Tls, state_dir: &Path) -> Result<(PathBuf, PathBuf), TlsError> {
    match settings {
        Tls::Files { certificate, key } => Ok((certificate.clone(), key.clone())),
        Tls::SelfSigned => {
            let (certificate, key) = (state_dir.join(CERTIFICATE), state_dir.join(KEY));
            if !certificate.exists() || !key.exists() {
                make(&certificate, &key)?;
            }
            keep_private(&key);
            Ok((certificate, key))
        }
    }
}

fn make(certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned()];
    names.extend(
        [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])].map(|ip| ip.to_string()),
    );
    let made = rcgen::generate_simple_self_signed(names)?;
    write(key, &made.signing_key.serialize_pem())?;
    write(certificate, &made.cert.pem())
}

fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    write_private(path, text.as_bytes()).map_err(|error| TlsError::File { path: path.to_owned(), error })
}
