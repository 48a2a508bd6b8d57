//! Commit messages: only a valid message moves progress, in a lake commit or in the mailbox.

use ducktide_testbed::catalog::CatalogKind;

use super::{
    case::{Case, is_committed},
    on_both_lakes,
};

on_both_lakes!(
    an_invalid_message_is_rejected,
    a_message_with_other_formatting_is_accepted,
    rows_with_an_invalid_message_are_rejected,
    a_mailbox_message_with_rows_is_rejected,
    a_lake_commit_without_its_rows_is_rejected,
    a_skip_begins_a_new_epoch,
    a_dead_letter_is_resolved_once,
);

/// Returns a message for partition 0, whose first offset is 100, with these additional fields.
fn message(case: &Case, kind: &str, step: &str) -> String {
    let source = case.source.id;
    format!(
        r#"{{"ducktide":1,"kind":"{kind}","progress":[{{"source":{source},"partition":0,{step}}}]}}"#
    )
}

fn an_invalid_message_is_rejected(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let step = r#""source":1,"partition":0,"epoch":0,"from":100,"to":110,"gaps":10"#;
    let step_of = |fields: &str| message(&case, "ingest", fields);
    let kind_of = |kind: &str, fields: &str| message(&case, kind, fields);
    let refused = [
        ("no JSON", "ducktide".to_owned()),
        ("another version", format!(r#"{{"ducktide":2,"kind":"ingest","progress":[{{{step}}}]}}"#)),
        ("no version", format!(r#"{{"kind":"ingest","by":"ducktide","progress":[{{{step}}}]}}"#)),
        ("no progress", r#"{"ducktide":1,"kind":"ingest"}"#.to_owned()),
        ("empty progress", r#"{"ducktide":1,"kind":"ingest","progress":[]}"#.to_owned()),
        ("an object", format!(r#"{{"ducktide":1,"kind":"ingest","progress":{{{step}}}}}"#)),
        ("no kind", format!(r#"{{"ducktide":1,"progress":[{{{step}}}]}}"#)),
        ("an unknown kind", kind_of("unknown", r#""epoch":0,"from":100,"to":110,"gaps":10"#)),
        ("an unknown key", step_of(r#""epoch":0,"from":100,"to":110,"gaps":10,"skipped":0"#)),
        ("a string", step_of(r#""epoch":0,"from":"100","to":110,"gaps":10"#)),
        ("a null", step_of(r#""epoch":0,"from":null,"to":110,"gaps":10"#)),
        ("a fraction", step_of(r#""epoch":0,"from":100,"to":110.5,"gaps":10.5"#)),
        ("no from", step_of(r#""epoch":0,"to":110,"gaps":10"#)),
        ("no epoch", step_of(r#""from":100,"to":110,"gaps":10"#)),
        ("counts too low", step_of(r#""epoch":0,"from":100,"to":110,"gaps":9"#)),
        ("counts too high", step_of(r#""epoch":0,"from":100,"to":110,"gaps":11"#)),
        ("a negative count", step_of(r#""epoch":0,"from":100,"to":110,"gaps":11,"tombstones":-1"#)),
        ("an empty range", step_of(r#""epoch":0,"from":100,"to":100"#)),
        ("backwards", step_of(r#""epoch":0,"from":100,"to":90,"gaps":-10"#)),
        ("given up by a worker", step_of(r#""epoch":0,"from":100,"to":110,"given_up":10"#)),
        ("another start", step_of(r#""epoch":0,"from":90,"to":110,"gaps":20"#)),
        ("another epoch", step_of(r#""epoch":1,"from":100,"to":110,"gaps":10"#)),
        ("a start at another offset", kind_of("start", r#""epoch":0,"from":7,"to":7"#)),
        ("a start that moves", kind_of("start", r#""epoch":0,"from":100,"to":110,"gaps":10"#)),
        ("a skip with rows", kind_of("skip", r#""epoch":0,"from":100,"to":110,"rows":10"#)),
        ("a replay forwards", kind_of("replay", r#""epoch":0,"from":100,"to":110,"gaps":10"#)),
        (
            "one range twice",
            format!(r#"{{"ducktide":1,"kind":"ingest","progress":[{{{step}}},{{{step}}}]}}"#),
        ),
    ];
    let ledger = format!("SELECT count(*) FROM {}", case.own("ducktide_ledger"));
    let before = case.number(&ledger);

    for (what, message) in refused {
        assert!(case.post(&message).is_err(), "{what}: {message}");
        assert_eq!(case.position(0), (0, 100), "{what}: {message}");
    }

    assert_eq!(case.number(&ledger), before);
    let mailbox = format!("SELECT count(*) FROM {}", case.own("ducktide_commit"));
    assert_eq!(case.number(&mailbox), 0, "the mailbox is empty");
}

fn a_message_with_other_formatting_is_accepted(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let source = case.source.id;
    let spellings = [
        format!(
            r#" {{"progress":[{{"gaps":10,"to":110,"from":100,"epoch":0,"partition":0,"source":{source}}}],"kind":"ingest","ducktide":1}}"#
        ),
        format!(
            r#"{{ "ducktide" : 1, "kind" : "ingest", "progress" : [ {{ "source" : {source}, "partition" : 0, "epoch" : 0, "from" : 110, "to" : 120, "gaps" : 10 }} ] }}"#
        ),
    ];
    for (message, next_offset) in spellings.iter().zip([110, 120]) {
        case.post(message).unwrap();
        assert_eq!(case.position(0), (0, next_offset));
    }
}

fn rows_with_an_invalid_message_are_rejected(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    let valid = commit.message().to_json();
    let refused = [
        valid.replace(r#""ducktide":1"#, r#""ducktide":2"#),
        valid.replace(r#""rows":10"#, r#""rows":9"#),
        valid.replace(r#""rows":10"#, r#""rows":10,"lines":10"#),
        valid.replace("ingest", "unknown"),
        valid.replace(r#""from":100"#, r#""from":99"#),
        r#"{"ducktide":1,"kind":"ingest","progress":[]}"#.to_owned(),
        r#"{"ducktide":1,"kind":"ingest"}"#.to_owned(),
    ];
    for message in refused {
        assert_ne!(message, valid);
        assert!(case.register(&commit, &message).is_err(), "{message}");
        assert_eq!((case.count(), case.position(0)), (0, (0, 100)), "{message}");
    }

    case.register(&commit, &format!(" {valid}")).unwrap();
    assert_eq!((case.count(), case.position(0)), (10, (0, 110)));
}

fn a_mailbox_message_with_rows_is_rejected(kind: CatalogKind) {
    let mut case = Case::new(kind);
    for counts in [r#""rows":10"#, r#""dead":10"#, r#""rows":1,"gaps":9"#] {
        let claims = format!(r#""epoch":0,"from":100,"to":110,{counts}"#);
        let error = case.post(&message(&case, "ingest", &claims)).unwrap_err();
        assert!(error.contains("ducktide refused: rows without a lake change"), "{error}");
    }
    assert_eq!(case.position(0), (0, 100));
}

fn a_lake_commit_without_its_rows_is_rejected(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let claims = message(&case, "ingest", r#""epoch":0,"from":100,"to":110,"rows":10"#);
    let created = case.sql(&format!(
        "BEGIN; CREATE TABLE lake.other(id BIGINT); \
         CALL lake.set_commit_message('test', 'test', extra_info => '{claims}'); COMMIT"
    ));
    assert!(created.unwrap_err().contains("rows without a lake change"));
    assert_eq!(case.position(0), (0, 100));
}

fn a_skip_begins_a_new_epoch(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let zombie = case.rows(0, 110, 120);
    case.post(&message(&case, "skip", r#""epoch":0,"from":100,"to":110,"given_up":10"#)).unwrap();

    assert_eq!(case.position(0), (1, 110));
    assert!(!is_committed(case.send(&zombie)), "it was read in the old epoch");
    assert_eq!(case.count(), 0);
}

fn a_dead_letter_is_resolved_once(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 110);
    let with_letter = commit.message().to_json().replace(r#""rows":10"#, r#""rows":9,"dead":1"#);
    case.register(&commit, &with_letter).unwrap();
    case.sql("CREATE TABLE lake.resolutions(id BIGINT)").unwrap();
    let mut discard = |offset: i64| {
        let fields = format!(r#""epoch":0,"from":{offset},"to":{offset},"dead":-1,"given_up":1"#);
        let message = message(&case, "discard", &fields);
        case.sql(&format!(
            "BEGIN; INSERT INTO lake.resolutions VALUES ({offset}); \
             CALL lake.set_commit_message('test', 'test', extra_info => '{message}'); COMMIT"
        ))
    };

    discard(105).unwrap();
    let again = discard(105).unwrap_err();
    assert!(again.contains("already resolved"), "{again}");
    assert!(discard(110).is_err(), "an offset that was not read yet");
    assert_eq!(case.position(0), (0, 110));
}
