//! A lake in Azure Blob Storage. The store is Azurite.

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor,
    faults::{StoreFault, StoreFaultProxy},
    on_both_catalogs,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    services::{Azure, BucketStore as _, free_port, shared_azure},
    wait,
};

use super::{checks, consume_with_crashes};

on_both_catalogs!(a_lake_in_azure_equals_the_ledger_after_each_operation);

fn pipeline(test: &str, kind: CatalogKind) -> Pipeline {
    let pipeline = Pipeline::on_shared_services(test, kind).unwrap();
    pipeline.in_store(shared_azure(), shared_azure().port()).unwrap()
}

#[test]
#[ignore = "needs an object store"]
fn azure_conforms() {
    checks::check_conformance(shared_azure());
}

/// The store loses answers while consumers write.
fn a_lake_in_azure_equals_the_ledger_after_each_operation(kind: CatalogKind) {
    let proxy = StoreFaultProxy::start(shared_azure().port()).unwrap();
    let pipeline = Pipeline::on_shared_services("azure", kind).unwrap();
    let mut pipeline = pipeline.in_store(shared_azure(), proxy.port()).unwrap();

    proxy.set_fault(StoreFault::AnswersLost { every: 5 });
    let published = consume_with_crashes(&pipeline, &checks::FAILPOINTS);
    assert!(proxy.disturbed().total() > 0);

    // DuckDB's client waits for `100 Continue`, which the proxy does not send.
    pipeline.set_settings(shared_azure().settings());
    checks::check_maintenance(&pipeline, published);
    checks::check_queries(&pipeline, published);
}

/// Runs each program with the permissions that the documentation lists for it.
#[test]
#[ignore = "needs real services"]
fn each_role_needs_the_permissions_of_its_sas_token_only() {
    let mut pipeline = pipeline("azureroles", CatalogKind::Sqlite);
    let container = pipeline.bucket().unwrap();
    let permissions =
        |letters: &str| shared_azure().settings_with_signature(&container, letters).unwrap();
    pipeline.produce(20_000, &[]).unwrap();

    pipeline.set_settings(permissions("racwl"));
    pipeline.run_ducktide(&["init"]).unwrap();
    pipeline.drain(&["--flush-rows", "2000"]).unwrap();
    let mut failed = String::new();
    wait::until("the removal of merged files is due, and refused", WAIT_TIMEOUT, || {
        let compactor = pipeline.compactor(compactor::ONCE)?;
        let ended = compactor.run(pipeline.logs(), "without-delete", WAIT_TIMEOUT);
        failed = ended.err().map(|error| format!("{error:?}")).unwrap_or_default();
        Ok(!failed.is_empty())
    })
    .unwrap();
    assert!(failed.contains("the store denies this operation"), "{failed}");

    pipeline.set_settings(permissions("rl"));
    let refused = pipeline.drain(&[]).unwrap_err();
    assert!(format!("{refused:?}").contains("the store denies this operation"), "{refused:?}");
    pipeline.verify().unwrap();
    checks::check_queries(&pipeline, 20_000);

    pipeline.set_settings(permissions("racwdl"));
    let compactor = pipeline.compactor(compactor::ONCE).unwrap();
    compactor.run(pipeline.logs(), "maintenance", WAIT_TIMEOUT).unwrap();
    pipeline.check_exact(20_000).unwrap();
}

#[test]
#[ignore = "needs real services"]
fn each_wrong_setting_of_azure_is_one_clear_line() {
    let mut pipeline = pipeline("azurewrong", CatalogKind::Sqlite);
    // Base64 of another key.
    let other_key = "b3RoZXI=";
    for (name, value, expected) in [
        ("AZURE_STORAGE_ACCOUNT_KEY", other_key, "correct AZURE_STORAGE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "no Base64", "correct AZURE_STORAGE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "", "set AZURE_STORAGE_ACCOUNT_NAME"),
        ("AZURE_STORAGE_USE_EMULATOR", "true", "set AZURE_STORAGE_ENDPOINT"),
        ("AZURE_ALLOW_HTTP", "false", "permit http with AZURE_ALLOW_HTTP=true"),
        ("DUCKLAKE_DATA_PATH", "az://no-such-container/lake", "the container does not exist"),
        ("DUCKLAKE_DATA_PATH", "az://No_Container/lake", "the name of the container is not valid"),
        ("DUCKLAKE_DATA_PATH", "abfss://lake@ducktide.dfs.core.windows.net/x", "give az://"),
    ] {
        checks::check_refused(&pipeline, name, value, expected);
    }
    // Neither a key nor a managed identity.
    let settings = shared_azure().settings().into_iter();
    let without_key = settings.filter(|(name, _)| *name != "AZURE_STORAGE_ACCOUNT_KEY").collect();
    pipeline.set_settings(without_key);
    let nowhere = format!("http://127.0.0.1:{}/token", free_port().unwrap());
    let expected = "no credentials for the object store; set AZURE_STORAGE_ACCOUNT_KEY";
    checks::check_refused(&pipeline, "AZURE_MSI_ENDPOINT", &nowhere, expected);
    let container = pipeline.bucket().unwrap();
    let expired = Azure::signature(&container, "racwl").unwrap().replace("2099", "2020");
    let expected = "renew AZURE_STORAGE_SAS_TOKEN";
    checks::check_refused(&pipeline, "AZURE_STORAGE_SAS_TOKEN", &expired, expected);
}
