//! Connection parameters of a PostgreSQL catalog, in libpq's forms, parsed once for both connections.
//!
//! DuckDB connects with libpq, and our own connection with a client in Rust, which supports fewer
//! parameters and neither environment variables nor password files. Therefore this module parses the
//! setting, completes it as libpq does (`environment`), and passes the same parameters to both.
//!
//! No text that this module creates contains a password, in whatever form the setting was written.

mod environment;
mod error;
mod keywords;
mod parse;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use self::environment::Resolved;
pub use self::error::PostgresSettingsError;
use self::keywords::SECRETS;

/// libpq's connection parameters, as given in the setting.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresSettings(BTreeMap<String, String>);

impl FromStr for PostgresSettings {
    type Err = PostgresSettingsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse::settings(text).map(Self)
    }
}

impl fmt::Display for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url(Some("***")))
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PostgresSettings {
    /// Returns a usable URL without a password.
    #[must_use]
    pub fn shareable(&self) -> String {
        self.url(None)
    }

    /// Returns whether a password was given.
    #[must_use]
    pub fn has_password(&self) -> bool {
        SECRETS.iter().any(|key| self.0.contains_key(*key))
    }

    /// Completes the settings as libpq does: environment, service file, password file, defaults.
    pub fn resolve(&self) -> Result<Resolved, PostgresSettingsError> {
        Resolved::of(&self.0, &|name| std::env::var(name).ok())
    }

    /// Refuses settings that one of the two connections does not support.
    pub fn check(&self) -> Result<(), PostgresSettingsError> {
        let resolved = self.resolve()?;
        resolved.check()?;
        drop(resolved);
        Ok(())
    }

    /// Returns all parameters as a URL. `mask` replaces secrets; without it, secrets are omitted.
    fn url(&self, mask: Option<&str>) -> String {
        let get = |key: &str| self.0.get(key).map(String::as_str);
        let secret = |key: &str| get(key).and(mask);
        let mut url = "postgres://".to_owned();
        match (get("user"), secret("password")) {
            (None, None) => {}
            (user, password) => {
                url.push_str(&encode(user.unwrap_or_default()));
                url.extend(password.map(|mask| format!(":{mask}")));
                url.push('@');
            }
        }
        url.push_str(&hosts(get("host").unwrap_or_default(), get("port").unwrap_or_default()));
        url.push('/');
        url.push_str(&encode(get("dbname").unwrap_or_default()));
        let in_front = ["user", "password", "host", "port", "dbname"];
        let others = self.0.iter().filter(|(key, _)| !in_front.contains(&key.as_str()));
        let pairs = others.filter_map(|(key, value)| {
            let is_secret = SECRETS.contains(&key.as_str());
            let value =
                if is_secret { mask?.to_owned() } else { encode(value).replace("%2F", "/") };
            Some(format!("{key}={value}"))
        });
        let pairs = pairs.collect::<Vec<_>>().join("&");
        if pairs.is_empty() { url } else { format!("{url}?{pairs}") }
    }
}

/// Returns `host:port,host:port` for a URL. A URL with several ports needs as many hosts; libpq accepts
/// one port for all hosts.
fn hosts(hosts: &str, ports: &str) -> String {
    let ports: Vec<_> = ports.split(',').collect();
    let one = |(index, host): (usize, &str)| {
        let port = ports.get(index).or(ports.first().filter(|_| ports.len() == 1));
        let host = if host.contains(':') { format!("[{host}]") } else { encode(host) };
        match port.filter(|port| !port.is_empty()) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    };
    hosts.split(',').enumerate().map(one).collect::<Vec<_>>().join(",")
}

/// Percent-encodes all characters with a meaning in a URL.
fn encode(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~,".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> PostgresSettings {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn no_form_of_the_setting_shows_its_password() {
        let forms = [
            "postgres://me:s3cret@db:5432/lake",
            "postgresql://me:s3cret@db:5432/lake",
            "postgres://me:s3%63ret@db:5432/lake",
            "postgres://me@db:5432/lake?password=s3cret",
            "postgres://db:5432/lake?user=me&password=s3cret",
            "host=db port=5432 user=me password=s3cret dbname=lake",
            "host = db port = 5432 user = me password = 's3cret' dbname=lake",
            "postgres:host=db port=5432 user=me password=s3cret dbname=lake",
            "ducklake:postgres:dbname=lake host=db port=5432 user=me password=s3cret",
            "postgres:postgres://me:s3cret@db:5432/lake",
        ];
        for form in forms {
            let settings = settings(form);
            assert_eq!(settings.to_string(), "postgres://me:***@db:5432/lake", "{form}");
            assert_eq!(format!("{settings:?}"), settings.to_string(), "{form}");
            assert_eq!(settings.shareable(), "postgres://me@db:5432/lake", "{form}");
            assert_eq!(settings.0["password"], "s3cret", "{form}");
            assert!(settings.has_password(), "{form}");
        }
    }

    #[test]
    fn a_password_with_special_characters_is_parsed() {
        for password in ["s3cr@t", "a/b", "a b", "a?b", "a:b", "@/ #", "a&b=c", "p#w"] {
            let settings = settings(&format!("postgres://me:{password}@db/lake?sslmode=require"));
            assert_eq!(settings.0["password"], password);
            assert_eq!(settings.to_string(), "postgres://me:***@db/lake?sslmode=require");
        }
        let quoted = settings(r"host=db password='c\'d a \\ one' dbname=lake");
        assert_eq!(quoted.0["password"], r"c'd a \ one");
    }

    #[test]
    fn an_invalid_setting_is_described_without_its_password() {
        let cases = [
            ("postgres://me@db/lake?Password=s3cret", "`password` in lower case"),
            ("postgres://me@db/lake?sslmod=s3cret", "unknown connection parameter: `sslmod`"),
            ("host=db Password=s3cret", "`password` in lower case"),
            ("host=db password='s3cret", "quote"),
            ("host=db s3cret", "`=`"),
            ("postgres://me:s3cret%zz@db/lake", "%25"),
            ("postgres://me@db/lake?s3cret", "name=value"),
            ("postgres://me:s3cret@b?s3cret=x@db/lake", "percent-encode"),
            ("postgres://me:s3cret@db:none/lake", "port"),
            ("mysql://me:s3cret@db/lake", "sqlite:PATH"),
            ("s3cret", "sqlite:PATH"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<PostgresSettings>().expect_err(text).to_string();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_url_has_the_same_parameters() {
        let forms = [
            "postgres://a:5432,b:5433/lake?target_session_attrs=read-write",
            "host=/var/run/postgresql dbname=lake user='o neil'",
            "postgres://[::1]:5432/lake",
            "host=::1 port=5432 dbname=lake options='-c search_path=a'",
            "postgres:///lake",
            "dbname=lake",
        ];
        for form in forms {
            let settings = settings(form);
            assert_eq!(self::settings(&settings.shareable()), settings, "{form}");
        }
    }
}
