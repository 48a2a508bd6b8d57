//! The page: a table of what all workers export, and one for each worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const HEAD: &str = "\
<!-- Made by `cargo xtask docs` from what the workers export: change that, not this page. -->

# Metrics

Consumers and compactors serve these at `/metrics` of their `--listen` address: as OpenMetrics to
scrapers that ask for it, otherwise in Prometheus' plain text. The producer exports none. Which of them
to look at first, and what to do then: [OPERATIONS.md](OPERATIONS.md).

- A histogram `NAME` has the series `NAME_bucket` (with the label `le`), `NAME_sum` and `NAME_count`.
- Labels take few values: topics, partitions and tables of this installation, and closed lists of words.
";

/// Labels whose values are not a closed list.
const OPEN: [&str; 5] = ["partition", "program", "table", "topic", "version"];

/// One metric, as it is exported.
struct Metric {
    name: String,
    kind: String,
    /// With their values, where those are a closed list.
    labels: BTreeMap<String, BTreeSet<String>>,
    unit: String,
    help: String,
}

pub(super) fn of(workers: &[(&str, String)]) -> String {
    let metrics: Vec<_> = workers.iter().map(|(program, text)| (*program, parse(text))).collect();
    let mut page = HEAD.to_owned();
    let is_shared = |metric: &&Metric| {
        metrics.iter().all(|(_, of)| of.iter().any(|other| other.name == metric.name))
    };
    let shared: Vec<_> = metrics[0].1.iter().filter(is_shared).collect();
    section(&mut page, "All workers", &shared);
    for (program, of) in &metrics {
        let own: Vec<_> = of.iter().filter(|metric| !is_shared(metric)).collect();
        section(&mut page, program, &own);
    }
    page
}

fn section(page: &mut String, title: &str, metrics: &[&Metric]) {
    let head = "| Metric | Type | Labels | Unit | Meaning |\n|---|---|---|---|---|";
    line(page, format_args!("\n## {title}\n\n{head}"));
    for Metric { name, kind, labels, unit, help } in metrics {
        let labels: Vec<_> = labels.iter().map(label).collect();
        let labels = labels.join(" ");
        line(page, format_args!("| `{name}` | {kind} | {labels} | {unit} | {help} |"));
    }
}

fn label((name, values): (&String, &BTreeSet<String>)) -> String {
    let values: Vec<_> = values.iter().map(String::as_str).collect();
    if values.is_empty() {
        format!("`{name}`")
    } else {
        format!("`{name}` ({})", values.join(", "))
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("a string takes any text");
}

/// Reads `OpenMetrics`: of each metric `# HELP`, `# TYPE`, perhaps `# UNIT`, then its series.
fn parse(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    let mut told = "";
    for line in text.lines() {
        match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
            ["#", "HELP", _, help] => told = help,
            ["#", "TYPE", name, kind] => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                metrics.push(Metric {
                    name: format!("{name}{suffix}"),
                    kind: kind.to_owned(),
                    labels: BTreeMap::new(),
                    unit: String::new(),
                    help: told.trim_end_matches('.').to_owned(),
                });
            }
            ["#", "UNIT", _, unit] => unit.clone_into(&mut newest(&mut metrics).unit),
            ["#", ..] => {}
            _ => {
                for (name, value) in labels(line) {
                    let values = newest(&mut metrics).labels.entry(name.to_owned()).or_default();
                    if !OPEN.contains(&name) {
                        values.insert(value.to_owned());
                    }
                }
            }
        }
    }
    metrics
}

fn newest(metrics: &mut [Metric]) -> &mut Metric {
    metrics.last_mut().expect("a metric begins with its type")
}

/// The labels of a series, except what makes the buckets of a histogram. No sample's value holds a
/// comma or an equals sign.
fn labels(series: &str) -> impl Iterator<Item = (&str, &str)> {
    let inner = series.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let pairs = inner.map(|(inner, _)| inner).unwrap_or_default().split(',');
    let labels = pairs.filter_map(|pair| pair.split_once('='));
    labels.filter(|(name, _)| *name != "le").map(|(name, value)| (name, value.trim_matches('"')))
}
