//! Simulation: the real cores of several consumers on one thread in virtual time, with a simulated Kafka,
//! lake, registry and disk.
//!
//! ```text
//! schedule ──actions──▶ world ──steps──▶ processes (worker, poll loop, batchers, committer)
//!    ▲                    │                  │ fetches, contacts, commits, files
//!  seed                   ▼                  ▼
//!                      oracle ◀──compare── cluster, group, lake, registry, disk
//! ```
//! Everything follows from a seed: [`schedule`] draws the actions, and [`world`] the delays. [`explore`]
//! searches for failing schedules and reduces them; [`mutation`] plants defects that must be found.

mod client;
mod cluster;
mod contract;
mod disk;
mod draw;
mod explore;
mod group;
mod lake;
mod log;
mod member;
pub(crate) mod mutation;
mod oracle;
mod payload;
mod process;
mod registry;
mod schedule;
mod tests;
mod violation;
mod world;
