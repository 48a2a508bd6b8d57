//! Checks that alerts and panels use exported metrics, and that each alert has a runbook section.

use super::alerts_and_panels::{MetricQuery, alerts, panels, read};
use super::metric_catalogue::MetricCatalogue;
use super::promql::QueryNames;

/// Returns the unknown series, labels and label values of a query.
fn violations(query: &MetricQuery, catalogue: &MetricCatalogue) -> Vec<String> {
    let MetricQuery { used_by, expression, displayed_labels } = query;
    let names = QueryNames::of(expression);
    let mut violations = Vec::new();
    if names.series.is_empty() {
        violations.push(format!("{used_by} uses no series: {expression}"));
    }
    let mut known = std::collections::BTreeMap::new();
    for series in &names.series {
        match catalogue.labels(series) {
            Some(labels) => known.extend(labels),
            None => violations.push(format!("{used_by}: series {series} is not exported")),
        }
    }
    for label in names.labels.iter().chain(displayed_labels) {
        if !known.contains_key(label) {
            violations.push(format!("{used_by}: no label {label} in {expression}"));
        }
    }
    for matcher in &names.matchers {
        let Some(values) = known.get(&matcher.label) else {
            violations.push(format!("{used_by}: no label {} in {expression}", matcher.label));
            continue;
        };
        let is_known = |value: &str| values.is_empty() || values.contains(value);
        if !matcher.value.split('|').all(is_known) {
            violations.push(format!("{used_by}: unknown label value: {matcher:?}"));
        }
    }
    violations
}

#[test]
fn alerts_and_panels_use_exported_series_and_labels() {
    let catalogue = MetricCatalogue::read();
    let (alerts, panels) = (alerts(), panels());
    assert!(alerts.len() >= 10 && panels.len() >= 30, "{} {}", alerts.len(), panels.len());

    let queries = alerts.iter().chain(&panels);
    let found: Vec<_> = queries.flat_map(|query| violations(query, &catalogue)).collect();

    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_unknown_series_label_or_value_is_reported() {
    let catalogue = MetricCatalogue::read();
    let check = |expression: &str, labels: &str| {
        let query = MetricQuery {
            used_by: "test".to_owned(),
            expression: expression.to_owned(),
            displayed_labels: labels.split_whitespace().map(str::to_owned).collect(),
        };
        violations(&query, &catalogue)
    };

    assert_eq!(check("sum(ducktide_consumer_rows_total)", "job"), [""; 0]);
    assert_eq!(check("sum(ducktide_consumer_rows)", "").len(), 1);
    assert_eq!(check("sum by (topic) (ducktide_consumer_rows_total)", "").len(), 1);
    assert_eq!(check("ducktide_consumer_rows_total", "topic").len(), 1);
    let outcome = |value| format!("ducktide_consumer_batches_total{{outcome=\"{value}\"}}");
    assert_eq!(check(&outcome("fenced"), "").len(), 0);
    assert_eq!(check(&outcome("fence"), "").len(), 1);
}

#[test]
fn each_alert_has_a_runbook_section_and_two_rule_tests() {
    let page = read("docs/OPERATIONS.md");
    let rules = read("docker/prometheus/rules/ducktide.yml");
    let cases = read("docker/prometheus/rules/ducktide_test.yml");
    for MetricQuery { used_by: alert, .. } in alerts() {
        assert!(page.lines().any(|line| line == format!("### {alert}")), "no section: {alert}");
        let link = format!("runbook: docs/OPERATIONS.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&link), "no link: {alert}");
        for case in ["fires", "does not fire"] {
            assert!(
                cases.contains(&format!("- name: {alert} {case}\n")),
                "no test: {alert} {case}"
            );
        }
    }
}
