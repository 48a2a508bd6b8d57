//! State of a stack as an operator sees it: rows, lag, ledger of the producer, metrics.

use anyhow::{Context as _, Result, bail, ensure};

use super::{probe, process, project::Project, timeouts::VISIBLE_TIMEOUT};

/// Number of rows in the lake, and of distinct events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) all: u64,
    pub(super) distinct: u64,
}

impl Project<'_> {
    pub(super) fn rows(&self) -> Result<Rows> {
        let sql = "SELECT count(*), count(DISTINCT event_id) FROM events";
        let response = self.run_tool(&["sql", "--format=csv", sql])?;
        let last = response.lines().last().context("read the number of rows")?;
        let (all, distinct) = last.split_once(',').context("read the number of rows")?;
        Ok(Rows { all: all.parse()?, distinct: distinct.parse()? })
    }

    /// Waits until there are more than `rows` rows.
    pub(super) fn await_rows_beyond(&self, rows: u64) -> Result<u64> {
        process::wait_for(&format!("more than {rows} rows"), VISIBLE_TIMEOUT, || {
            Ok(Some(self.rows()?.all).filter(|all| *all > rows))
        })
    }

    /// Waits until the lake has all records in Kafka.
    pub(super) fn await_drained(&self) -> Result<()> {
        process::wait_for(
            "`status` to report that all partitions are up to date",
            VISIBLE_TIMEOUT,
            || {
                let status = self.run_tool(&["status"])?;
                let judgement = status.lines().last().unwrap_or_default();
                if judgement.ends_with("partitions up to date") {
                    return Ok(Some(()));
                }
                bail!("{judgement}")
            },
        )
    }

    /// Compares the lake with the records that the producer saw acknowledged, in two ways that
    /// share no code: with `verify`, and by counting the lines of the ledger and the rows of the
    /// lake.
    pub(super) fn compare_lake_with_ledger(&self) -> Result<String> {
        let verified = self.run_tool(&["verify", "--deep", "--against-ledger", LEDGER])?;
        let judgement = verified.lines().last().unwrap_or_default();
        ensure!(judgement.starts_with("exact: nothing lost, no duplicates"), "{verified}");
        let script = format!("tail -n +2 {LEDGER} | cut -d, -f4 | sort -u | wc -l");
        let acknowledged: u64 =
            self.run_shell(&script)?.trim().parse().context("count the ledger")?;
        let rows = self.rows()?;
        ensure!(
            rows == Rows { all: acknowledged, distinct: acknowledged },
            "lake and ledger differ acknowledged=`{acknowledged}` rows=`{rows:?}`"
        );
        Ok(format!(
            "{acknowledged} events acknowledged, {acknowledged} rows, 0 missing, 0 duplicates"
        ))
    }

    /// Waits until the result of a Prometheus query, a single number, meets the condition.
    pub(super) fn await_metric(&self, query: &str, is_met: impl Fn(f64) -> bool) -> Result<f64> {
        process::wait_for(
            &format!("the result of the Prometheus query `{query}`"),
            VISIBLE_TIMEOUT,
            || {
                let value = probe::prometheus(self.ports.prometheus, query)?;
                ensure!(value.is_none_or(&is_met), "the result is {value:?}");
                Ok(value)
            },
        )
    }

    /// Waits until this number of consumers have partitions.
    pub(super) fn await_consumers(&self, count: u16) -> Result<()> {
        let working = "count(ducktide_consumer_assigned_partitions > 0)";
        self.await_metric(working, |found| found.to_bits() == f64::from(count).to_bits())?;
        self.await_metric("sum(ducktide_consumer_assigned_partitions)", |sum| {
            sum.to_bits() == f64::from(PARTITIONS).to_bits()
        })?;
        Ok(())
    }
}

const LEDGER: &str = "/ledger/acknowledged.csv";

/// Partitions of the topic in docker-compose.yml.
const PARTITIONS: u16 = 6;
