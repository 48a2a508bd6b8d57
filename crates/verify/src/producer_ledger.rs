//! A producer's ledger: the CSV file `topic,partition,offset,event_id` of the acknowledged records.
//!
//! It may have hundreds of millions of lines, so it is converted to a Parquet file in the temporary
//! directory, of which DuckDB reads only the parts that a query needs.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use ducktide_lake::session::{Session, quote};
use ducktide_protocol::error::{LakeError, Result};

use super::offsets::list;

/// The first line of a producer's ledger.
const HEADER: &str = "topic,partition,offset,event_id";

/// A producer's ledger as a Parquet file, which is removed when it is dropped.
pub(super) struct ProducerLedger {
    directory: PathBuf,
}

impl Drop for ProducerLedger {
    fn drop(&mut self) {
        // After an error the file stays in the temporary directory.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl ProducerLedger {
    /// Converts the CSV file to a Parquet file in a directory of its own, which may take minutes for
    /// hundreds of millions of lines.
    pub(super) fn load(session: &Session, path: &Path, directory: PathBuf) -> Result<Self> {
        let context = || format!("read the producer's ledger: path=`{}`", path.display());
        let file =
            File::open(path).map_err(|error| LakeError::invalid(context()).because(error))?;
        let mut header = String::new();
        let read = BufReader::new(file).read_line(&mut header);
        read.map_err(|error| LakeError::invalid(context()).because(error))?;
        if header.trim_end() != HEADER {
            return Err(LakeError::invalid(format!(
                "{}: the first line of a ledger is `{HEADER}`",
                context()
            )));
        }
        let created = fs::create_dir_all(&directory);
        let ledger = Self { directory };
        created.map_err(|error| LakeError::of_io("create a temporary directory", error))?;
        let copy = quote(&ledger.directory.join("acknowledged.parquet").to_string_lossy());
        let sql = format!(
            "COPY (SELECT topic, \"partition\", \"offset\" AS o, \
             CASE WHEN event_id <> '' THEN {} END AS id \
             FROM read_csv({}, auto_detect = false, header = true, delim = ',', columns = {{topic: 'VARCHAR', \
             partition: 'INTEGER', \"offset\": 'BIGINT', event_id: 'VARCHAR'}})) TO {copy} (FORMAT parquet); \
             CREATE OR REPLACE TEMP VIEW acknowledged AS FROM read_parquet({copy})",
            short_id("event_id"),
            quote(&path.to_string_lossy())
        );
        session.execute(&sql).map_err(|error| LakeError::invalid(context()).because(error))?;
        Ok(ledger)
    }
}

/// Returns the SQL expression for the hash of an event ID: eight bytes instead of 36, since both sides of the
/// comparison are held in memory. The probability that two IDs of one offset collide is one in 2⁶⁴.
pub(super) fn short_id(column: &str) -> String {
    format!("hash(lower({column}))")
}

/// Returns the topics of the ledger that none of these sources has.
pub(super) fn unknown_topics<'a>(
    session: &Session,
    topics: impl Iterator<Item = &'a str>,
) -> duckdb::Result<Vec<String>> {
    let sql = format!(
        "SELECT DISTINCT topic FROM acknowledged WHERE topic NOT IN ('', {}) ORDER BY 1",
        list(topics).replace("NULL", "''")
    );
    session.texts(&sql)
}
