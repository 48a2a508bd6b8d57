//! The conformance suite on the lake in memory.

use ducktide_protocol::conformance::{self, MemoryHarness};

#[test]
fn the_lake_in_memory_conforms() {
    conformance::run(&mut MemoryHarness::new());
}
