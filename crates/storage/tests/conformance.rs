//! The conformance suite on a local directory, and on the data paths in `DUCKTIDE_TEST_DATA_PATHS`: URLs of
//! empty prefixes, separated by spaces.

use std::path::Path;

#[test]
fn a_local_directory_conforms() {
    let folder = tempfile::tempdir().unwrap();
    ducktide_storage::conformance::run(folder.path());
}

#[test]
#[ignore = "needs object stores"]
fn object_stores_conform() {
    let paths = std::env::var("DUCKTIDE_TEST_DATA_PATHS").expect("DUCKTIDE_TEST_DATA_PATHS");
    for path in paths.split_whitespace() {
        ducktide_storage::conformance::run(Path::new(path));
    }
}
