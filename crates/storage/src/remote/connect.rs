//! Schemes of object storage.

use std::io;

use super::azure::Azure;
use super::client::invalid;
use super::gcs::Gcs;
use super::s3::S3;
use super::store::Store;
use crate::url::ObjectUrl;

/// Connects the bucket of a URL. Makes no request.
pub(super) fn connect(url: &ObjectUrl) -> io::Result<Box<dyn Store>> {
    let remedy = match url.scheme() {
        "s3" => return Ok(Box::new(S3::connect(url)?)),
        "az" => return Ok(Box::new(Azure::connect(url)?)),
        "gs" => return Ok(Box::new(Gcs::connect(url)?)),
        // One lake has one URL: other names of a scheme would hide that two data paths are the same.
        "azure" | "abfs" | "abfss" | "adl" | "wasb" | "wasbs" => {
            "Azure is used by its Blob protocol: give az://CONTAINER/PREFIX, and the account in \
             AZURE_STORAGE_ACCOUNT_NAME"
        }
        "gcs" => "the scheme of Google Cloud Storage is gs: give gs://BUCKET/PREFIX",
        "s3a" | "s3n" => "the scheme of S3 is s3: give s3://BUCKET/PREFIX",
        _ => {
            "unknown scheme of object storage; give a URL such as s3://bucket/lake, az://container/lake or \
             gs://bucket/lake"
        }
    };
    Err(invalid(&format!("{remedy}: url=`{}`", url.bucket)))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_refusal_of_another_scheme_names_what_to_use() {
        for (url, remedy) in [
            ("gcs://bucket/lake", "gs://BUCKET/PREFIX"),
            ("s3a://bucket/lake", "s3://BUCKET/PREFIX"),
            ("abfss://container@account.dfs.core.windows.net/lake", "az://CONTAINER/PREFIX"),
            ("ftp://server/lake", "s3://bucket/lake"),
        ] {
            let url = ObjectUrl::parse(Path::new(url)).unwrap();
            let refused = connect(&url).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput);
            assert!(refused.to_string().contains(remedy), "{refused}");
        }
    }
}
