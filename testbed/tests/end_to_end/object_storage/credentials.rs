//! Temporary credentials, which expire while files are written and read.

use std::time::{Duration, Instant};

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor,
    faults::{Account, CredentialServer, StoreFault},
    on_both_catalogs,
    pipeline::{CONTINUOUS, WAIT_TIMEOUT},
    services::{BucketStore as _, shared_s3},
    wait,
};

use super::{MANY_COMMITS, faults};

on_both_catalogs!(temporary_credentials_are_renewed_before_they_expire);

const LIFETIME: Duration = Duration::from_secs(10);

/// Programs with credentials that expire several times while they run. The proxy refuses requests of DuckDB
/// and of our own client that have expired ones.
fn temporary_credentials_are_renewed_before_they_expire(kind: CatalogKind) {
    let (mut pipeline, proxy) = faults::pipeline("s3tokens", kind);
    let (keys, mut settings): (Vec<_>, Vec<_>) = shared_s3()
        .settings_at(proxy.port())
        .into_iter()
        .partition(|(name, _)| name.ends_with("_KEY_ID") || name.ends_with("_ACCESS_KEY"));
    let [(_, access_key_id), (_, secret_access_key)] = keys.try_into().unwrap();
    let account = Account { access_key_id, secret_access_key, lifetime: LIFETIME };
    let server = CredentialServer::start(account).unwrap();
    settings.extend(server.settings(&pipeline.file("authorization")).unwrap());
    pipeline.set_settings(settings);
    proxy.set_fault(StoreFault::TokensExpire);

    let began = Instant::now();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let workers =
        ["first", "second"].map(|name| pipeline.start_consumer(name, MANY_COMMITS).unwrap());
    pipeline.await_committed(1_000).unwrap();
    let compactor = pipeline.compactor(compactor::RUN).unwrap();
    let merging = pipeline.start_worker("compactor", compactor).unwrap();
    let is_over = || Ok(began.elapsed() > LIFETIME * 3);
    wait::until("the first credentials have expired", WAIT_TIMEOUT, is_over).unwrap();
    let committed = pipeline.lake().unwrap().scalar("SELECT count(*) FROM events").unwrap();
    pipeline.await_committed(committed.as_u64().unwrap() + 2_000).unwrap();
    for worker in workers.iter().chain([&merging]) {
        worker.check_alive().unwrap();
    }
    drop(merging);
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    let once = pipeline.compactor(compactor::ONCE).unwrap();
    once.run(pipeline.logs(), "once", WAIT_TIMEOUT).unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
    assert!(server.issued() > 6, "{} credentials", server.issued());
    assert_eq!(proxy.disturbed().total(), 0, "{}", proxy.disturbed());
}
