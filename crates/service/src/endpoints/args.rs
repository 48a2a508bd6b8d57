//! Settings of the endpoints.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::certificate::Certificate;
use crate::secret::{self, Secret, SecretError, parse_file};

/// HTTP endpoints.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct EndpointArgs {
    /// Address of /metrics, /healthz and /readyz. Port 0 selects a free port, which is logged.
    /// Without --listen-certificate there is no encryption.
    #[arg(long, env = "DUCKTIDE_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// File with the certificate of /metrics, /healthz and /readyz, and those of its issuers, in PEM format.
    /// Clients then use https. A replaced file is used for new connections [default: no encryption].
    #[arg(long, env = "DUCKTIDE_LISTEN_CERTIFICATE", value_name = "FILE", value_parser = parse_file)]
    pub listen_certificate: Option<PathBuf>,

    /// File with the private key of --listen-certificate, in PEM format, without a password.
    #[arg(long, env = "DUCKTIDE_LISTEN_KEY", value_name = "FILE", value_parser = parse_file)]
    pub listen_key: Option<PathBuf>,

    /// Token that requests for /metrics need, as `Authorization: Bearer TOKEN` [default: none].
    /// /healthz and /readyz need none.
    #[arg(long, env = "DUCKTIDE_METRICS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub metrics_token: Option<Secret>,

    /// File with the token for /metrics, instead of the token.
    #[arg(long, env = "DUCKTIDE_METRICS_TOKEN_FILE", value_name = "FILE", value_parser = parse_file)]
    pub metrics_token_file: Option<PathBuf>,
}

impl EndpointArgs {
    /// Returns the certificate and its key, if there are some.
    pub(super) fn certificate(&self) -> io::Result<Option<Certificate>> {
        let is_set = |file: &&PathBuf| !file.as_os_str().is_empty();
        let certificate = self.listen_certificate.as_ref().filter(is_set);
        match (certificate, self.listen_key.as_ref().filter(is_set)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Certificate::read(certificate.clone(), key.clone()).map(Some)
            }
            _ => Err(io::Error::new(
                ErrorKind::InvalidInput,
                "--listen-certificate and --listen-key need each other; set both or none",
            )),
        }
    }

    /// Returns the token for `/metrics`, if there is one.
    pub fn token(&self) -> Result<Option<Secret>, SecretError> {
        let (token, file) = (self.metrics_token.as_ref(), self.metrics_token_file.as_deref());
        secret::read("DUCKTIDE_METRICS_TOKEN", token, file)
    }
}
