//! Configuration of our own client, with the meaning of libpq's parameters.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use native_tls::{Certificate, Identity, Protocol, TlsConnector, TlsConnectorBuilder};
use postgres::Config;
use postgres::config::{
    ChannelBinding, LoadBalanceHosts, SslMode, SslNegotiation, TargetSessionAttrs,
};
use postgres_native_tls::MakeTlsConnector;

use super::environment::Resolved;
use super::error::PostgresSettingsError;

type Result<T> = std::result::Result<T, PostgresSettingsError>;

/// Default timeout of a connection attempt in seconds.
pub(crate) const CONNECT_TIMEOUT_SECONDS: u32 = 5;

impl Resolved {
    /// Refuses parameters that our own client does not support.
    ///
    /// Without a client certificate it builds no connector: building cannot fail then, but OpenSSL would
    /// read the system's certificates twice (some 20 ms).
    pub(crate) fn check(&self) -> Result<()> {
        let (_, tls) = self.client_settings()?;
        if self.identity()?.is_some() {
            connector(&tls)?;
        }
        Ok(())
    }

    /// Returns the configuration of our own client.
    pub(crate) fn client(&self) -> Result<(Config, MakeTlsConnector)> {
        let (config, tls) = self.client_settings()?;
        Ok((config, connector(&tls)?))
    }

    fn client_settings(&self) -> Result<(Config, TlsConnectorBuilder)> {
        let mut config = Config::new();
        self.set_place(&mut config)?;
        self.set_session(&mut config)?;
        self.set_network(&mut config)?;
        let tls = self.tls(&mut config)?;
        Ok((config, tls))
    }

    fn set_place(&self, config: &mut Config) -> Result<()> {
        for host in self.list("host").filter(|host| !host.is_empty()) {
            config.host(host);
        }
        for address in self.list("hostaddr").filter(|address| !address.is_empty()) {
            let address: IpAddr =
                address.parse().map_err(|_| refused("hostaddr", "must be an IP address"))?;
            config.hostaddr(address);
        }
        for port in self.list("port") {
            let port = if port.is_empty() { "5432" } else { port };
            config.port(port.parse().map_err(|_| refused("port", "must be a number up to 65535"))?);
        }
        Ok(())
    }

    fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        self.get(key).into_iter().flat_map(|value| value.split(','))
    }

    fn set_session(&self, config: &mut Config) -> Result<()> {
        config.application_name(self.get("application_name").unwrap_or("ducktide"));
        self.get("user").map(|user| config.user(user));
        self.get("password").map(|password| config.password(password));
        self.get("dbname").map(|name| config.dbname(name));
        self.get("options").map(|options| config.options(options));
        for key in
            ["replication", "require_auth", "requirepeer", "sslcrl", "sslcrldir", "sslpassword"]
        {
            if self.get(key).is_some() {
                return Err(refused(key, "not supported by Ducktide's own connection; remove it"));
            }
        }
        match self.get("gssencmode") {
            None | Some("disable" | "prefer") => {}
            Some(_) => return Err(refused("gssencmode", "only disable and prefer are supported")),
        }
        config.target_session_attrs(match self.get("target_session_attrs") {
            None | Some("any" | "prefer-standby") => TargetSessionAttrs::Any,
            Some("read-write" | "primary") => TargetSessionAttrs::ReadWrite,
            Some("read-only" | "standby") => TargetSessionAttrs::ReadOnly,
            Some(_) => return Err(refused("target_session_attrs", "unknown value")),
        });
        config.load_balance_hosts(match self.get("load_balance_hosts") {
            None | Some("disable") => LoadBalanceHosts::Disable,
            Some("random") => LoadBalanceHosts::Random,
            Some(_) => return Err(refused("load_balance_hosts", "must be disable or random")),
        });
        config.channel_binding(match self.get("channel_binding") {
            None | Some("prefer") => ChannelBinding::Prefer,
            Some("disable") => ChannelBinding::Disable,
            Some("require") => ChannelBinding::Require,
            Some(_) => {
                return Err(refused("channel_binding", "must be disable, prefer or require"));
            }
        });
        Ok(())
    }

    fn set_network(&self, config: &mut Config) -> Result<()> {
        let seconds = |key: &str, default: u32| -> Result<Duration> {
            Ok(Duration::from_secs(self.number(key, default)?.into()))
        };
        // 0 means no limit in libpq, and the default here: an attempt must not block a worker forever.
        let connect = seconds("connect_timeout", CONNECT_TIMEOUT_SECONDS)?;
        let default = Duration::from_secs(CONNECT_TIMEOUT_SECONDS.into());
        config.connect_timeout(if connect.is_zero() { default } else { connect });
        config.keepalives(self.number("keepalives", 1)? != 0);
        config.keepalives_idle(seconds("keepalives_idle", 10)?);
        config.keepalives_interval(seconds("keepalives_interval", 5)?);
        config.keepalives_retries(self.number("keepalives_count", 3)?);
        let unanswered = self.number("tcp_user_timeout", 20_000)?;
        config.tcp_user_timeout(Duration::from_millis(unanswered.into()));
        Ok(())
    }

    fn number(&self, key: &str, default: u32) -> Result<u32> {
        match self.get(key) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|_| refused(key, "must be a whole number")),
        }
    }

    /// Returns the TLS settings, as in libpq: certificates are checked only for `verify-ca` and
    /// `verify-full`, and for `require` if a root certificate is given or found.
    fn tls(&self, config: &mut Config) -> Result<TlsConnectorBuilder> {
        let mode = self.get("sslmode").unwrap_or("prefer");
        let root = self.root_certificate();
        let from_system = root.as_deref() == Some(Path::new("system"));
        let (ssl_mode, checks_certificate, checks_host) = match (mode, &root) {
            ("disable", _) => (SslMode::Disable, false, false),
            ("verify-full", _) => (SslMode::Require, true, true),
            _ if from_system => {
                return Err(refused("sslrootcert", "`system` needs sslmode=verify-full"));
            }
            ("allow" | "prefer", _) => (SslMode::Prefer, false, false),
            ("verify-ca", _) | ("require", Some(_)) => (SslMode::Require, true, false),
            ("require", None) => (SslMode::Require, false, false),
            _ => {
                return Err(refused(
                    "sslmode",
                    "must be disable, allow, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        config.ssl_mode(ssl_mode);
        match self.get("sslnegotiation") {
            None | Some("postgres") => {}
            Some("direct") => {
                config.ssl_negotiation(SslNegotiation::Direct);
            }
            Some(_) => return Err(refused("sslnegotiation", "must be postgres or direct")),
        }
        let mut builder = TlsConnector::builder();
        builder.danger_accept_invalid_certs(!checks_certificate);
        builder.danger_accept_invalid_hostnames(!checks_host);
        if checks_certificate && !from_system {
            let Some(root) = root else {
                return Err(refused(
                    "sslrootcert",
                    "verify-ca and verify-full need the file of a root certificate, or \
                     sslrootcert=system",
                ));
            };
            builder.disable_built_in_roots(true);
            for certificate in certificates(&root)? {
                builder.add_root_certificate(certificate);
            }
        }
        if ssl_mode != SslMode::Disable {
            self.set_tls(&mut builder)?;
        }
        Ok(builder)
    }

    fn set_tls(&self, builder: &mut TlsConnectorBuilder) -> Result<()> {
        let protocol = |key: &str| match self.get(key) {
            None => Ok(None),
            Some("TLSv1") => Ok(Some(Protocol::Tlsv10)),
            Some("TLSv1.1") => Ok(Some(Protocol::Tlsv11)),
            Some("TLSv1.2") => Ok(Some(Protocol::Tlsv12)),
            Some("TLSv1.3") => Ok(Some(Protocol::Tlsv13)),
            Some(_) => Err(refused(key, "must be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")),
        };
        let lowest = protocol("ssl_min_protocol_version")?;
        builder.min_protocol_version(lowest.or(Some(Protocol::Tlsv12)));
        builder.max_protocol_version(protocol("ssl_max_protocol_version")?);
        builder.use_sni(self.get("sslsni") != Some("0"));
        if let Some(identity) = self.identity()? {
            builder.identity(identity);
        }
        Ok(())
    }

    /// Reads the client certificate and its key; None if there is no certificate.
    fn identity(&self) -> Result<Option<Identity>> {
        if self.get("sslcertmode") == Some("disable") {
            return Ok(None);
        }
        let Some(certificate) = self.file("sslcert", "postgresql.crt") else { return Ok(None) };
        let key = self.file("sslkey", "postgresql.key").ok_or_else(|| {
            refused("sslkey", "the client's certificate (sslcert) needs the file of its key")
        })?;
        let key = read("sslkey", &key)?;
        if !key.starts_with(b"-----BEGIN PRIVATE KEY-----") {
            return Err(refused(
                "sslkey",
                "the key must be PKCS #8 without a password; convert it with `openssl pkcs8 -topk8 \
                 -nocrypt -in KEY -out NEW`",
            ));
        }
        let identity = Identity::from_pkcs8(&read("sslcert", &certificate)?, &key);
        identity.map(Some).map_err(|error| refused("sslcert", &error.to_string()))
    }

    fn root_certificate(&self) -> Option<PathBuf> {
        self.file("sslrootcert", "root.crt")
    }

    /// Returns the file of a parameter, or else the default file of libpq if it exists.
    fn file(&self, key: &str, default: &str) -> Option<PathBuf> {
        let default =
            || Some(self.home()?.join(".postgresql").join(default)).filter(|f| f.exists());
        self.get(key).map(PathBuf::from).or_else(default)
    }
}

fn connector(tls: &TlsConnectorBuilder) -> Result<MakeTlsConnector> {
    let connector = tls.build().map_err(|error| refused("sslcert", &error.to_string()))?;
    Ok(MakeTlsConnector::new(connector))
}

fn certificates(file: &Path) -> Result<Vec<Certificate>> {
    let text = read("sslrootcert", file)?;
    let found = Certificate::stack_from_pem(&text);
    let found = found.map_err(|error| refused("sslrootcert", &error.to_string()))?;
    if found.is_empty() {
        let reason = format!("the file holds no certificate: path=`{}`", file.display());
        return Err(refused("sslrootcert", &reason));
    }
    Ok(found)
}

fn read(key: &str, file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|error| {
        refused(key, &format!("read the file: {error}: path=`{}`", file.display()))
    })
}

fn refused(key: &str, reason: &str) -> PostgresSettingsError {
    PostgresSettingsError::new(format!("connection parameter `{key}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::super::PostgresSettings;

    fn refusal(text: &str) -> String {
        let settings: PostgresSettings = text.parse().expect("a setting");
        let checked = settings.resolve().and_then(|resolved| resolved.check());
        checked.expect_err("must be refused").to_string()
    }

    #[test]
    fn unsupported_parameters_are_named() {
        let cases = [
            ("host=db sslmode=always", "`sslmode`"),
            ("host=db gssencmode=require", "`gssencmode`"),
            ("host=db require_auth=gss", "`require_auth`"),
            ("host=db connect_timeout=soon", "`connect_timeout`"),
            ("host=db sslmode=require sslrootcert=/no/such/file", "`sslrootcert`: read the file"),
            ("host=db sslmode=require sslrootcert=system", "verify-full"),
            ("host=db sslcert=/no/such/file sslkey=/no/such/key", "`sslkey`"),
            ("host=db target_session_attrs=some", "`target_session_attrs`"),
            ("hostaddr=db", "`hostaddr`"),
        ];
        for (text, expected) in cases {
            let error = refusal(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn parameters_of_libpq_are_supported() {
        let texts = [
            "host=db gssencmode=disable krbsrvname=postgres client_encoding=UTF8",
            "host=db sslmode=allow sslsni=0 ssl_min_protocol_version=TLSv1.3",
            "host=a,b port=1,2 target_session_attrs=primary load_balance_hosts=random",
            "hostaddr=127.0.0.1 connect_timeout=0 keepalives=0 sslmode=disable sslcompression=0",
            "host=db sslmode=verify-full sslrootcert=system",
        ];
        for text in texts {
            let settings: PostgresSettings = text.parse().expect("a setting");
            settings.resolve().and_then(|resolved| resolved.check()).expect(text);
        }
    }
}
