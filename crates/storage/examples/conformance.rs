//! Runs the conformance suite on data paths: directories that are empty, or URLs of empty prefixes, with
//! the settings of their store in the environment.
//!
//! `cargo run --release -p ducktide-storage --example conformance -- s3://bucket/prefix`

use std::path::Path;

fn main() {
    for path in std::env::args().skip(1) {
        ducktide_storage::conformance::run(Path::new(&path));
    }
}
