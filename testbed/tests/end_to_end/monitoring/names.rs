//! Whatever is asked for is exported, and whatever wakes somebody is explained.

use super::catalogue::Catalogue;
use super::query::Names;
use super::shipped::{Asked, alerts, panels, read};

/// What is wrong with a query's names.
fn complaints(asked: &Asked, catalogue: &Catalogue) -> Vec<String> {
    let Asked { by, query, shown } = asked;
    let names = Names::of(query);
    let mut complaints = Vec::new();
    if names.series.is_empty() {
        complaints.push(format!("{by} asks for nothing: {query}"));
    }
    let mut known = std::collections::BTreeMap::new();
    for series in &names.series {
        match catalogue.labels(series) {
            Some(labels) => known.extend(labels),
            None => complaints.push(format!("{by}: nobody exports {series}")),
        }
    }
    for label in names.labels.iter().chain(shown) {
        if !known.contains_key(label) {
            complaints.push(format!("{by}: no label {label} in {query}"));
        }
    }
    for matcher in &names.matchers {
        let Some(values) = known.get(&matcher.label) else {
            complaints.push(format!("{by}: no label {} in {query}", matcher.label));
            continue;
        };
        let is_known = |value: &str| values.is_empty() || values.contains(value);
        if !matcher.value.split('|').all(is_known) {
            complaints.push(format!("{by}: no such value: {matcher:?}"));
        }
    }
    complaints
}

#[test]
fn alerts_and_panels_ask_for_what_the_workers_export() {
    let catalogue = Catalogue::read();
    let (alerts, panels) = (alerts(), panels());
    assert!(alerts.len() >= 10 && panels.len() >= 30, "{} {}", alerts.len(), panels.len());

    let asked = alerts.iter().chain(&panels);
    let wrong: Vec<_> = asked.flat_map(|asked| complaints(asked, &catalogue)).collect();

    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_name_label_or_value_is_complained_of() {
    let catalogue = Catalogue::read();
    let wrong = |query: &str, shown: &str| {
        let shown = shown.split_whitespace().map(str::to_owned).collect();
        complaints(&Asked { by: "test".to_owned(), query: query.to_owned(), shown }, &catalogue)
    };

    assert_eq!(wrong("sum(ducktide_consumer_rows_total)", "job"), [""; 0]);
    assert_eq!(wrong("sum(ducktide_consumer_rows)", "").len(), 1);
    assert_eq!(wrong("sum by (topic) (ducktide_consumer_rows_total)", "").len(), 1);
    assert_eq!(wrong("ducktide_consumer_rows_total", "topic").len(), 1);
    let outcome = |value| format!("ducktide_consumer_batches_total{{outcome=\"{value}\"}}");
    assert_eq!(wrong(&outcome("fenced"), "").len(), 0);
    assert_eq!(wrong(&outcome("fence"), "").len(), 1);
}

#[test]
fn each_alert_has_a_section_of_the_operations_page_and_two_cases() {
    let page = read("docs/OPERATIONS.md");
    let rules = read("docker/prometheus/rules/ducktide.yml");
    let cases = read("docker/prometheus/rules/ducktide_test.yml");
    for Asked { by, .. } in alerts() {
        assert!(page.lines().any(|line| line == format!("### {by}")), "no section: {by}");
        let link = format!("runbook: docs/OPERATIONS.md#{}\n", by.to_lowercase());
        assert!(rules.contains(&link), "no link: {by}");
        for case in ["fires", "does not fire"] {
            assert!(cases.contains(&format!("- name: {by} {case}\n")), "no case: {by} {case}");
        }
    }
}
