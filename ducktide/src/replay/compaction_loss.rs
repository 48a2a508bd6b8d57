//! Records that a replay would remove, but that Kafka's log cleaner has already removed.

use ducktide_consumer::ClusterView;
use ducktide_protocol::commit::ProgressDelta;
use ducktide_protocol::position::{OffsetRange, Partition};
use ducktide_service::units::number;

use crate::failure::Failure;

/// Number of records of one partition that cannot be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) partition: Partition,
    /// Records that the replay removes: rows, dead letters and dropped duplicates.
    pub(super) removed: i64,
    /// Removed records that Kafka no longer has.
    pub(super) lost: i64,
}

/// Compares the records that a replay removes with those of a compacted topic. Empty for other topics,
/// of which Kafka removes the oldest records only.
pub(super) fn losses(
    view: &ClusterView,
    topic: &str,
    steps: &[ProgressDelta],
) -> Result<Vec<Loss>, Failure> {
    if steps.is_empty() || !view.is_compacted(topic)? {
        return Ok(Vec::new());
    }
    let mut losses = Vec::new();
    for step in steps {
        // A replay goes backwards.
        let removed = OffsetRange { from: step.range.to, to: step.range.from };
        let has = view.count_values(topic, step.partition, removed)?;
        losses.extend(Loss::of(step, has));
    }
    Ok(losses)
}

impl Loss {
    /// Returns None if Kafka has at least as many values as the replay removes records.
    fn of(step: &ProgressDelta, values_in_kafka: i64) -> Option<Self> {
        let counts = step.counts;
        let removed = -(counts.rows + counts.dead + counts.duplicates);
        let lost = removed - values_in_kafka;
        (lost > 0).then_some(Self { partition: step.partition, removed, lost })
    }
}

/// Refuses a loss that is greater than the accepted one.
pub(super) fn check(topic: &str, losses: &[Loss], accepted: i64) -> Result<(), Failure> {
    let lost: i64 = losses.iter().map(|loss| loss.lost).sum();
    if lost <= accepted {
        return Ok(());
    }
    let partitions: Vec<_> = losses.iter().map(|loss| loss.partition.to_string()).collect();
    Err(Failure::Refused(format!(
        "compacted topic: Kafka no longer has {} of the records that the replay would remove, so their \
         rows cannot be restored; fill another table with --into, or accept the loss with \
         --accept-loss {lost}: topic=`{topic}` partitions=`{}`",
        number(lost),
        partitions.join(" ")
    )))
}

/// Returns a line for each loss, for a dry run or an accepted loss.
pub(super) fn describe(topic: &str, losses: &[Loss]) -> String {
    let line = |loss: &Loss| {
        let (lost, removed) = (number(loss.lost), number(loss.removed));
        let partition = loss.partition;
        format!(
            "{topic}[{partition}]  compacted: {lost} of {removed} records are no longer in Kafka, \
             their rows are lost\n"
        )
    };
    losses.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::commit::Counts;
    use ducktide_protocol::position::{Epoch, Offset, SourceId};

    use super::*;

    fn step() -> ProgressDelta {
        ProgressDelta {
            source: SourceId(1),
            partition: Partition(3),
            epoch: Epoch(0),
            range: OffsetRange { from: Offset(100), to: Offset(0) },
            counts: Counts {
                rows: -70,
                dead: -5,
                duplicates: -5,
                tombstones: -20,
                ..Counts::default()
            },
        }
    }

    #[test]
    fn records_that_kafka_no_longer_has_are_lost() {
        let loss = Loss::of(&step(), 60).unwrap();

        assert_eq!(loss, Loss { partition: Partition(3), removed: 80, lost: 20 });
        assert_eq!(Loss::of(&step(), 80), None, "tombstones have no rows to lose");
        assert_eq!(Loss::of(&step(), 90), None);
    }

    #[test]
    fn a_loss_above_the_accepted_number_is_refused() {
        let losses = [Loss { partition: Partition(3), removed: 80, lost: 20 }];

        let refused = check("events", &losses, 19).unwrap_err().to_string();

        assert!(refused.contains("--accept-loss 20"), "{refused}");
        assert!(check("events", &losses, 20).is_ok());
        assert!(check("events", &[], 0).is_ok());
    }
}
