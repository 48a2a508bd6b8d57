//! Offsets of a topic that Kafka and the lake have.

use std::time::Duration;

use ducktide_consumer::ClusterView;
use ducktide_lake::DuckLake;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::{Lake as _, Source};
use jiff::Timestamp;

use super::start_offsets::{PartitionOffsets, StartOffsets, TopicOffsets};
use crate::failure::Failure;

/// Returns the offsets of all partitions of the topic; without a source, those of Kafka only.
pub(super) fn read(
    view: &ClusterView,
    lake: &mut DuckLake,
    topic: &str,
    source: Option<&Source>,
    time: Option<Timestamp>,
) -> Result<TopicOffsets, Failure> {
    let partitions = view.partitions(topic)?;
    if partitions.is_empty() {
        return Err(Failure::Refused(format!("Kafka has no such topic: topic=`{topic}`")));
    }
    let at_time = match time {
        Some(time) => view.offsets_at(topic, &partitions, time.as_millisecond())?,
        None => Vec::new(),
    };
    let (starts, positions) = match source {
        Some(source) => {
            (ducktide_replay::first_offsets(lake, source.id)?, lake.positions(source.id)?)
        }
        None => (Vec::new(), Vec::new()),
    };
    let mut topic_offsets = TopicOffsets::new();
    for (number, marks) in view.all_watermarks(topic, &partitions)? {
        let of = |offsets: &[(Partition, Offset)]| {
            offsets.iter().find(|(p, _)| *p == number).map(|(_, offset)| *offset)
        };
        let next = positions.iter().find(|(p, _)| *p == number).map(|(_, p)| p.next_offset);
        let offsets = PartitionOffsets {
            low: marks.low,
            high: marks.high,
            at_time: of(&at_time),
            start: of(&starts),
            next,
            missing: None,
        };
        topic_offsets.insert(number, offsets);
    }
    Ok(topic_offsets)
}

/// Returns an error for offsets that Kafka may expire before they are read again: retention has removed
/// records, and the oldest record to read is not much younger than Kafka's oldest one.
pub(super) fn check_margin(
    view: &ClusterView,
    lake: &mut DuckLake,
    source: &Source,
    topic: &TopicOffsets,
    offsets: &StartOffsets,
    margin: Duration,
) -> Result<(), Failure> {
    for (&number, &offset) in offsets {
        let low = topic.get(&number).map_or(Offset(0), |offsets| offsets.low);
        if low == Offset(0) {
            continue;
        }
        let Some(written) = ducktide_replay::written_at(lake, source, number, offset)? else {
            continue;
        };
        // The timestamp of a record can be 0, or -1 if there is none.
        let margin_ms = i64::try_from(margin.as_millis()).unwrap_or(i64::MAX);
        let since = written.as_millisecond().saturating_sub(margin_ms).max(0);
        let oldest = view.offsets_at(&source.spec.topic, &[number], since)?;
        if oldest.first().is_some_and(|(_, oldest)| *oldest <= low) {
            return Err(Failure::Refused(format!(
                "Kafka may expire those records before they are read again; fill another table with \
                 --into, or accept the risk with --force: partition=`{number}` offset=`{offset}` \
                 low_watermark=`{low}` margin=`{}`",
                ducktide_service::units::duration(margin)
            )));
        }
    }
    Ok(())
}
