//! Alerts and the dashboard ask for what the workers export, by the names that they export.
//!
//! `catalogue` reads the page of metrics, which `cargo xtask docs` makes from the workers' own
//! registries; `query` finds the names in a query; `shipped` reads what `docker/` has for Prometheus
//! and Grafana. `cargo xtask test monitoring` runs what needs `promtool`.

mod alerts_and_panels;
mod metric_catalogue;
mod metric_names;
mod promql;
mod promtool;
