//! Checks of the alerts and the dashboard against the metrics that the workers export.
//!
//! `metric_catalogue` reads `docs/metrics.md`, which `cargo xtask docs` generates from the workers'
//! registries; `promql` finds the names in a query; `alerts_and_panels` reads the rules and the
//! dashboard in `docker/`. `cargo xtask test monitoring` runs the tests that need `promtool`.

mod alerts_and_panels;
mod metric_catalogue;
mod metric_names;
mod promql;
mod promtool;
