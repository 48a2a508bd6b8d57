//! Objects that do not belong to the lake, or are missing from it: a second lake in the same prefix, an
//! upload of a killed consumer, a deleted object.

use std::{fs, time::Duration};

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor,
    faults::{RequestKind, StoreFault, StoreFaultProxy},
    on_both_catalogs,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    services::shared_s3,
    wait,
};

use super::{
    faults::{self, BACKLOG, LARGE_FILES},
    pipeline,
};

on_both_catalogs!(
    a_second_lake_cannot_claim_the_prefix_of_a_lake,
    one_of_several_concurrent_lakes_claims_a_prefix,
    an_unfinished_upload_of_a_killed_consumer_is_aborted,
    a_deleted_object_is_reported,
);

fn a_second_lake_cannot_claim_the_prefix_of_a_lake(kind: CatalogKind) {
    let (first, second) = (pipeline("s3first", kind), pipeline("s3second", kind));
    first.run_ducktide(&["init"]).unwrap();
    let claimed = first.data_path();

    for path in [claimed.clone(), claimed.join("below"), claimed.parent().unwrap().to_owned()] {
        let init = second.ducktide(&["init"]).unwrap().env("DUCKLAKE_DATA_PATH", &path);
        let refused = init.run(second.logs(), "init", WAIT_TIMEOUT).unwrap_err();
        assert!(format!("{refused:?}").contains("another lake's"), "{refused:?}");
    }
    let beside = claimed.with_file_name("lake-2");
    let init = second.ducktide(&["init"]).unwrap().env("DUCKLAKE_DATA_PATH", beside);
    init.run(second.logs(), "init", WAIT_TIMEOUT).unwrap();
}

fn one_of_several_concurrent_lakes_claims_a_prefix(kind: CatalogKind) {
    let pipelines = ["s3race1", "s3race2", "s3race3"].map(|test| pipeline(test, kind));
    let path = pipelines[0].data_path();

    let start = |pipeline: &Pipeline| {
        let init = pipeline.ducktide(&["init"]).unwrap().env("DUCKLAKE_DATA_PATH", &path);
        init.start(pipeline.logs(), "init").unwrap()
    };
    let running: Vec<_> = pipelines.iter().map(start).collect();
    let succeeded = running.into_iter().map(|mut init| init.wait(WAIT_TIMEOUT).unwrap());

    assert_eq!(succeeded.filter(|finished| finished.status.success()).count(), 1);
}

fn an_unfinished_upload_of_a_killed_consumer_is_aborted(kind: CatalogKind) {
    let (pipeline, proxy) = faults::pipeline("s3part", kind);
    let bucket = pipeline.bucket().unwrap();
    check_aborted_upload(&pipeline, &proxy, || shared_s3().unfinished_uploads(&bucket));
}

/// Kills a consumer while it sends a file; the compactor aborts the upload.
pub(super) fn check_aborted_upload(
    pipeline: &Pipeline,
    proxy: &StoreFaultProxy,
    unfinished: impl Fn() -> usize,
) {
    pipeline.produce(BACKLOG, &[]).unwrap();
    let mut victim = pipeline.start_consumer("victim", LARGE_FILES).unwrap();
    wait::until("a part is sent", WAIT_TIMEOUT, || Ok(proxy.received().of(RequestKind::Part) > 0))
        .unwrap();
    // The upload cannot be finished.
    proxy.set_fault(StoreFault::Delayed(Duration::from_mins(1)));
    victim.kill().unwrap();
    proxy.set_fault(StoreFault::None);
    assert_eq!(unfinished(), 1);
    pipeline.drain(&[]).unwrap();

    let mut run = 0;
    wait::until("it is older than the margin, and aborted", WAIT_TIMEOUT, || {
        run += 1;
        let once = pipeline.compactor(compactor::ONCE)?;
        once.run(pipeline.logs(), &format!("compactor-{run}"), WAIT_TIMEOUT)?;
        Ok(unfinished() == 0)
    })
    .unwrap();

    pipeline.check_exact(BACKLOG).unwrap();
    pipeline.verify().unwrap();
}

fn a_deleted_object_is_reported(kind: CatalogKind) {
    let pipeline = pipeline("s3gone", kind);
    pipeline.produce(3_000, &[]).unwrap();
    pipeline.drain(&["--flush-rows", "1000"]).unwrap();
    pipeline.verify().unwrap();
    let file = "SELECT data_file FROM ducklake_list_files('lake', 'events') LIMIT 1";
    let url = pipeline.lake().unwrap().scalar(file).unwrap();
    let key = url.as_str().unwrap().trim_start_matches("s3://");
    fs::remove_file(shared_s3().folder(key)).unwrap();

    let mut verify =
        pipeline.ducktide(&["verify"]).unwrap().start(pipeline.logs(), "missing").unwrap();
    let finished = verify.wait(WAIT_TIMEOUT).unwrap();

    assert!(!finished.status.success());
    let output = verify.output().unwrap();
    assert!(output.contains(key.rsplit('/').next().unwrap()), "{output}");
}
