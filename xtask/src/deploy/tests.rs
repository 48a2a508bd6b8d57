//! Facts that manifests and units must agree with, read from their text.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::folder;
use crate::layout;

/// Default of `--shutdown-timeout` in seconds.
const DEFAULT_SHUTDOWN_TIMEOUT: u64 = 20;

/// Timeout of a static member's session, within which a stopped worker must leave: the default of
/// `session.timeout.ms` in seconds.
const SESSION_TIMEOUT: u64 = 45;

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Returns the number that follows a text.
fn number_after(text: &str, before: &str) -> Option<u64> {
    let (_, rest) = text.split_once(before)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn shutdown_timeout(text: &str) -> u64 {
    number_after(text, "DUCKTIDE_SHUTDOWN_TIMEOUT, value: ").unwrap_or(DEFAULT_SHUTDOWN_TIMEOUT)
}

#[test]
fn a_worker_is_not_killed_before_its_shutdown_timeout() {
    for (file, grace) in [
        ("kubernetes/base/consumer.yaml", "terminationGracePeriodSeconds: "),
        ("kubernetes/base/compactor.yaml", "terminationGracePeriodSeconds: "),
        ("systemd/ducktide-consumer@.service", "TimeoutStopSec="),
        ("systemd/ducktide-compactor.service", "TimeoutStopSec="),
    ] {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        let grace = number_after(&text, grace).unwrap();
        assert!(grace >= shutdown_timeout(&text) + 5, "{file}: {grace}");
    }
}

#[test]
fn a_consumer_stops_within_its_session() {
    let text = fs::read_to_string(folder().join("kubernetes/base/consumer.yaml")).unwrap();
    assert!(shutdown_timeout(&text) < SESSION_TIMEOUT);
}

/// Returns the names of settings in a text, such as `KAFKA_TOPICS`.
fn settings(text: &str) -> BTreeSet<&str> {
    const PREFIXES: [&str; 4] = ["DUCKTIDE_", "DUCKLAKE_", "KAFKA_", "SCHEMA_REGISTRY_"];
    text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

#[test]
fn every_setting_is_documented() {
    let documented = fs::read_to_string(layout::root().join("docs/configuration.md")).unwrap();
    for file in files(&folder()) {
        let text = fs::read_to_string(&file).unwrap();
        for setting in settings(&text) {
            assert!(documented.contains(&format!("`{setting}`")), "{}: {setting}", file.display());
        }
    }
}

#[test]
fn units_and_manifests_start_programs_with_an_existing_name() {
    for file in files(&folder()) {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")) {
            let program = line.split(' ').next().unwrap();
            let known = ["ducktide", "ducktide-consumer", "ducktide-compactor"];
            assert!(known.contains(&program), "{}: {program}", file.display());
        }
    }
}
