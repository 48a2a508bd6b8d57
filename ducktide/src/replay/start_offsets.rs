//! Start offset of each partition of a replay, if Kafka has its records. Pure.

use std::collections::BTreeMap;

use ducktide_protocol::position::{Offset, Partition};

use crate::failure::Failure;

/// Offsets of one partition that Kafka and the lake have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartitionOffsets {
    /// First offset that Kafka has.
    pub(super) low: Offset,
    /// Offset of the next record that is produced.
    pub(super) high: Offset,
    /// First offset at or after the requested time, for a replay from a time.
    pub(super) at_time: Option<Offset>,
    /// First offset that the table ever had; None for a partition without progress.
    pub(super) start: Option<Offset>,
    /// Next offset of the table.
    pub(super) next: Option<Offset>,
    /// First offset of missing files, for a replay from missing files.
    pub(super) missing: Option<Offset>,
}

/// Start point of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPoint {
    Offset(Offset),
    Time,
    Beginning,
    MissingFiles,
}

pub(super) type TopicOffsets = BTreeMap<Partition, PartitionOffsets>;
pub(super) type StartOffsets = BTreeMap<Partition, Offset>;

/// Returns the start offsets for the table itself. Partitions without records after the requested time
/// are left out.
pub(super) fn for_replay(
    topic: &TopicOffsets,
    from: StartPoint,
    partition: Option<Partition>,
) -> Result<StartOffsets, Failure> {
    let mut offsets = StartOffsets::new();
    for (&number, known) in requested(topic, from, partition)? {
        let (Some(start), Some(next)) = (known.start, known.next) else {
            if partition.is_some() {
                return Err(refused("the table does not have the partition", number, *known));
            }
            continue;
        };
        let offset = match from {
            StartPoint::Offset(offset) => offset,
            StartPoint::Beginning => start,
            StartPoint::Time => known.at_time.unwrap_or(known.high).max(start),
            StartPoint::MissingFiles => known.missing.unwrap_or(next),
        };
        if matches!(from, StartPoint::Time | StartPoint::MissingFiles) && offset >= next {
            continue;
        }
        check_kafka_has(offset, from, start, number, *known)?;
        offsets.insert(number, offset);
    }
    Ok(offsets)
}

/// Returns the start offsets for a new table: all partitions, among the offsets that Kafka has.
pub(super) fn for_new_table(
    topic: &TopicOffsets,
    from: StartPoint,
) -> Result<StartOffsets, Failure> {
    let offset = |(&number, known): (&Partition, &PartitionOffsets)| {
        let offset = match from {
            StartPoint::Offset(offset) => offset,
            StartPoint::Beginning | StartPoint::MissingFiles => known.low,
            StartPoint::Time => known.at_time.unwrap_or(known.high),
        };
        if offset < known.low || offset > known.high {
            return Err(refused("Kafka does not have that offset", number, *known));
        }
        Ok((number, offset))
    };
    requested(topic, from, None)?.into_iter().map(offset).collect()
}

/// Returns the partitions to read.
fn requested(
    topic: &TopicOffsets,
    from: StartPoint,
    partition: Option<Partition>,
) -> Result<Vec<(&Partition, &PartitionOffsets)>, Failure> {
    if let (StartPoint::Offset(_), None, 2..) = (from, partition, topic.len()) {
        return Err(Failure::Usage(
            "--from-offset requires --partition: the topic has several partitions",
        ));
    }
    let found: Vec<_> = topic.iter().filter(|(n, _)| partition.is_none_or(|p| p == **n)).collect();
    if found.is_empty() {
        return Err(Failure::Refused(format!(
            "the topic has no such partition: partition=`{}`",
            partition.map_or_else(|| "any".to_owned(), |number| number.to_string())
        )));
    }
    Ok(found)
}

