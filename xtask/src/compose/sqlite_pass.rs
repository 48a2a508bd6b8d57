//! The stack with a SQLite catalog, more briefly: what differs is the lake.

use anyhow::Result;

use super::{
    docker::Docker,
    full_pass::drain,
    images::OwnImage,
    plugin::Compose,
    project::{Project, with_logs},
    story::Story,
};

const FILES: &[&str] = &["docker-compose.yml", "docker/compose.sqlite.yml"];

const SERVICES: &[&str] = &["producer", "consumer", "compactor"];

pub(super) fn run(
    story: &mut Story,
    docker: &Docker,
    compose: &Compose,
    image: &OwnImage,
) -> Result<()> {
    let project = Project::new(docker, compose, image, FILES)?;
    with_logs(&project, || story_of(story, &project))
}

fn story_of(story: &mut Story, project: &Project<'_>) -> Result<()> {
    story.tell("SQLite: up, until all is healthy", || {
        project.check()?;
        project.up(SERVICES)?;
        Ok(format!("{} rows", project.await_rows_beyond(500)?))
    })?;
    story.tell("SQLite: SIGKILL a consumer, start it again", || {
        project.kill("consumer")?;
        project.up(SERVICES)?;
        let rows = project.rows()?.all;
        Ok(format!("{rows} rows, then {}", project.await_rows_beyond(rows)?))
    })?;
    story.tell("SQLite: drain, lake and ledger agree", || {
        drain(project)?;
        project.prove()
    })?;
    story.tell("SQLite: down with volumes leaves nothing", || {
        project.remove().map(|()| String::new())
    })
}
