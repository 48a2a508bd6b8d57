//! The stack as it is: PostgreSQL's catalog, Prometheus beside it.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{
    docker::Docker,
    images::{GRAFANA, OwnImage},
    plugin::Compose,
    probe,
    project::{Project, with_logs},
    story::Story,
};

const FILES: &[&str] = &["docker-compose.yml"];

/// Grafana only where its image can be had.
const SERVICES: &[&str] = &["producer", "consumer", "compactor", "prometheus"];

pub(super) fn run(
    story: &mut Story,
    docker: &Docker,
    compose: &Compose,
    image: &OwnImage,
) -> Result<()> {
    let project = Project::new(docker, compose, image, FILES)?;
    let mut services = SERVICES.to_vec();
    if docker.has_official(GRAFANA) {
        services.push("grafana");
    }
    with_logs(&project, || story_of(story, &project, &services))
}

fn story_of(story: &mut Story, project: &Project<'_>, services: &[&str]) -> Result<()> {
    story.tell("up, until all is healthy", || {
        project.check()?;
        project.up(services)?;
        Ok(String::new())
    })?;
    story.tell("events reach the lake", || {
        Ok(format!("{} rows", project.await_rows_beyond(1000)?))
    })?;
    story.tell("every published port answers", || {
        ask_ports(project, services.contains(&"grafana"))
    })?;
    let with_four = [&["--no-recreate", "--scale", "consumer=4"], services].concat();
    story.tell("scale to four consumers", || {
        project.up(&with_four)?;
        project.await_consumers(4)?;
        Ok("each has partitions".to_owned())
    })?;
    story.tell("SIGKILL a consumer", || kill_consumer(project))?;
    story.tell("SIGKILL PostgreSQL, start it again", || kill_postgres(project, &with_four))?;
    story.tell("replay everything while consumers run", || replay(project))?;
    story.tell("the compactor merges files", || {
        let merged =
            project.await_metric("sum(ducktide_compactor_merge_files_total)", |n| n > 0.0)?;
        Ok(format!("{merged} files merged"))
    })?;
    story.tell("stop the producer, drain", || drain(project))?;
    story.tell("lake and ledger agree", || project.prove())?;
    story.tell("down, up, and it goes on", || {
        let before = project.rows()?.all;
        project.down()?;
        project.up(services)?;
        Ok(format!("{before} rows, then {}", project.await_rows_beyond(before)?))
    })?;
    story.tell("drain, lake and ledger agree", || {
        drain(project)?;
        project.prove()
    })?;
    story.tell("down with volumes leaves nothing", || project.remove().map(|()| String::new()))
}

fn ask_ports(project: &Project<'_>, with_grafana: bool) -> Result<String> {
    let ports = project.ports;
    probe::kafka(ports.kafka)?;
    probe::postgres(ports.postgres)?;
    let subjects = probe::http(ports.registry, "/apis/ccompat/v7/subjects")?;
    ensure!(subjects.contains("events-value"), "the registry has no schema: {subjects}");
    // Two consumers, the compactor, and Prometheus itself.
    project.await_metric("sum(up)", |targets| targets >= 4.0)?;
    if with_grafana {
        probe::http(ports.grafana, "/api/health")?;
    }
    Ok("4 targets are up in Prometheus".to_owned())
}

/// The others take its partitions over once its session is over.
fn kill_consumer(project: &Project<'_>) -> Result<String> {
    project.kill("consumer")?;
    let killed = Instant::now();
    project.await_consumers(3)?;
    Ok(format!("three have its partitions {:.1} s later", killed.elapsed().as_secs_f64()))
}

fn kill_postgres(project: &Project<'_>, with_four: &[&str]) -> Result<String> {
    project.kill("postgres")?;
    let before = project.ports.postgres;
    ensure!(probe::postgres(before).is_err(), "PostgreSQL answers although it was killed");
    let restarted = Instant::now();
    project.up(with_four)?;
    let rows = project.rows()?.all;
    project.await_rows_beyond(rows)?;
    project.await_consumers(4)?;
    Ok(format!("rows arrive again {:.1} s later", restarted.elapsed().as_secs_f64()))
}

fn replay(project: &Project<'_>) -> Result<String> {
    let before = project.rows()?.all;
    project.tool(&["replay", "--topic", "events", "--from-beginning"])?;
    Ok(format!("{} rows are back", project.await_rows_beyond(before)?))
}

pub(super) fn drain(project: &Project<'_>) -> Result<String> {
    project.stop("producer")?;
    project.await_drained()?;
    Ok("all partitions up to date".to_owned())
}
