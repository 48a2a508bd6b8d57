//! Implementation of [`Lake`], the interface of a worker.

use ducktide_protocol::commit::{Commit, CommitMessage, CommitOutcome, OutcomeCheck};
use ducktide_protocol::dedupe::{RecentRow, RecentRows};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{Offset, Partition, Position, SourceId};
use ducktide_protocol::table::{Column, TableName, TableShape};
use ducktide_protocol::{Lake, Source, SourceSpec, Table};

use super::DuckLake;
use crate::catalog::client::CatalogClient as _;
use crate::catalog::format;
use crate::{alter, catalog, recent_rows, transaction};

impl Lake for DuckLake {
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table> {
        self.ensure_table_by_date(table, wanted, None)
    }

    fn add_columns(&mut self, table: &TableName, columns: &[Column]) -> Result<Table> {
        let added = alter::add_columns(self, table, columns);
        self.confirm_refusals(added)
    }

    fn recent_rows(
        &mut self,
        wanted: &RecentRows,
        below: &[(Partition, Offset)],
    ) -> Result<Vec<RecentRow>> {
        let read = recent_rows::read(self, wanted, below);
        self.confirm_refusals(read)
    }

    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source> {
        let (catalog, lock) = self.catalog_and_lock()?;
        if let Some(found) = catalog::find_source(&catalog, spec)? {
            return Ok(found);
        }
        let guard = lock.acquire(&catalog)?;
        let inserted = catalog::insert_source(catalog, spec, starts);
        if inserted.is_err() {
            catalog.roll_back();
        }
        drop(guard);
        if let Some(found) = catalog::find_source(&catalog, spec)? {
            return Ok(found);
        }
        let what = format!("register the source: table=`{}` topic=`{}`", spec.table, spec.topic);
        Err(match inserted {
            Err(error) => error.failed(what),
            Ok(()) => LakeError::unavailable(what),
        })
    }

    fn start_partitions(&mut self, source: SourceId, starts: &[(Partition, Offset)]) -> Result<()> {
        let (catalog, lock) = self.catalog_and_lock()?;
        let guard = lock.acquire(&catalog)?;
        // One message per partition: the refusal of a partition that another worker has started must
        // not undo the others.
        let mut refused = None;
        for start in starts {
            let message = CommitMessage::start(source, std::slice::from_ref(start));
            if let Err(error) = catalog::post(&catalog, &message) {
                tracing::debug!(%source, partition = %start.0, %error, "partition start refused");
                refused = Some(error);
            }
        }
        drop(guard);
        let known = self.positions(source)?;
        let missing =
            starts.iter().find(|(p, _)| known.iter().all(|(partition, _)| partition != p));
        match missing {
            None => Ok(()),
            Some((partition, _)) => {
                let what = format!("start a partition: source=`{source}` partition=`{partition}`");
                Err(match refused {
                    Some(error) => error.failed(what),
                    None => LakeError::unavailable(what),
                })
            }
        }
    }

    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>> {
        // An idle worker detects here that the data path is unavailable.
        self.check_owner()?;
        self.close_idle_session();
        let catalog = self.catalog()?;
        // Workers that have nothing to commit call this every few seconds.
        let read = format::check(&catalog).and_then(|()| catalog::progress(&catalog, source));
        if let Err(error) = &read {
            self.handle_error(&error.chain());
        }
        let read = self.confirm_refusals(read)?;
        let positions: Vec<_> = read.into_iter().map(|p| (p.partition, p.position)).collect();
        self.check_time_travel(source, &positions);
        Ok(positions)
    }

    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        self.close_idle_session();
        let committed = transaction::commit(self, commit);
        self.confirm_refusals(committed)
    }

    fn take_outcome_check(&mut self) -> Option<OutcomeCheck> {
        self.outcome_check.take()
    }
}
