//! Paths of local files and URLs of objects.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Separator of the scheme in a URL.
const SCHEME_END: &str = "://";

/// Object in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectUrl {
    /// Scheme and bucket, such as `s3://bucket`.
    pub(crate) bucket: String,
    /// Key, without a slash at the start or end.
    pub(crate) key: String,
}

impl ObjectUrl {
    /// Parses a URL; None for a local path.
    pub(crate) fn parse(path: &Path) -> Option<Self> {
        let text = path.to_string_lossy();
        let (scheme, rest) = text.split_once(SCHEME_END)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = format!("{scheme}{SCHEME_END}{bucket}");
        Some(Self { bucket, key: key.trim_matches('/').to_owned() })
    }

    pub(crate) fn scheme(&self) -> &str {
        self.bucket.split_once(SCHEME_END).map_or("", |(scheme, _)| scheme)
    }
}

/// Returns a path in canonical form: a local path without `//` and `/./`, a URL without empty parts of its
/// key. Neither has a slash at the end.
#[must_use]
pub fn normalize(path: &Path) -> PathBuf {
    let Some(ObjectUrl { bucket, key }) = ObjectUrl::parse(path) else {
        return path.components().collect();
    };
    let parts = key.split('/').filter(|part| !part.is_empty() && *part != ".");
    std::iter::once(bucket.as_str()).chain(parts).collect::<Vec<_>>().join("/").into()
}

/// Returns whether a path is independent of the working directory.
#[must_use]
pub fn is_absolute(path: &Path) -> bool {
    path.is_absolute() || ObjectUrl::parse(path).is_some()
}

/// Returns the absolute form of a path; a URL is absolute. Links are not resolved.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    match ObjectUrl::parse(path) {
        None => std::path::absolute(path),
        Some(url) if url.bucket.ends_with('/') => Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("a URL needs a bucket, as in s3://bucket/lake: url=`{}`", path.display()),
        )),
        Some(_) => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_their_double_slash() {
        for (path, expected) in [
            ("s3://bucket/lake//data/", "s3://bucket/lake/data"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket", "s3://bucket"),
            ("/lake//data/./x/", "/lake/data/x"),
        ] {
            assert_eq!(normalize(Path::new(path)).as_os_str(), expected);
        }
    }

    #[test]
    fn the_key_is_the_path_below_the_bucket() {
        let url = ObjectUrl::parse(Path::new("s3://bucket/lake/f.parquet")).unwrap();
        assert_eq!((url.scheme(), url.bucket.as_str()), ("s3", "s3://bucket"));
        assert_eq!(url.key, "lake/f.parquet");
        assert_eq!(ObjectUrl::parse(Path::new("/lake/f.parquet")), None);
    }

    #[test]
    fn a_url_without_a_bucket_is_refused() {
        assert!(absolute(Path::new("s3:///lake")).is_err());
        assert!(absolute(Path::new("s3://bucket/lake")).is_ok());
    }
}
