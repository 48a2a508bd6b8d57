//! Settings of the endpoints.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::secret::{self, Secret, SecretError, parse_file};

/// HTTP endpoints.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Process")]
pub struct EndpointArgs {
    /// Address of /metrics, /healthz and /readyz. Port 0 selects a free port, which is logged.
    /// There is no encryption: other machines should only reach it through a trusted network.
    #[arg(long, env = "DUCKTIDE_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// Token that requests for /metrics need, as `Authorization: Bearer TOKEN` [default: none].
    /// /healthz and /readyz need none.
    #[arg(long, env = "DUCKTIDE_METRICS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub metrics_token: Option<Secret>,

    /// File with the token for /metrics, instead of the token.
    #[arg(long, env = "DUCKTIDE_METRICS_TOKEN_FILE", value_name = "FILE", value_parser = parse_file)]
    pub metrics_token_file: Option<PathBuf>,
}

impl EndpointArgs {
    /// Returns the token for `/metrics`, if there is one.
    pub fn token(&self) -> Result<Option<Secret>, SecretError> {
        let (token, file) = (self.metrics_token.as_ref(), self.metrics_token_file.as_deref());
        secret::read("DUCKTIDE_METRICS_TOKEN", token, file)
    }
}
