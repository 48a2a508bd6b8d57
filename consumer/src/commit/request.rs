//! What the worker wants of the lake.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ducktide_lake::Lake;
use ducktide_lake::commit::Commit;
use ducktide_lake::dedupe::{RecentRow, RecentRows};
use ducktide_lake::position::{Offset, Partition, Position, SourceId};
use ducktide_lake::table::{Column, TableName};

/// What the worker wants of the lake.
pub(crate) enum CommitterRequest {
    /// Write a batch.
    Commit(Commit),
    /// Give partitions their first position, unless they have one, then read all positions.
    Load { source: SourceId, starts: Vec<(Partition, Offset)>, recent: Option<RecentRowsRequest> },
    /// Read tables as they are, after adding columns that they lack.
    Alter(BTreeMap<TableName, Vec<Column>>),
}

/// The rows that records of these partitions may repeat, from where progress stands.
#[derive(Debug)]
pub(crate) struct RecentRowsRequest {
    pub(crate) wanted: RecentRows,
    pub(crate) partitions: BTreeSet<Partition>,
}

/// Such rows of each partition that was asked for and has a position.
pub(crate) type RecentRowsByPartition = BTreeMap<Partition, Vec<RecentRow>>;

impl RecentRowsRequest {
    pub(super) fn read(
        &self,
        lake: &mut dyn Lake,
        positions: &[(Partition, Position)],
    ) -> ducktide_lake::Result<RecentRowsByPartition> {
        let asked = positions.iter().filter(|(partition, _)| self.partitions.contains(partition));
        let below: Vec<_> = asked.map(|(p, position)| (*p, position.next_offset)).collect();
        let mut found: RecentRowsByPartition =
            below.iter().map(|(partition, _)| (*partition, Vec::new())).collect();
        if below.is_empty() {
            return Ok(found);
        }
        let started = Instant::now();
        let rows = lake.recent_rows(&self.wanted, &below)?;
        tracing::info!(
            topic = self.wanted.topic,
            partitions = found.len(),
            rows = rows.len(),
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "read the rows that records may repeat"
        );
        for row in rows {
            found.entry(row.partition).or_default().push(row);
        }
        Ok(found)
    }
}
