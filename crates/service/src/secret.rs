//! Passwords and tokens, from a variable or from a file.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use thiserror::Error;

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Returns the text. Do not print it or put it into an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Secret that cannot be used. The messages never contain a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SecretError {
    /// Correct the path or the permissions of the file.
    #[error("read {setting}_FILE: {reason}: path=`{path}`")]
    Unreadable { setting: &'static str, path: PathBuf, reason: String },
    /// Write the secret to the file.
    #[error("read {setting}_FILE: the file is empty: path=`{path}`")]
    Empty { setting: &'static str, path: PathBuf },
    /// Remove one of the two settings.
    #[error("{setting} and {setting}_FILE are both set; remove one of them")]
    Both { setting: &'static str },
    /// Write the secret as UTF-8 text without NUL.
    #[error("read {setting}_FILE: expected UTF-8 text without NUL: path=`{path}`")]
    NotText { setting: &'static str, path: PathBuf },
}

/// Parses the path of an optional file. Unlike clap's own parser, it accepts an empty text, as compose
/// files write unset variables.
#[must_use = "clap takes a parser's result"]
pub fn parse_file(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

/// Returns the secret of a variable such as `KAFKA_SASL_PASSWORD`, or of the file that
/// `KAFKA_SASL_PASSWORD_FILE` names, without the line break at its end. An empty value counts as not
/// set, because compose files write unset variables in this way.
pub fn read(
    setting: &'static str,
    value: Option<&Secret>,
    file: Option<&Path>,
) -> Result<Option<Secret>, SecretError> {
    let value = value.filter(|secret| !secret.0.is_empty());
    let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(value.cloned());
    };
    if value.is_some() {
        return Err(SecretError::Both { setting });
    }
    let path_buf = || path.to_owned();
    let bytes = fs::read(path).map_err(|error: io::Error| SecretError::Unreadable {
        setting,
        path: path_buf(),
        reason: error.to_string(),
    })?;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or_else(|| SecretError::NotText { setting, path: path_buf() })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::Empty { setting, path: path_buf() });
    }
    Ok(Some(Secret(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: &str = "KAFKA_SASL_PASSWORD";

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), content).expect("written");
        file
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret("let-me-in".to_owned())), "***");
    }

    #[test]
    fn a_file_is_read_without_the_line_break_at_its_end() {
        for (content, secret) in [
            (&b"p@:/%'\";s w\n"[..], "p@:/%'\";s w"),
            (b"a\r\n", "a"),
            (b" a \n\n", " a \n"),
            (b"a", "a"),
        ] {
            let found = read(SETTING, None, Some(file(content).path())).expect("read");
            assert_eq!(found.expect("a secret").expose(), secret);
        }
    }

    #[test]
    fn empty_settings_are_not_set() {
        let empty = Secret::from(String::new());
        assert_eq!(read(SETTING, Some(&empty), Some(Path::new(""))), Ok(None));
        let set = Secret::from("a".to_owned());
        assert_eq!(read(SETTING, Some(&set), Some(Path::new(""))), Ok(Some(set)));
    }

    #[test]
    fn an_unusable_file_is_named_without_its_content() {
        for (content, reason) in
            [(&b"\n"[..], "empty"), (b"s3c\0ret", "without NUL"), (b"s3c\xffret", "UTF-8")]
        {
            let file = file(content);
            let error = read(SETTING, None, Some(file.path())).expect_err("rejected").to_string();
            assert!(
                error.contains("KAFKA_SASL_PASSWORD_FILE") && error.contains(reason),
                "{error}"
            );
            assert!(!error.contains("s3c"), "{error}");
        }
        let missing = read(SETTING, None, Some(Path::new("/no/such/file"))).expect_err("missing");
        assert!(missing.to_string().ends_with("path=`/no/such/file`"), "{missing}");
        let both = read(SETTING, Some(&Secret::from("a".to_owned())), Some(Path::new("/x")));
        assert_eq!(both, Err(SecretError::Both { setting: SETTING }));
    }
}
