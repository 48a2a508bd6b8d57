//! Shorter test of the stack with a SQLite catalog; only the lake differs.

use anyhow::Result;

use super::{
    docker::Docker,
    full_pass::drain,
    images::OwnImage,
    plugin::Compose,
    project::{Project, with_logs},
    step_log::StepLog,
};

const FILES: &[&str] = &["docker-compose.yml", "docker/compose.sqlite.yml"];

const SERVICES: &[&str] = &["producer", "consumer", "compactor"];

pub(super) fn run(
    log: &mut StepLog,
    docker: &Docker,
    compose: &Compose,
    image: &OwnImage,
) -> Result<()> {
    let project = Project::new(docker, compose, image, FILES)?;
    with_logs(&project, || run_steps(log, &project))
}

fn run_steps(log: &mut StepLog, project: &Project<'_>) -> Result<()> {
    log.run_step("SQLite: start, until all services are healthy", || {
        project.check()?;
        project.up(SERVICES)?;
        Ok(format!("{} rows", project.await_rows_beyond(500)?))
    })?;
    log.run_step("SQLite: SIGKILL a consumer, restart it", || {
        project.kill("consumer")?;
        project.up(SERVICES)?;
        let rows = project.rows()?.all;
        Ok(format!("{rows} rows, then {}", project.await_rows_beyond(rows)?))
    })?;
    log.run_step("SQLite: drain, lake and ledger agree", || {
        drain(project)?;
        project.compare_lake_with_ledger()
    })?;
    log.run_step("SQLite: down with volumes removes everything", || {
        project.remove().map(|()| String::new())
    })
}
