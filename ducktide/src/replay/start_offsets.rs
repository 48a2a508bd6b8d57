//! From which offset each partition is read again, and whether Kafka can deliver it. Pure.

use std::collections::BTreeMap;

use ducktide_protocol::position::{Offset, Partition};

use crate::failure::Failure;

/// What Kafka and the lake say of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Kafka's first offset.
    pub(super) low: i64,
    /// Kafka's end.
    pub(super) high: i64,
    /// The first offset at or after the wanted time, for a replay from a time.
    pub(super) at_time: Option<i64>,
    /// The first offset that the table ever had; None for a partition that it does not know.
    pub(super) start: Option<i64>,
    /// The next offset that the table reads.
    pub(super) next: Option<i64>,
    /// The first offset that missing files may have, for a replay from missing files.
    pub(super) missing: Option<i64>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Offset(i64),
    Time,
    Beginning,
    MissingFiles,
}

pub(super) type Places = BTreeMap<i32, Place>;
pub(super) type Offsets = BTreeMap<Partition, Offset>;

/// The offsets for the table itself. Partitions that are not behind the wanted time stay as they are.
pub(super) fn for_the_table(
    places: &Places,
    from: From,
    partition: Option<i32>,
) -> Result<Offsets, Failure> {
    let mut offsets = Offsets::new();
    for (&number, place) in wanted(places, from, partition)? {
        let (Some(start), Some(next)) = (place.start, place.next) else {
            if partition.is_some() {
                return Err(refused("the table does not know the partition", number, *place));
            }
            continue;
        };
        let offset = match from {
            From::Offset(offset) => offset,
            From::Beginning => start,
            From::Time => place.at_time.unwrap_or(place.high).max(start),
            From::MissingFiles => place.missing.unwrap_or(next),
        };
        if matches!(from, From::Time | From::MissingFiles) && offset >= next {
            continue;
        }
        check_kafka_has(offset, from, start, number, *place)?;
        offsets.insert(Partition(number), Offset(offset));
    }
    Ok(offsets)
}

/// The offsets for a table that is filled anew: all partitions, from what Kafka has.
pub(super) fn for_another_table(places: &Places, from: From) -> Result<Offsets, Failure> {
    let offset = |(&number, place): (&i32, &Place)| {
        let offset = match from {
            From::Offset(offset) => offset,
            From::Beginning | From::MissingFiles => place.low,
            From::Time => place.at_time.unwrap_or(place.high),
        };
        if offset < place.low || offset > place.high {
            return Err(refused("Kafka does not have that offset", number, *place));
        }
        Ok((Partition(number), Offset(offset)))
    };
    wanted(places, from, None)?.into_iter().map(offset).collect()
}

fn wanted(
    places: &Places,
    from: From,
    partition: Option<i32>,
) -> Result<Vec<(&i32, &Place)>, Failure> {
    if let (From::Offset(_), None, 2..) = (from, partition, places.len()) {
        return Err(Failure::Usage("--from-offset needs --partition: the topic has several"));
    }
    let found: Vec<_> = places.iter().filter(|(n, _)| partition.is_none_or(|p| p == **n)).collect();
    if found.is_empty() {
        return Err(Failure::Refused(format!(
            "the topic has no such partition: partition=`{}`",
            partition.map_or_else(|| "any".to_owned(), |number| number.to_string())
        )));
    }
    Ok(found)
}

fn check_kafka_has(
    offset: i64,
    from: From,
    start: i64,
    number: i32,
    place: Place,
) -> Result<(), Failure> {
    // Kafka's first record may be younger than the time: what was before it cannot come back.
    let began_later = from == From::Time && offset == place.low && place.low > start;
    if offset < place.low || began_later {
        return Err(refused(
            "Kafka no longer has those records, so what a replay removes would not come back; \
             choose a later offset, or fill another table from what there is with --into",
            number,
            place,
        ));
    }
    if offset > place.high {
        return Err(refused("Kafka does not have that offset yet", number, place));
    }
    Ok(())
}

fn refused(what: &str, number: i32, place: Place) -> Failure {
    let Place { low, high, .. } = place;
    Failure::Refused(format!(
        "{what}: partition=`{number}` low_watermark=`{low}` high_watermark=`{high}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        low: 0,
        high: 100,
        at_time: Some(40),
        start: Some(10),
        next: Some(90),
        missing: None,
    };

    fn places(places: &[Place]) -> Places {
        (0..).zip(places.iter().copied()).collect()
    }

    fn offsets(found: Result<Offsets, Failure>) -> Vec<(i32, i64)> {
        found.unwrap().into_iter().map(|(p, o)| (p.0, o.0)).collect()
    }

    #[test]
    fn each_way_to_begin_has_its_offset() {
        let places = places(&[PLACE]);

        assert_eq!(offsets(for_the_table(&places, From::Offset(50), None)), [(0, 50)]);
        assert_eq!(offsets(for_the_table(&places, From::Time, None)), [(0, 40)]);
        assert_eq!(offsets(for_the_table(&places, From::Beginning, None)), [(0, 10)]);
        assert_eq!(offsets(for_another_table(&places, From::Beginning)), [(0, 0)]);
    }

    #[test]
    fn missing_files_are_replayed_from_their_first_offsets_while_kafka_has_them() {
        let hit = Place { missing: Some(55), ..PLACE };
        let lost = Place { low: 56, ..hit };

        assert_eq!(
            offsets(for_the_table(&places(&[PLACE, hit]), From::MissingFiles, None)),
            [(1, 55)]
        );
        let error = for_the_table(&places(&[lost]), From::MissingFiles, None).unwrap_err();
        assert!(error.to_string().contains("no longer has"), "{error}");
    }

    #[test]
    fn an_offset_of_several_partitions_is_ambiguous() {
        let places = places(&[PLACE, PLACE]);

        assert!(for_the_table(&places, From::Offset(50), None).is_err());
        assert_eq!(offsets(for_the_table(&places, From::Offset(50), Some(1))), [(1, 50)]);
        assert!(for_the_table(&places, From::Offset(50), Some(7)).is_err());
    }

    #[test]
    fn what_kafka_no_longer_has_is_not_removed() {
        let lost = Place { low: 30, ..PLACE };
        let young = Place { low: 40, ..PLACE };

        for (place, from) in
            [(lost, From::Offset(29)), (lost, From::Beginning), (young, From::Time)]
        {
            let error = for_the_table(&places(&[place]), from, None).unwrap_err().to_string();
            assert!(error.contains("no longer has"), "{error}");
        }
        assert_eq!(offsets(for_the_table(&places(&[lost]), From::Offset(30), None)), [(0, 30)]);
    }

    #[test]
    fn partitions_that_have_nothing_of_the_time_stay() {
        let behind = Place { at_time: Some(95), ..PLACE };
        let unknown = Place { start: None, next: None, ..PLACE };

        let found = for_the_table(&places(&[PLACE, behind, unknown]), From::Time, None);

        assert_eq!(offsets(found), [(0, 40)]);
    }
}
