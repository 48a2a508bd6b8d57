//! A bucket that keeps each version of its objects, locked.

use ducktide_testbed::{
    catalog::CatalogKind,
    on_both_catalogs,
    services::{BucketStore as _, shared_s3},
};

use super::{checks, pipeline};

on_both_catalogs!(a_lake_in_a_bucket_with_locked_versions_equals_the_ledger);

/// Amazon S3 accepts an object for a bucket with object lock only with a checksum.
const CHECKSUMS: (&str, &str) = ("AWS_CHECKSUM_ALGORITHM", "sha256");

/// A removed object remains as an older version, which listings and readers do not see.
fn a_lake_in_a_bucket_with_locked_versions_equals_the_ledger(kind: CatalogKind) {
    let mut pipeline = pipeline("s3versions", kind);
    let bucket = pipeline.bucket().unwrap();
    shared_s3().lock_versions(&bucket).unwrap();
    pipeline.set_setting(CHECKSUMS.0, CHECKSUMS.1.to_owned());
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(&["--flush-rows", "2000"]).unwrap();

    checks::check_maintenance(&pipeline, 20_000);
    assert!(shared_s3().older_versions(&bucket) > 0);
}

#[test]
#[ignore = "needs an object store"]
fn a_bucket_with_locked_versions_conforms() {
    let name = "conformance-of-versions";
    let bucket = shared_s3().create_bucket(name).unwrap();
    shared_s3().lock_versions(name).unwrap();
    let mut settings = shared_s3().settings();
    settings.push((CHECKSUMS.0, CHECKSUMS.1.to_owned()));
    checks::check_conformance_below(&bucket, &settings);
}
