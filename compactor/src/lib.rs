//! Maintains a lake: merges small files, expires snapshots, removes unused files.
//!
//! `planner` plans merges based on sizes and ages; `schedule` determines when tasks are due; `pass`
//! runs them, one operation of the `lake` crate at a time; `worker` handles leader election and
//! shutdown.

mod config;
mod error;
mod metrics;
mod pass;
mod plan_view;
pub mod planner;
mod schedule;
mod throttle;
mod worker;

pub use config::{Args, Config, ConfigError, PassArgs, PlanArgs, RunArgs, Verb};
pub use error::CompactorError;
pub use metrics::sample_metrics;
pub use plan_view::show_plan;
pub use worker::{once, run};
