//! The format of DuckLake's own catalog tables, which another client can change permanently.
//!
//! A newer client that attaches the lake with `AUTOMATIC_MIGRATION true` adds columns to these tables.
//! DuckLake's statements then fail (SQLite), or leave the new columns empty (PostgreSQL), so nothing is
//! written to a format that this program does not know.

use ducktide_protocol::error::{LakeError, LakeFault, Result};

use super::client::CatalogClient;

/// The format that this program and its DuckLake extension read and write.
pub(crate) const FORMAT: &str = "1.0";

/// The query for the format, as one value, in the catalog database's dialect; `metadata` is the table
/// `ducklake_metadata`.
#[must_use]
pub(crate) fn value_sql(metadata: &str) -> String {
    format!("(SELECT value FROM {metadata} WHERE key = 'version' AND scope IS NULL)")
}

/// Reads the format; returns an error for one that this program does not know.
pub(crate) fn check(catalog: &impl CatalogClient) -> Result<()> {
    let version = value_sql(&catalog.native_table("ducklake_metadata"));
    let sql = format!("SELECT {version} AS version");
    require(catalog.catalog_scalar::<Option<String>>(&sql)?.as_deref())
}

/// Returns an error for a format that this program does not know.
pub(crate) fn require(found: Option<&str>) -> Result<()> {
    if found == Some(FORMAT) {
        return Ok(());
    }
    let found = found.unwrap_or_default().to_owned();
    Err(LakeError::from_fault(LakeFault::UnknownCatalogFormat { found, supported: FORMAT }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ducktide_protocol::error::ErrorKind;

    #[test]
    fn an_unknown_format_is_rejected() {
        assert!(require(Some("1.0")).is_ok());
        for found in [Some("1.1"), Some("0.3"), None] {
            let error = require(found).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let found = found.unwrap_or_default();
            assert!(error.chain().ends_with(&format!("catalog_format=`{found}` supported=`1.0`")));
            let fault =
                LakeFault::UnknownCatalogFormat { found: found.to_owned(), supported: FORMAT };
            assert_eq!(error.fault(), Some(&fault));
        }
    }
}