fn check_kafka_has(
    offset: Offset,
    from: StartPoint,
    start: Offset,
    number: Partition,
    known: PartitionOffsets,
) -> Result<(), Failure> {
    // Kafka's first record may be younger than the time: earlier ones cannot be read again.
    let starts_too_late = from == StartPoint::Time && offset == known.low && known.low > start;
    if offset < known.low || starts_too_late {
        return Err(refused(
            "Kafka no longer has those records, so their rows cannot be restored; start at a later \
             offset, or fill another table from the existing records with --into",
            number,
            known,
        ));
    }
    if offset > known.high {
        return Err(refused("Kafka does not have that offset yet", number, known));
    }
    Ok(())
}

fn refused(reason: &str, number: Partition, known: PartitionOffsets) -> Failure {
    let PartitionOffsets { low, high, .. } = known;
    Failure::Refused(format!(
        "{reason}: partition=`{number}` low_watermark=`{low}` high_watermark=`{high}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITION: PartitionOffsets = PartitionOffsets {
        low: Offset(0),
        high: Offset(100),
        at_time: Some(Offset(40)),
        start: Some(Offset(10)),
        next: Some(Offset(90)),
        missing: None,
    };

    const FROM_50: StartPoint = StartPoint::Offset(Offset(50));

    fn topic(partitions: &[PartitionOffsets]) -> TopicOffsets {
        (0..).map(Partition).zip(partitions.iter().copied()).collect()
    }

    fn offsets(found: Result<StartOffsets, Failure>) -> Vec<(i32, i64)> {
        found.unwrap().into_iter().map(|(p, o)| (p.0, o.0)).collect()
    }

    #[test]
    fn each_start_point_has_its_offset() {
        let topic = topic(&[PARTITION]);

        assert_eq!(offsets(for_replay(&topic, FROM_50, None)), [(0, 50)]);
        assert_eq!(offsets(for_replay(&topic, StartPoint::Time, None)), [(0, 40)]);
        assert_eq!(offsets(for_replay(&topic, StartPoint::Beginning, None)), [(0, 10)]);
        assert_eq!(offsets(for_new_table(&topic, StartPoint::Beginning)), [(0, 0)]);
    }

    #[test]
    fn missing_files_are_replayed_from_their_first_offsets_while_kafka_has_them() {
        let hit = PartitionOffsets { missing: Some(Offset(55)), ..PARTITION };
        let lost = PartitionOffsets { low: Offset(56), ..hit };

        assert_eq!(
            offsets(for_replay(&topic(&[PARTITION, hit]), StartPoint::MissingFiles, None)),
            [(1, 55)]
        );
        let error = for_replay(&topic(&[lost]), StartPoint::MissingFiles, None).unwrap_err();
        assert!(error.to_string().contains("no longer has"), "{error}");
    }

    #[test]
    fn an_offset_of_several_partitions_is_ambiguous() {
        let topic = topic(&[PARTITION, PARTITION]);

        assert!(for_replay(&topic, FROM_50, None).is_err());
        assert_eq!(offsets(for_replay(&topic, FROM_50, Some(Partition(1)))), [(1, 50)]);
        assert!(for_replay(&topic, FROM_50, Some(Partition(7))).is_err());
    }

    #[test]
    fn rows_whose_records_kafka_no_longer_has_are_not_removed() {
        let lost = PartitionOffsets { low: Offset(30), ..PARTITION };
        let young = PartitionOffsets { low: Offset(40), ..PARTITION };

        for (known, from) in [
            (lost, StartPoint::Offset(Offset(29))),
            (lost, StartPoint::Beginning),
            (young, StartPoint::Time),
        ] {
            let error = for_replay(&topic(&[known]), from, None).unwrap_err().to_string();
            assert!(error.contains("no longer has"), "{error}");
        }
        assert_eq!(
            offsets(for_replay(&topic(&[lost]), StartPoint::Offset(Offset(30)), None)),
            [(0, 30)]
        );
    }

    #[test]
    fn partitions_without_records_after_the_time_are_left_out() {
        let behind = PartitionOffsets { at_time: Some(Offset(95)), ..PARTITION };
        let unknown = PartitionOffsets { start: None, next: None, ..PARTITION };

        let found = for_replay(&topic(&[PARTITION, behind, unknown]), StartPoint::Time, None);

        assert_eq!(offsets(found), [(0, 40)]);
    }
}
