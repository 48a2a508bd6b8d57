//! Metrics that the workers export, from `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ducktide_testbed::workspace;

/// Values of a label; empty if any value is possible.
pub(crate) type Values = BTreeSet<String>;

/// All series with their labels.
pub(crate) struct MetricCatalogue {
    series: BTreeMap<String, BTreeMap<String, Values>>,
    /// Names of the metrics, as in `# TYPE`.
    pub(crate) names: BTreeSet<String>,
}

impl MetricCatalogue {
    pub(crate) fn read() -> Self {
        let page = fs::read_to_string(workspace::root().join("docs/metrics.md")).unwrap();
        let mut catalogue = Self { series: BTreeMap::new(), names: BTreeSet::new() };
        for row in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> =
                row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
            catalogue.add(cells[0].trim_matches('`'), cells[1], labels(cells[2]));
        }
        // A series of Prometheus for every target.
        catalogue.add_series("up", BTreeMap::new());
        catalogue
    }

    fn add(&mut self, name: &str, kind: &str, labels: BTreeMap<String, Values>) {
        self.names.insert(name.to_owned());
        if kind != "histogram" {
            return self.add_series(name, labels);
        }
        let mut bucket_labels = labels.clone();
        bucket_labels.insert("le".to_owned(), Values::new());
        self.add_series(&format!("{name}_bucket"), bucket_labels);
        self.add_series(&format!("{name}_sum"), labels.clone());
        self.add_series(&format!("{name}_count"), labels);
    }

    fn add_series(&mut self, name: &str, mut labels: BTreeMap<String, Values>) {
        for label in ["job", "instance"] {
            labels.insert(label.to_owned(), Values::new());
        }
        self.series.insert(name.to_owned(), labels);
    }

    /// Returns the labels of a series; None if no worker exports it.
    pub(crate) fn labels(&self, series: &str) -> Option<&BTreeMap<String, Values>> {
        self.series.get(series)
    }
}

/// Reads a cell such as `` `topic` `outcome` (done, failed) ``.
fn labels(cell: &str) -> BTreeMap<String, Values> {
    let mut found = BTreeMap::new();
    let mut parts = cell.split('`');
    parts.next();
    while let (Some(name), Some(rest)) = (parts.next(), parts.next()) {
        let values = rest.trim().trim_matches(['(', ')']).split(", ");
        let values = values.filter(|value| !value.is_empty()).map(str::to_owned).collect();
        found.insert(name.to_owned(), values);
    }
    found
}

#[test]
fn the_page_lists_series_with_labels_and_values() {
    let catalogue = MetricCatalogue::read();

    let batches = catalogue.labels("ducktide_consumer_batches_total").unwrap();
    assert!(batches["outcome"].contains("fenced"));
    assert!(catalogue.labels("ducktide_consumer_lag_offsets").unwrap()["topic"].is_empty());
    let buckets = catalogue.labels("ducktide_consumer_commit_duration_seconds_bucket").unwrap();
    assert!(buckets.contains_key("le"));
    assert!(catalogue.labels("ducktide_consumer_batches").is_none());
}
