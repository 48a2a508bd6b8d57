//! The conformance suite on a local directory.

#[test]
fn a_local_directory_conforms() {
    let folder = tempfile::tempdir().unwrap();
    ducktide_storage::conformance::run(folder.path());
}
