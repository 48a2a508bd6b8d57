//! Cost of a consumer that joins, leaves or is killed: longest pause of a partition, and records
//! that are read twice.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use ducktide_testbed::{
    catalog::{Catalog, CatalogKind},
    pipeline::{Pipeline, Protocol, WAIT_TIMEOUT},
    wait,
    worker::Worker,
};

use super::progress::log_progress;

/// Arguments for the time between two commits, which is the longest pause without a rebalance.
const FLUSH: &[&str] = &["--flush-interval", "500ms"];

/// Arguments for the records per second, in three partitions.
const RATE: &[&str] = &["--continuous", "--rate", "6000"];

/// Duration of the observation: much longer than a session of three seconds.
const WATCH_DURATION: Duration = Duration::from_secs(15);

/// Time between two reads of the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Change of a group of two members.
#[derive(Debug, Clone, Copy)]
enum GroupChange {
    Nothing,
    Join,
    Leave,
    /// SIGKILL; a process with the same `--group-instance-id` starts immediately.
    KillAndRestart,
    /// SIGKILL, with a session of three seconds.
    Kill,
}

impl GroupChange {
    const ALL: [Self; 5] =
        [Self::Nothing, Self::Join, Self::Leave, Self::KillAndRestart, Self::Kill];

    const fn title(self) -> &'static str {
        match self {
            Self::Nothing => "no change",
            Self::Join => "a third member joins",
            Self::Leave => "one member leaves (SIGTERM)",
            Self::KillAndRestart => "one static member is killed and restarted",
            Self::Kill => "one member is killed and not restarted",
        }
    }
}

/// Cost of a change.
struct RebalanceCost {
    /// Longest time without progress of a partition.
    pause: Duration,
    /// Number of records that were read, minus the number of records.
    read_again: i64,
}

/// Measures each change once with each protocol, and prints a table.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(super) fn run() -> Result<()> {
    let mut table =
        "| two consumers, 6,000 records/s, a commit each 0.5 s | classic: longest pause \
                     | read again | KIP-848: longest pause | read again |\n|:--|--:|--:|--:|--:|\n"
            .to_owned();
    for change in GroupChange::ALL {
        let classic = cost(change, Protocol::Classic)?;
        let consumer = cost(change, Protocol::Consumer)?;
        let cells = [classic, consumer].map(|RebalanceCost { pause, read_again }| {
            format!("{:.1} s | {read_again}", pause.as_secs_f64())
        });
        log_progress(&format!("{}: {}", change.title(), cells.join(" | ")));
        table.extend(["| ", change.title(), " | ", &cells.join(" | "), " |\n"]);
    }
    println!("\n{table}");
    Ok(())
}

/// Measures a change of a group on a new pipeline.
fn cost(change: GroupChange, protocol: Protocol) -> Result<RebalanceCost> {
    let mut pipeline = Pipeline::on_shared_services("rebalance", CatalogKind::Postgres)?;
    pipeline.protocol = protocol;
    let mut producer = pipeline.start_producer(RATE)?;
    let start = |name: &str| {
        let own_name: &[&str] = match change {
            GroupChange::KillAndRestart => &["--group-instance-id", name],
            _ => &[],
        };
        pipeline.start_consumer(name, &[FLUSH, own_name].concat())
    };
    let mut workers = vec![start("first")?, start("second")?];
    for worker in &workers {
        worker.await_metric("assigned_partitions", 1.0)?;
        worker.await_metric("rows_total", 1.0)?;
    }
    let mut read_by_gone = 0;
    let pause = thread::scope(|scope| {
        let watch = scope.spawn(|| longest_pause(&mut pipeline.catalog()?));
        match change {
            GroupChange::Nothing => {}
            GroupChange::Join => workers.push(start("third")?),
            GroupChange::Leave | GroupChange::Kill | GroupChange::KillAndRestart => {
                if let Some(mut worker) = workers.pop() {
                    read_by_gone = read(&worker)?;
                    if matches!(change, GroupChange::Leave) {
                        worker.stop().map(drop)
                    } else {
                        worker.kill()
                    }?;
                }
            }
        }
        if matches!(change, GroupChange::KillAndRestart) {
            let returned = start("second")?;
            // With KIP-848 it waits until the session of its killed predecessor is over.
            returned.await_metric("assigned_partitions", 1.0)?;
            workers.push(returned);
        }
        watch.join().expect("reading the progress does not panic")
    })?;
    let published = pipeline.stop_producer(&mut producer)?;
    pipeline.await_committed(published)?;
    let read: i64 = workers.iter().map(read).sum::<Result<i64>>()? + read_by_gone;
    for worker in &mut workers {
        worker.stop()?;
    }
    pipeline.check_exact(published)?;
    Ok(RebalanceCost { pause, read_again: read - i64::try_from(published)? })
}

/// Returns the number of records that a worker has read from Kafka. For a worker that is then
/// killed the number is some milliseconds old.
#[expect(clippy::cast_possible_truncation, reason = "a count")]
fn read(worker: &Worker) -> Result<i64> {
    worker.metric("records_total").map(|records| records as i64)
}

fn longest_pause(catalog: &mut Catalog) -> Result<Duration> {
    let mut moved: BTreeMap<i64, (i64, Instant)> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    let began = Instant::now();
    while began.elapsed() < WATCH_DURATION {
        for row in catalog.rows("SELECT partition, next_offset FROM ducktide_progress")? {
            let (partition, offset) = (row[0], row[1]);
            let (last, at) = moved.entry(partition).or_insert_with(|| (offset, Instant::now()));
            longest = longest.max(at.elapsed());
            if *last != offset {
                (*last, *at) = (offset, Instant::now());
            }
        }
        thread::sleep(POLL_INTERVAL);
    }
    // All partitions must progress again.
    wait::until("every partition progresses again", WAIT_TIMEOUT, || {
        let rows = catalog.rows("SELECT partition, next_offset FROM ducktide_progress")?;
        Ok(rows.iter().all(|row| moved.get(&row[0]).is_some_and(|(last, _)| row[1] > *last)))
    })?;
    Ok(longest)
}
