//! Checks of rules, dashboard and exported metrics with Prometheus' `promtool`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::pipeline::{Pipeline, WAIT_TIMEOUT};
use ducktide_testbed::{compactor, http, services, wait, workspace};
use serde_json::json;
use tempfile::TempDir;

use super::alerts_and_panels::{MetricQuery, alerts, panels, rules_folder};
use super::metric_catalogue::MetricCatalogue;
use super::promql::QueryNames;

/// Returns the `promtool` that `cargo xtask test` has built, or else the one in PATH.
fn promtool() -> Command {
    let built = workspace::downloaded("tools/promtool");
    Command::new(built.unwrap_or_else(|_| "promtool".into()))
}

/// Runs `promtool` with a text at its standard input; panics with its output unless it succeeds.
fn run_promtool(arguments: &[&str], input: &str) {
    let mut command = promtool();
    command.args(arguments).current_dir(rules_folder());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool is there: `cargo xtask test monitoring`");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}\n{}", String::from_utf8_lossy(&printed));
}

#[test]
#[ignore = "needs promtool"]
fn promtool_accepts_the_alerts_and_their_rule_tests() {
    run_promtool(&["check", "rules", "ducktide.yml"], "");
    run_promtool(&["test", "rules", "ducktide_test.yml"], "");
}

/// Checks each query as the expression of a recording rule, which has the same syntax.
#[test]
#[ignore = "needs promtool"]
fn promtool_accepts_every_query_of_the_dashboard() {
    let record = |(index, query): (usize, MetricQuery)| {
        let name = format!("panel:query:{index}");
        json!({"record": name, "expr": query.expression})
    };
    let rules: Vec<_> = panels().into_iter().enumerate().map(record).collect();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("dashboard.yml");
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    fs::write(&file, groups.to_string()).unwrap();

    run_promtool(&["check", "rules", &file.display().to_string()], "");
}

#[test]
#[ignore = "needs promtool, Kafka, the schema registry and PostgreSQL"]
fn promtool_accepts_the_exported_metrics() {
    let pipeline = Pipeline::on_shared_services("exported", CatalogKind::Postgres).unwrap();
    let fast = ["--flush-interval", "100ms"];
    let worker = pipeline.start_consumer("worker", &fast).unwrap_or_else(|error| panic!("{error}"));
    let mut producer = pipeline.start_producer(&["--rows", "20000", "--rate", "4000"]).unwrap();
    let port = services::free_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let compactor = pipeline.compactor(&[compactor::RUN, &["--listen", &listen]].concat()).unwrap();
    pipeline.await_committed(20_000).unwrap();
    producer.succeed(WAIT_TIMEOUT).unwrap();
    pipeline.run_ducktide(&["verify", "--record", "--deep"]).unwrap();
    let _compactor = compactor.start(pipeline.logs(), "compactor").unwrap();
    // The worker updates it every few seconds, the compactor every minute.
    worker.await_metric("high_watermark", 20_000.0).unwrap();
    let has_reported = || {
        let metrics = http::get(port, "/metrics")?;
        Ok(metrics.contains("\nducktide_compactor_verify_success 1\n")
            && metrics.contains("\nducktide_compactor_last_success_timestamp_seconds{"))
    };
    let has_reported = || has_reported().or_else(|_: anyhow::Error| Ok(false));
    wait::until("the compactor has checked the lake", WAIT_TIMEOUT, has_reported).unwrap();

    let exported = [worker.metrics().unwrap(), http::get(port, "/metrics").unwrap()];

    for text in &exported {
        run_promtool(&["check", "metrics"], text);
    }
    assert!(worker.metric("lag_offsets").unwrap().abs() < 0.5, "all is committed");
    let declared: BTreeSet<_> = exported.iter().flat_map(|text| declared_metrics(text)).collect();
    assert_eq!(declared, MetricCatalogue::read().names, "docs/metrics.md lists all metrics");
    for query in alerts().into_iter().chain(panels()) {
        for series in
            QueryNames::of(&query.expression).series.into_iter().filter(|name| name != "up")
        {
            let is_shown = |text: &String| {
                text.lines().any(|line| line.split(['{', ' ']).next() == Some(&series))
            };
            assert!(exported.iter().any(is_shown), "{} uses {series}", query.used_by);
        }
    }
}

/// Returns the names of the metrics that a text declares with `# TYPE`.
fn declared_metrics(text: &str) -> impl Iterator<Item = String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_owned)
}
