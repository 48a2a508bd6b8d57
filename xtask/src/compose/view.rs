//! What an operator sees of a stack: rows, lag, the producer's ledger, metrics.

use anyhow::{Context as _, Result, bail, ensure};

use super::{SEEN_WITHIN, call, probe, project::Project};

/// The rows of the lake, and how many events they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) all: u64,
    pub(super) distinct: u64,
}

impl Project<'_> {
    pub(super) fn rows(&self) -> Result<Rows> {
        let sql = "SELECT count(*), count(DISTINCT event_id) FROM events";
        let answer = self.tool(&["sql", "--format=csv", sql])?;
        let last = answer.lines().last().context("read the number of rows")?;
        let (all, distinct) = last.split_once(',').context("read the number of rows")?;
        Ok(Rows { all: all.parse()?, distinct: distinct.parse()? })
    }

    /// Waits until there are more rows than these.
    pub(super) fn await_rows_beyond(&self, rows: u64) -> Result<u64> {
        call::until(&format!("more than {rows} rows"), SEEN_WITHIN, || {
            Ok(Some(self.rows()?.all).filter(|all| *all > rows))
        })
    }

    /// Waits until the lake has all that Kafka has.
    pub(super) fn await_drained(&self) -> Result<()> {
        call::until("`status` to say that all is up to date", SEEN_WITHIN, || {
            let status = self.tool(&["status"])?;
            let judgement = status.lines().last().unwrap_or_default();
            if judgement.ends_with("partitions up to date") {
                return Ok(Some(()));
            }
            bail!("{judgement}")
        })
    }

    /// Compares the lake with what the producer saw acknowledged, in two ways that share no code:
    /// by `verify`, and by counting the ledger's lines and the lake's rows.
    pub(super) fn prove(&self) -> Result<String> {
        let verified = self.tool(&["verify", "--deep", "--against-ledger", LEDGER])?;
        let judgement = verified.lines().last().unwrap_or_default();
        ensure!(judgement.starts_with("exact: nothing lost, nothing doubled"), "{verified}");
        let script = format!("tail -n +2 {LEDGER} | cut -d, -f4 | sort -u | wc -l");
        let acknowledged: u64 = self.shell(&script)?.trim().parse().context("count the ledger")?;
        let rows = self.rows()?;
        ensure!(
            rows == Rows { all: acknowledged, distinct: acknowledged },
            "lake and ledger differ acknowledged=`{acknowledged}` rows=`{rows:?}`"
        );
        Ok(format!("{acknowledged} events acknowledged, {acknowledged} rows, 0 missing, 0 doubled"))
    }

    /// Waits until a query to Prometheus, which has one number for an answer, has such a one.
    pub(super) fn await_metric(&self, query: &str, is_met: impl Fn(f64) -> bool) -> Result<f64> {
        call::until(&format!("Prometheus to answer `{query}`"), SEEN_WITHIN, || {
            let value = probe::prometheus(self.ports.prometheus, query)?;
            ensure!(value.is_none_or(&is_met), "the answer is {value:?}");
            Ok(value)
        })
    }

    /// Waits until so many consumers share the partitions.
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

/// Of the topic, as docker-compose.yml makes it.
const PARTITIONS: u16 = 6;
