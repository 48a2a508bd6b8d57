//! Options of a run.

use std::time::Duration;

use crate::catalog::CatalogKind;

/// Options of a run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seed of the schedule. Odd seeds use Kafka's consumer protocol, even ones the classic
    /// protocol.
    pub seed: u64,
    /// Duration of the fault injection.
    pub length: Duration,
    /// Catalog of the lake.
    pub catalog: CatalogKind,
    /// True for a lake in object storage, behind a proxy that injects faults; otherwise it is in a local
    /// directory.
    pub in_object_storage: bool,
    /// Number of consumers in the group.
    pub consumers: usize,
    /// Events per second.
    pub rate: u32,
}
