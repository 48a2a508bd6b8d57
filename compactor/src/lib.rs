//! Keeps a lake small and fast: merges small files, expires snapshots, removes what nobody needs.
//!
//! `planner` decides what to merge, from sizes and ages alone; `schedule` what is due; `pass` does it,
//! one operation of the `lake` crate at a time; `worker` leads or stands by, and stops as asked.

mod config;
mod error;
mod metrics;
mod pace;
mod pass;
mod plan_view;
pub mod planner;
mod schedule;
mod worker;

pub use config::{Args, Config, ConfigError, PassArgs, PlanArgs, RunArgs, Verb};
pub use error::CompactorError;
pub use metrics::sample_metrics;
pub use plan_view::show_plan;
pub use worker::{once, run};
