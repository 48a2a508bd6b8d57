//! Parser of connection parameters, written as a URL or as `keyword=value` pairs. Pure.

use std::collections::BTreeMap;

use super::error::PostgresSettingsError;
use super::keywords::KEYWORDS;

type Settings = BTreeMap<String, String>;
type Result<T> = std::result::Result<T, PostgresSettingsError>;

/// Error text with the supported forms of a catalog setting.
const FORMS: &str = "a catalog is sqlite:PATH, postgres://user@host:port/database, or libpq's \
                     postgres:host=… dbname=…";

pub(super) fn settings(text: &str) -> Result<Settings> {
    let text = text.trim();
    let text = text.strip_prefix("ducklake:").unwrap_or(text);
    let prefixed = ["postgres:", "postgresql:"].into_iter().find_map(|p| text.strip_prefix(p));
    match prefixed {
        Some(rest) if rest.starts_with("//") => url(&rest[2..]),
        Some(rest) if rest.starts_with("postgres:") || rest.starts_with("postgresql:") => {
            settings(rest)
        }
        Some(rest) => pairs(rest),
        None if looks_like_pairs(text) => pairs(text),
        None => Err(PostgresSettingsError::new(FORMS)),
    }
}

/// Returns whether a text begins with one of libpq's keywords, in any case.
fn looks_like_pairs(text: &str) -> bool {
    let keyword = text.split_once('=').map(|(keyword, _)| keyword.trim().to_ascii_lowercase());
    keyword.is_some_and(|keyword| KEYWORDS.contains(&keyword.as_str()))
}

/// Parses the part of a URL after `postgres://`.
///
/// libpq ends user and password at the first `@`. A password with a raw `@`, `/` or `?` is still
/// unambiguous; it is parsed here, and both connections use the result.
fn url(text: &str) -> Result<Settings> {
    let (user, rest) = split_user(text);
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let mut settings = Settings::new();
    if let Some(user) = user {
        let (name, password) = user.split_once(':').map_or((user, None), |(n, p)| (n, Some(p)));
        put(&mut settings, "user", decode("user", name)?);
        if let Some(password) = password {
            put(&mut settings, "password", decode("password", password)?);
        }
    }
    put_hosts(&mut settings, hosts)?;
    put(&mut settings, "dbname", decode("dbname", database)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(PostgresSettingsError::new(
                "a parameter of the URL is written as name=value; percent-encode `?` and `&` within \
                 a password, as %3F and %26",
            ));
        };
        // The text before an `@` may be the rest of a password with a `?`.
        let key = if query.contains('@') && !KEYWORDS.contains(&key) {
            return Err(PostgresSettingsError::new(
                "unknown parameter in the URL; percent-encode special characters within a password: \
                 `@` as %40, `?` as %3F, `/` as %2F",
            ));
        } else {
            known(key)?
        };
        put(&mut settings, key, decode(key, value)?);
    }
    check_ports(&settings)?;
    Ok(settings)
}

/// Splits a text into user with password, and the part after their `@`.
fn split_user(text: &str) -> (Option<&str>, &str) {
    let query = match text.find('?') {
        // Within a password: no `@` came before, and no path.
        Some(at) if !text[..at].contains(['@', '/']) => {
            text[at..].find('@').map_or(at, |user_ends| {
                let rest = at + user_ends;
                text[rest..].find('?').map_or(text.len(), |question| rest + question)
            })
        }
        // `user:a/b?c@host`: the text before the `?` has a colon without a port after it.
        Some(at)
            if !text[..at].contains('@')
                && text[at..].contains('@')
                && has_password_before(&text[..at]) =>
        {
            text[at..]
                .find('@')
                .map(|user_ends| at + user_ends)
                .map_or(at, |rest| text[rest..].find('?').map_or(text.len(), |q| rest + q))
        }
        Some(at) => at,
        None => text.len(),
    };
    match text[..query].rfind('@') {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    }
}

/// Returns whether a text has a colon without a port after it.
fn has_password_before(text: &str) -> bool {
    let after = text.split_once(':').map(|(_, after)| after.split('/').next().unwrap_or_default());
    after.is_some_and(|port| !port.chars().all(|c| c.is_ascii_digit()))
}

/// Parses `host:port,host:port`, with IPv6 addresses in brackets.
fn put_hosts(settings: &mut Settings, text: &str) -> Result<()> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for place in text.split(',') {
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
            None => place.split_once(':').unwrap_or((place, "")),
        };
        hosts.push(decode("host", host)?);
        ports.push(port.to_owned());
    }
    put(settings, "host", hosts.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        put(settings, "port", ports.join(","));
    }
    Ok(())
}

/// Parses libpq's `keyword = value` pairs. A value may be in single quotes.
fn pairs(text: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=') else {
            return Err(PostgresSettingsError::new("a connection parameter lacks its `=`"));
        };
        let key = key.trim();
        if key.contains(char::is_whitespace) {
            return Err(PostgresSettingsError::new(
                "a connection parameter lacks its `=`; put a value with spaces in single quotes",
            ));
        }
        let key = known(key)?;
        let (value, after) = value(key, after.trim_start())?;
        put(&mut settings, key, value);
        rest = after.trim_start();
    }
    check_ports(&settings)?;
    Ok(settings)
}

/// Parses a value. Returns it with the text after it. A backslash escapes the next character.
fn value<'a>(key: &str, text: &'a str) -> Result<(String, &'a str)> {
    let quoted = text.strip_prefix('\'');
    let is_quoted = quoted.is_some();
    let text = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if is_quoted => return Ok((value, &text[at + 1..])),
            c if c.is_whitespace() && !is_quoted => return Ok((value, &text[at..])),
            c => value.push(c),
        }
    }
    if is_quoted {
        return Err(PostgresSettingsError::new(format!(
            "the closing quote of a connection parameter is missing: `{key}`"
        )));
    }
    Ok((value, ""))
}

/// Returns libpq's keyword of this name, or an error.
pub(super) fn known(key: &str) -> Result<&'static str> {
    // A keyword in another case gets its own error.
    let lower = key.to_ascii_lowercase();
    match KEYWORDS.iter().find(|keyword| **keyword == lower) {
        Some(keyword) if lower == key => Ok(keyword),
        Some(keyword) => Err(PostgresSettingsError::new(format!(
            "unknown connection parameter; write `{keyword}` in lower case"
        ))),
        None if key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
            Err(PostgresSettingsError::new(format!("unknown connection parameter: `{key}`")))
        }
        None => Err(PostgresSettingsError::new("unknown connection parameter")),
    }
}

fn check_ports(settings: &Settings) -> Result<()> {
    let ports = settings.get("port").map(String::as_str).unwrap_or_default();
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0);
    if ports.split(',').all(is_port) {
        return Ok(());
    }
    Err(PostgresSettingsError::new(
        "a port must be a number from 1 to 65535; percent-encode special characters within a \
         password, `:` as %3A and `@` as %40: `port`",
    ))
}

/// Adds a parameter, unless its value is empty.
fn put(settings: &mut Settings, key: &str, value: String) {
    if !value.is_empty() {
        settings.insert(key.to_owned(), value);
    }
}

fn decode(key: &str, text: &str) -> Result<String> {
    let failed = || {
        PostgresSettingsError::new(format!(
            "invalid percent-encoding in a URL; write `%` as %25: `{key}`"
        ))
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let (high, low) = high.zip(low).ok_or_else(failed)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| failed())?);
    }
    String::from_utf8(bytes).map_err(|_| failed())
}
