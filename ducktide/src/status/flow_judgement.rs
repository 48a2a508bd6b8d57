//! Judgement of the flow from Kafka to the lake, in one line.

use serde::Serialize;

use super::group_member;
use super::source_report::{PartitionReport, SourceReport};
use ducktide_service::units;

/// Judgement of all sources.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct FlowJudgement {
    pub(super) state: FlowState,
    pub(super) text: String,
    /// Records of all partitions that are not committed; None if Kafka did not answer.
    pub(super) lag: Option<i64>,
}

/// State of the flow, in the order of severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FlowState {
    /// No source is registered.
    Empty,
    UpToDate,
    Lagging,
    /// Kafka did not answer.
    Unknown,
    /// Records wait and there are no commits.
    Stalled,
    /// A state that waiting does not end.
    Problem,
}

/// Judges the sources; `kafka_error` is the reason why the offsets of Kafka are missing.
pub(super) fn judge(sources: &[SourceReport], kafka_error: Option<&str>) -> FlowJudgement {
    let lags = || sources.iter().flat_map(|source| &source.partitions).map(|p| p.lag);
    let lag = kafka_error.is_none().then(|| lags().flatten().sum());
    let judgement = |state, text| FlowJudgement { state, text, lag };
    if sources.is_empty() {
        let text =
            "no source is registered; a ducktide-consumer registers its topics when it starts";
        return judgement(FlowState::Empty, text.to_owned());
    }
    if let Some(text) = problem(sources) {
        return judgement(FlowState::Problem, text);
    }
    if let Some(reason) = kafka_error {
        return judgement(FlowState::Unknown, format!("lag unknown: Kafka: {reason}"));
    }
    if let Some(text) = stall(sources) {
        return judgement(FlowState::Stalled, text);
    }
    let partitions = units::count(lags().filter(|lag| *lag > Some(0)).count() as i128, "partition");
    match lag {
        Some(records @ 1..) => {
            let records = units::count(records, "record");
            judgement(FlowState::Lagging, format!("lag {records} in {partitions}"))
        }
        _ => judgement(FlowState::UpToDate, up_to_date(lags().count())),
    }
}

fn up_to_date(partitions: usize) -> String {
    match partitions {
        1 => "the only partition is up to date".to_owned(),
        _ => format!("all {} up to date", units::count(partitions as i128, "partition")),
    }
}

/// Returns the first problem and the number of others.
fn problem(sources: &[SourceReport]) -> Option<String> {
    let of_source = |source: &SourceReport| {
        let whole = source.problem.iter().map(|text| format!("topic {}: {text}", source.topic));
        let partitions = source.partitions.iter().filter_map(|partition| {
            let text = partition.problem.as_ref()?;
            Some(format!("{}: {text}", name(source, partition)))
        });
        whole.chain(partitions).collect::<Vec<_>>()
    };
    first_of(sources.iter().flat_map(of_source).collect())
}

/// Returns the stalled partition with the most waiting records and the number of others.
fn stall(sources: &[SourceReport]) -> Option<String> {
    let mut stalled: Vec<_> = sources
        .iter()
        .flat_map(|source| source.partitions.iter().map(move |partition| (source, partition)))
        .filter(|(_, partition)| partition.stalled)
        .collect();
    stalled.sort_by_key(|(_, partition)| -partition.lag.unwrap_or(0));
    let text = |(source, partition): (&SourceReport, &PartitionReport)| {
        let records = partition.lag.unwrap_or(0);
        let wait = if records == 1 { "waits" } else { "wait" };
        let since = match partition.last_commit_age_seconds {
            Some(age) => format!("no commit for {}", units::seconds(age)),
            None => "no commit so far".to_owned(),
        };
        let records = units::count(records, "record");
        let reader = group_member::describe_reader(source, partition);
        let reader = reader.map(|reader| format!("; {reader}")).unwrap_or_default();
        format!("{}: {since} while {records} {wait}{reader}", name(source, partition))
    };
    first_of(stalled.into_iter().map(text).collect())
}

fn name(source: &SourceReport, partition: &PartitionReport) -> String {
    format!("partition {} of {}", partition.partition, source.topic)
}

