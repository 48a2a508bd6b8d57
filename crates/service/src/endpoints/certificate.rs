//! Certificate of the endpoints. Issuers replace its files every few weeks or hours; new connections use
//! the new ones.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificate and key, from files.
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    used: Mutex<Version>,
}

/// A version of the files.
struct Version {
    /// Time of the last change of each file.
    modified: [Option<SystemTime>; 2],
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads the files; the error names the setting of the file that cannot be used.
    pub(super) fn read(chain: PathBuf, key: PathBuf) -> io::Result<Self> {
        let modified = [&chain, &key].map(|file| modified(file));
        let acceptor = acceptor(&chain, &key)?;
        Ok(Self { chain, key, used: Mutex::new(Version { modified, acceptor }) })
    }

    /// Returns the acceptor of a new connection. Files that cannot be used are logged, and the last usable
    /// ones stay in use: an issuer may be in the middle of replacing them.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let modified = [&self.chain, &self.key].map(|file| modified(file));
        if modified != used.modified {
            match acceptor(&self.chain, &self.key) {
                Ok(acceptor) => {
                    tracing::info!("certificate of the endpoints read again");
                    used.acceptor = acceptor;
                }
                Err(error) => tracing::warn!(%error, "certificate of the endpoints not replaced"),
            }
            used.modified = modified;
        }
        used.acceptor.clone()
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

fn acceptor(certificate: &Path, key: &Path) -> io::Result<TlsAcceptor> {
    let unusable = |setting: &str, file: &Path, error: String| {
        let file = file.display();
        io::Error::new(ErrorKind::InvalidInput, format!("{error}: {setting}=`{file}`"))
    };
    let of_certificate = |error: String| unusable("--listen-certificate", certificate, error);
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| of_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(of_certificate("the file has no certificate in PEM format".to_owned()));
    }
    let of_key = |error: String| unusable("--listen-key", key, error);
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| of_key(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| of_key(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_an_unusable_file_names_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.pem");
        fs::write(&file, "").unwrap();
        for path in [file, folder.path().join("missing.pem")] {
            let error = Certificate::read(path.clone(), path.clone()).err().unwrap().to_string();
            assert!(error.contains("--listen-certificate=`"), "{error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
