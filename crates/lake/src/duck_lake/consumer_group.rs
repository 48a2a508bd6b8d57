//! The Kafka consumer groups of a lake's workers, as rows of `ducktide_meta`.
//!
//! Two lakes that read one topic must not share a group: Kafka would assign a part of the partitions
//! to each. Therefore a lake has a default group of its own, which is recorded when it is created. The
//! last group of each source is recorded as well.

use std::collections::BTreeMap;

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SourceId;

use super::DuckLake;
use crate::catalog::client::CatalogClient;
use crate::catalog::meta;
use crate::data_path::identity;
use crate::duckdb_error;
use crate::rows::MetaRow;

/// Key of the lake's default group.
const DEFAULT: &str = "group_id";

/// Prefix of the keys of sources' groups; the source's number follows.
const PREFIX: &str = "group_id.";

/// Default group of a lake that was created before lakes had groups of their own.
const SHARED: &str = "ducktide";

/// Returns the row that an installation writes.
pub(crate) fn default_group(catalog: &impl CatalogClient) -> Result<(&'static str, String)> {
    Ok((DEFAULT, short_name(&identity(catalog)?)))
}

/// Returns a short name for a lake. Identities begin with the time of their creation, which lakes of one
/// script share, and end with random digits.
fn short_name(identity: &str) -> String {
    format!("ducktide-{}", identity.rsplit('-').next().unwrap_or(identity))
}

impl DuckLake {
    /// Returns the lake's Kafka client ID: `ducktide-` and 12 hexadecimal digits. Only copies of its
    /// catalog have the same ID.
    pub fn client_id(&mut self) -> Result<String> {
        Ok(short_name(&identity(&self.catalog()?)?))
    }

    /// Returns the consumer group of workers that name none.
    pub fn default_group(&mut self) -> Result<String> {
        let recorded = meta::get(&self.catalog()?, DEFAULT)?;
        Ok(recorded.unwrap_or_else(|| SHARED.to_owned()))
    }

    /// Returns the group that each source was read in last, as far as it was recorded.
    pub fn groups(&mut self) -> Result<BTreeMap<SourceId, String>> {
        let catalog = self.catalog()?;
        let rows = catalog.select::<MetaRow>(&format!("WHERE key LIKE '{PREFIX}%'"))?;
        Ok(rows.into_iter().filter_map(group_of_row).collect())
    }

    /// Records the group that a source is read in. A worker without rights on our tables records
    /// nothing.
    pub fn record_group(&mut self, source: SourceId, group_id: &str) -> Result<()> {
        let key = format!("{PREFIX}{source}");
        let (catalog, lock) = self.catalog_and_lock()?;
        let is_recorded = || Ok(meta::get(&catalog, &key)?.as_deref() == Some(group_id));
        if is_recorded()? {
            return Ok(());
        }
        let guard = lock.acquire(&catalog)?;
        let written = meta::set(&catalog, &key, group_id);
        drop(guard);
        match written {
            Ok(()) => Ok(()),
            Err(error) if duckdb_error::is_permission_denied(&error.to_string()) => {
                tracing::debug!(%error, "the consumer group is not recorded");
                Ok(())
            }
            // Another worker of the group was first.
            Err(_) if is_recorded()? => Ok(()),
            Err(error) => Err(LakeError::unavailable(format!(
                "record the consumer group: source=`{source}` group_id=`{group_id}`"
            ))
            .because(error)),
        }
    }
}

fn group_of_row(MetaRow { key, value }: MetaRow) -> Option<(SourceId, String)> {
    Some((SourceId(key.strip_prefix(PREFIX)?.parse().ok()?), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lakes_created_at_the_same_time_have_different_names() {
        let one = short_name("019ac5f0-7d1e-7a2b-8c3d-0123456789ab");
        let other = short_name("019ac5f0-7d1e-7a2b-8c3d-ba9876543210");

        assert_eq!(one, "ducktide-0123456789ab");
        assert_ne!(one, other);
    }

    #[test]
    fn a_key_is_parsed_into_the_source_id() {
        let row = |key: &str| MetaRow { key: key.to_owned(), value: "g".to_owned() };

        assert_eq!(group_of_row(row("group_id.12")), Some((SourceId(12), "g".to_owned())));
        assert_eq!(group_of_row(row("group_id.")), None);
    }
}
