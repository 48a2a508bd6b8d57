//! Whose data path it is: two lakes whose tables have the same names would remove each other's files.
//!
//! A lake that removes orphans leaves its identity in a file of the data path. The second lake's removal
//! is refused, and says so long before a file of either is old enough to be taken for an orphan.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::failed;
use crate::error::{LakeError, Result};
use crate::session::Session;

/// The file with the identity of the lake.
const NAME: &str = ".ducktide-lake";

/// Refuses a data path that another lake has claimed.
pub(super) fn check(session: &Session, data_path: &Path) -> Result<()> {
    let path = data_path.join(NAME);
    let (owner, lake) = (owner(&path)?, identity(session)?);
    if owner.as_ref().is_none_or(|owner| *owner == lake) {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "the data path belongs to another lake, whose files would be taken for orphans; give each lake \
         a --data-path of its own, or remove the file if that lake is gone: path=`{}`",
        path.display()
    )))
}

/// Claims the data path for this lake.
pub(super) fn claim(session: &Session, data_path: &Path) -> Result<()> {
    check(session, data_path)?;
    let path = data_path.join(NAME);
    if owner(&path)?.is_some() {
        return Ok(());
    }
    match fs::write(&path, identity(session)?) {
        // Nothing was written to the lake so far: there is nothing to claim.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        written => written.map_err(|error| failed("claim the data path", &path, error)),
    }
}

/// None if nobody claimed it, or died on the way.
fn owner(path: &PathBuf) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read whose data path it is", path, error)),
    }
}

/// The identity of the lake's first schema, which `DuckLake` makes up when it makes the lake.
fn identity(session: &Session) -> Result<String> {
    let sql = format!(
        "SELECT schema_uuid FROM {} ORDER BY schema_id, begin_snapshot LIMIT 1",
        session.native_table("ducklake_schema")
    );
    session.catalog_value(&sql)?.ok_or_else(|| LakeError::invalid("the lake has no schema"))
}
