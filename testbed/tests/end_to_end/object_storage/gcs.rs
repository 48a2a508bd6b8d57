//! A lake in Google Cloud Storage. The store is versitygw behind a proxy that translates Google's requests.

use ducktide_testbed::{
    catalog::CatalogKind,
    faults::{StoreFault, StoreFaultProxy},
    on_both_catalogs,
    pipeline::Pipeline,
    services::{BucketStore as _, free_port, shared_gcs},
};

use super::{checks, consume_with_crashes, data_path::check_aborted_upload};

on_both_catalogs!(a_lake_in_gcs_equals_the_ledger_after_each_operation);

fn pipeline(test: &str, kind: CatalogKind) -> (Pipeline, StoreFaultProxy) {
    let proxy = StoreFaultProxy::start(shared_gcs().port()).unwrap();
    let pipeline = Pipeline::on_shared_services(test, kind).unwrap();
    (pipeline.in_store(shared_gcs(), proxy.port()).unwrap(), proxy)
}

#[test]
#[ignore = "needs an object store"]
fn gcs_conforms() {
    checks::check_conformance(shared_gcs());
}

/// The store loses answers while consumers write.
fn a_lake_in_gcs_equals_the_ledger_after_each_operation(kind: CatalogKind) {
    let (pipeline, proxy) = pipeline("gcs", kind);

    proxy.set_fault(StoreFault::AnswersLost { every: 5 });
    let published = consume_with_crashes(&pipeline, &checks::FAILPOINTS);
    assert!(proxy.disturbed().total() > 0);
    proxy.set_fault(StoreFault::None);

    checks::check_maintenance(&pipeline, published);
    checks::check_queries(&pipeline, published);
}

#[test]
#[ignore = "needs real services"]
fn an_unfinished_upload_in_gcs_is_aborted() {
    let (pipeline, proxy) = pipeline("gcspart", CatalogKind::Sqlite);
    let bucket = pipeline.bucket().unwrap();
    check_aborted_upload(&pipeline, &proxy, || shared_gcs().unfinished_uploads(&bucket));
}

#[test]
#[ignore = "needs real services"]
fn each_wrong_setting_of_gcs_is_one_clear_line() {
    let (mut pipeline, _) = pipeline("gcswrong", CatalogKind::Sqlite);
    for (name, value, expected) in [
        ("GOOGLE_BEARER_TOKEN", "other", "the store rejects the credentials"),
        ("GOOGLE_ALLOW_HTTP", "false", "permit http with GOOGLE_ALLOW_HTTP=true"),
        ("GOOGLE_SERVICE_ACCOUNT", "/nowhere/key.json", "correct GOOGLE_SERVICE_ACCOUNT"),
        ("DUCKLAKE_DATA_PATH", "gs://no-such-bucket/lake", "the bucket does not exist"),
        ("DUCKLAKE_DATA_PATH", "gcs://bucket/lake", "give gs://"),
    ] {
        checks::check_refused(&pipeline, name, value, expected);
    }
    // Neither a token nor a service account.
    let settings = shared_gcs().settings().into_iter();
    pipeline.set_settings(settings.filter(|(name, _)| *name != "GOOGLE_BEARER_TOKEN").collect());
    let nowhere = format!("127.0.0.1:{}", free_port().unwrap());
    pipeline.set_setting("GCE_METADATA_HOST", nowhere.clone());
    let expected = "no credentials for the object store; set GOOGLE_SERVICE_ACCOUNT";
    checks::check_refused(&pipeline, "GCE_METADATA_IP", &nowhere, expected);
}