fn first_of(texts: Vec<String>) -> Option<String> {
    let more = texts.len().saturating_sub(1);
    let first = texts.into_iter().next()?;
    Some(if more == 0 { first } else { format!("{first} (and {more} more)") })
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::position::{Offset, Partition, SourceId};

    use super::super::source_report::MemberReport;
    use super::*;

    fn partition(partition: i32, lag: Option<i64>) -> PartitionReport {
        let report = PartitionReport::new(Partition(partition));
        PartitionReport { lag, next_offset: Some(Offset(5)), ..report }
    }

    fn source(partitions: Vec<PartitionReport>) -> SourceReport {
        SourceReport {
            source_id: SourceId(1),
            table: "main.events".to_owned(),
            topic: "events".to_owned(),
            pipeline: "events".to_owned(),
            group_id: "ducktide-1".to_owned(),
            group_members: None,
            problem: None,
            partitions,
        }
    }

    fn judged(partitions: Vec<PartitionReport>) -> FlowJudgement {
        judge(&[source(partitions)], None)
    }

    #[test]
    fn no_lag_is_up_to_date() {
        let judgement = judged(vec![partition(0, Some(0)), partition(1, Some(0))]);

        assert_eq!(judgement.state, FlowState::UpToDate);
        assert_eq!(judgement.text, "all 2 partitions up to date");
        assert_eq!(judgement.lag, Some(0));
    }

    #[test]
    fn lag_is_summed_over_the_partitions_that_have_it() {
        let judgement =
            judged(vec![partition(0, Some(1200)), partition(1, Some(0)), partition(2, Some(34))]);

        assert_eq!(judgement.text, "lag 1,234 records in 2 partitions");
    }

    #[test]
    fn a_stalled_partition_is_reported_before_lag() {
        let stalled = |id, lag, age| PartitionReport {
            stalled: true,
            last_commit_age_seconds: age,
            ..partition(id, Some(lag))
        };

        let judgement = judged(vec![
            stalled(0, 1, Some(100.0)),
            partition(1, Some(900)),
            stalled(2, 7, Some(192.0)),
        ]);
        assert_eq!(judgement.state, FlowState::Stalled);
        let expected =
            "partition 2 of events: no commit for 3m 12s while 7 records wait (and 1 more)";
        assert_eq!(judgement.text, expected);

        let judgement = judged(vec![stalled(0, 1, None)]);
        assert_eq!(judgement.text, "partition 0 of events: no commit so far while 1 record waits");
    }

    #[test]
    fn the_reader_of_a_stalled_partition_is_reported() {
        let stalled = |reader| PartitionReport {
            stalled: true,
            last_commit_age_seconds: Some(192.0),
            reader,
            ..partition(0, Some(7))
        };
        let text = |group_members, reader| {
            let source = SourceReport { group_members, ..source(vec![stalled(reader)]) };
            judge(&[source], None).text.rsplit_once("; ").map(|(_, text)| text.to_owned())
        };
        let reader = MemberReport { client_id: "c".to_owned(), host: "/10.0.0.7".to_owned() };

        assert_eq!(text(Some(2), Some(reader)).unwrap(), "c at 10.0.0.7 reads it");
        assert_eq!(text(Some(2), None).unwrap(), "no member of group ducktide-1 reads it");
        let no_consumer = "no consumer is running, group ducktide-1 has no members";
        assert_eq!(text(Some(0), None).unwrap(), no_consumer);
        assert_eq!(text(None, None), None);
    }

    #[test]
    fn without_kafka_lag_is_unknown_rather_than_zero() {
        let judgement = judge(&[source(vec![partition(0, None)])], Some("no answer within 3.0s"));

        assert_eq!((judgement.state, judgement.lag), (FlowState::Unknown, None));
        assert_eq!(judgement.text, "lag unknown: Kafka: no answer within 3.0s");
    }

    #[test]
    fn a_problem_is_reported_before_a_stall() {
        let expired = PartitionReport {
            problem: Some("Kafka no longer has the offsets".to_owned()),
            stalled: true,
            ..partition(3, Some(10))
        };

        let judgement = judged(vec![expired]);

        assert_eq!(judgement.state, FlowState::Problem);
        assert_eq!(judgement.text, "partition 3 of events: Kafka no longer has the offsets");
    }

    #[test]
    fn the_judgement_of_a_lake_without_sources_names_the_next_step() {
        let judgement = judge(&[], None);

        assert_eq!(judgement.state, FlowState::Empty);
        assert!(judgement.text.contains("ducktide-consumer"), "{}", judgement.text);
    }
}
