//! Requests to the committer.

use std::collections::{BTreeMap, BTreeSet};

use ducktide_protocol::Lake;
use ducktide_protocol::commit::Commit;
use ducktide_protocol::dedupe::{RecentRow, RecentRows};
use ducktide_protocol::position::{Offset, Partition, Position, SourceId};
use ducktide_protocol::table::{Column, TableName};

use crate::clock::Clock;
use crate::metrics::RetryCause;

/// Request of the worker to the committer.
pub(crate) enum CommitterRequest {
    /// Commit a batch.
    Commit(Commit),
    /// Register the start offsets of partitions without a position, then read all positions.
    Load {
        source: SourceId,
        starts: Vec<(Partition, Offset)>,
        recent: Option<RecentRowsRequest>,
        /// Number of resets of the worker before the request; part of the answer.
        resets: u64,
    },
    /// Add missing columns to tables, then read the tables.
    Alter(BTreeMap<TableName, Vec<Column>>),
    /// Drop the commit that is queued or being retried. A statement in progress is not interrupted.
    Abandon,
}

impl CommitterRequest {
    /// Returns the name in logs.
    pub(super) const fn operation(&self) -> &'static str {
        match self {
            Self::Commit(_) => "commit",
            Self::Load { .. } => "load progress",
            Self::Alter(_) => "alter tables",
            Self::Abandon => "abandon",
        }
    }

    /// Returns the cause in metrics under which a failed attempt is counted.
    pub(super) const fn retry_cause(&self) -> RetryCause {
        match self {
            Self::Commit(_) => RetryCause::Commit,
            Self::Load { .. } | Self::Alter(_) | Self::Abandon => RetryCause::Lake,
        }
    }
}

/// Request for the recent rows of partitions, up to their positions, of which records may be
/// duplicates.
#[derive(Debug)]
pub(crate) struct RecentRowsRequest {
    pub(crate) wanted: RecentRows,
    pub(crate) partitions: BTreeSet<Partition>,
}

/// Recent rows of each requested partition that has a position.
pub(crate) type RecentRowsByPartition = BTreeMap<Partition, Vec<RecentRow>>;

impl RecentRowsRequest {
    pub(super) fn read(
        &self,
        lake: &mut dyn Lake,
        positions: &[(Partition, Position)],
        clock: &Clock,
    ) -> ducktide_protocol::Result<RecentRowsByPartition> {
        let asked = positions.iter().filter(|(partition, _)| self.partitions.contains(partition));
        let below: Vec<_> = asked.map(|(p, position)| (*p, position.next_offset)).collect();
        let mut found: RecentRowsByPartition =
            below.iter().map(|(partition, _)| (*partition, Vec::new())).collect();
        if below.is_empty() {
            return Ok(found);
        }
        let started = clock.now();
        let rows = lake.recent_rows(&self.wanted, &below)?;
        tracing::info!(
            topic = self.wanted.topic,
            partitions = found.len(),
            rows = rows.len(),
            elapsed_ms = u64::try_from((clock.now() - started).as_millis()).unwrap_or(u64::MAX),
            "recent rows read for --dedupe-by"
        );
        for row in rows {
            found.entry(row.partition).or_default().push(row);
        }
        Ok(found)
    }
}
