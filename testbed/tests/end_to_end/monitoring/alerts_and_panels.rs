//! Queries of the alerts for Prometheus and of the panels for Grafana.

use std::fs;
use std::path::PathBuf;

use ducktide_testbed::workspace;
use serde_json::Value;

/// Query, with the labels that its title or annotations display.
pub(crate) struct MetricQuery {
    /// Name of the alert, or title of the panel.
    pub(crate) used_by: String,
    pub(crate) expression: String,
    /// Labels of `{{topic}}` or `{{ $labels.topic }}`.
    pub(crate) displayed_labels: Vec<String>,
}

pub(crate) fn rules_folder() -> PathBuf {
    workspace::root().join("docker/prometheus/rules")
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(workspace::root().join(path)).unwrap()
}

/// Returns the queries of the alerts. Each expression is on one line of the file; promtool checks
/// the rest.
pub(crate) fn alerts() -> Vec<MetricQuery> {
    let rules = read("docker/prometheus/rules/ducktide.yml");
    let mut alerts: Vec<MetricQuery> = Vec::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push(MetricQuery {
                used_by: name.to_owned(),
                expression: String::new(),
                displayed_labels: Vec::new(),
            });
        } else if let Some(alert) = alerts.last_mut() {
            if let Some(expression) = line.strip_prefix("expr: ") {
                expression.clone_into(&mut alert.expression);
            } else {
                alert.displayed_labels.extend(in_braces(line).filter_map(|inner| {
                    inner
                        .split_whitespace()
                        .find_map(|word| word.strip_prefix("$labels."))
                        .map(str::to_owned)
                }));
            }
        }
    }
    alerts
}

/// Returns the queries of all panels, with a duration instead of Grafana's variable.
pub(crate) fn panels() -> Vec<MetricQuery> {
    let text = read("docker/grafana/dashboards/ducktide.json");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let legend = target["legendFormat"].as_str().unwrap();
            queries.push(MetricQuery {
                used_by: panel["title"].as_str().unwrap().to_owned(),
                expression: target["expr"].as_str().unwrap().replace("$__rate_interval", "1m"),
                displayed_labels: in_braces(legend).map(str::to_owned).collect(),
            });
        }
    }
    queries
}

fn in_braces(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(inner, _)| inner.trim())
}
