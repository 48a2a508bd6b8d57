//! Test of the default stack, with a PostgreSQL catalog, an object store and Prometheus.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{
    docker::Docker,
    images::{GRAFANA, OwnImage},
    plugin::Compose,
    probe,
    project::{Project, with_logs},
    step_log::StepLog,
};

const FILES: &[&str] = &["docker-compose.yml"];

/// Services to start; Grafana is added only if its image is available.
const SERVICES: &[&str] = &["producer", "consumer", "compactor", "prometheus"];

pub(super) fn run(
    log: &mut StepLog,
    docker: &Docker,
    compose: &Compose,
    image: &OwnImage,
) -> Result<()> {
    let project = Project::new(docker, compose, image, FILES)?;
    let mut services = SERVICES.to_vec();
    if docker.has_official(GRAFANA) {
        services.push("grafana");
    }
    with_logs(&project, || run_steps(log, &project, &services))
}

fn run_steps(log: &mut StepLog, project: &Project<'_>, services: &[&str]) -> Result<()> {
    log.run_step("start, until all services are healthy", || {
        project.check()?;
        project.up(services)?;
        Ok(String::new())
    })?;
    log.run_step("events reach the lake", || {
        Ok(format!("{} rows", project.await_rows_beyond(1000)?))
    })?;
    log.run_step("every published port answers", || {
        check_ports(project, services.contains(&"grafana"))
    })?;
    let with_four = [&["--no-recreate", "--scale", "consumer=4"], services].concat();
    log.run_step("scale to four consumers", || {
        project.up(&with_four)?;
        project.await_consumers(4)?;
        Ok("each has partitions".to_owned())
    })?;
    log.run_step("SIGKILL a consumer", || kill_consumer(project))?;
    log.run_step("SIGKILL PostgreSQL, restart it", || kill_postgres(project, &with_four))?;
    log.run_step("SIGKILL the object store, restart it", || {
        project.kill("s3")?;
        project.up(&with_four)?;
        let rows = project.rows()?.all;
        Ok(format!("{rows} rows, then {}", project.await_rows_beyond(rows)?))
    })?;
    log.run_step("replay everything while consumers run", || replay(project))?;
    log.run_step("the compactor merges files", || {
        let merged =
            project.await_metric("sum(ducktide_compactor_merge_files_total)", |n| n > 0.0)?;
        Ok(format!("{merged} files merged"))
    })?;
    log.run_step("stop the producer, drain", || drain(project))?;
    log.run_step("lake and ledger agree", || project.compare_lake_with_ledger())?;
    log.run_step("down, up, and records continue to arrive", || {
        let before = project.rows()?.all;
        project.down()?;
        project.up(services)?;
        Ok(format!("{before} rows, then {}", project.await_rows_beyond(before)?))
    })?;
    log.run_step("drain, lake and ledger agree", || {
        drain(project)?;
        project.compare_lake_with_ledger()
    })?;
    log.run_step("down with volumes removes everything", || {
        project.remove().map(|()| String::new())
    })
}

fn check_ports(project: &Project<'_>, with_grafana: bool) -> Result<String> {
    let ports = project.ports;
    probe::kafka(ports.kafka)?;
    probe::postgres(ports.postgres)?;
    probe::http(ports.s3, "/health")?;
    let subjects = probe::http(ports.registry, "/apis/ccompat/v7/subjects")?;
    ensure!(subjects.contains("events-value"), "the registry has no schema: {subjects}");
    // Two consumers, the compactor, and Prometheus itself.
    project.await_metric("sum(up)", |targets| targets >= 4.0)?;
    if with_grafana {
        probe::http(ports.grafana, "/api/health")?;
    }
    Ok("4 targets are up in Prometheus".to_owned())
}

/// Kills a consumer; the others take over its partitions when its session times out.
fn kill_consumer(project: &Project<'_>) -> Result<String> {
    project.kill("consumer")?;
    let killed = Instant::now();
    project.await_consumers(3)?;
    Ok(format!("three consumers have its partitions after {:.1} s", killed.elapsed().as_secs_f64()))
}

fn kill_postgres(project: &Project<'_>, with_four: &[&str]) -> Result<String> {
    project.kill("postgres")?;
    let before = project.ports.postgres;
    ensure!(probe::postgres(before).is_err(), "PostgreSQL still responds after it was killed");
    let restarted = Instant::now();
    project.up(with_four)?;
    let rows = project.rows()?.all;
    project.await_rows_beyond(rows)?;
    project.await_consumers(4)?;
    Ok(format!("rows arrive again after {:.1} s", restarted.elapsed().as_secs_f64()))
}

fn replay(project: &Project<'_>) -> Result<String> {
    let before = project.rows()?.all;
    project.run_tool(&["replay", "--topic", "events", "--from-beginning"])?;
    Ok(format!("{} rows are written again", project.await_rows_beyond(before)?))
}

pub(super) fn drain(project: &Project<'_>) -> Result<String> {
    project.stop("producer")?;
    project.await_drained()?;
    Ok("all partitions up to date".to_owned())
}
