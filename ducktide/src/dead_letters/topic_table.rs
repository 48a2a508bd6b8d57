//! Table whose dead letters are meant.

use ducktide_lake::DuckLake;
use ducktide_protocol::LakeError;
use ducktide_protocol::table::TableName;

use crate::failure::Failure;

/// Returns the named table, or the only one that the topic fills.
pub(super) fn topic_table(
    lake: &mut DuckLake,
    named: Option<&TableName>,
    topic: Option<&str>,
) -> Result<TableName, Failure> {
    if let Some(named) = named {
        return Ok(named.clone());
    }
    let sources = lake.sources()?.into_iter().map(|source| source.spec);
    let matching = sources.filter(|spec| topic.is_none_or(|topic| spec.topic == topic));
    let mut tables: Vec<_> = matching.map(|spec| spec.table).collect();
    tables.sort();
    tables.dedup();
    match (tables.pop(), tables.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            Err(Failure::Usage("topics fill several tables; select one with --table"))
        }
        (None, _) => Err(LakeError::invalid("no topic fills a table of this lake yet").into()),
    }
}
