//! A set of running services shared by all end-to-end tests.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::layout;

/// Kafka, schema registry and PostgreSQL, started by the testbed binary. Stopped when dropped.
pub(super) struct Services {
    child: Child,
    /// Environment variable with the addresses, for the tests.
    pub(super) variable: (String, String),
}

/// Prefix of the line with that variable in the output of the testbed binary.
const EXPORT: &str = "export DUCKTIDE_TEST_";

impl Services {
    pub(super) fn start() -> Result<Self> {
        let mut child = Command::new(layout::binary()?.with_file_name("ducktide-testbed"))
            .arg("services")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the services")?;
        let lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let found = lines.map_while(Result::ok).find_map(|line| variable(&line));
        let mut services = Self { child, variable: found.clone().unwrap_or_default() };
        if found.is_none() {
            let status = services.child.wait().context("wait for the services")?;
            anyhow::bail!("the services did not start: {status}");
        }
        Ok(services)
    }
}

fn variable(line: &str) -> Option<(String, String)> {
    let exported = line.strip_prefix("export ").filter(|_| line.starts_with(EXPORT))?;
    exported.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

impl Drop for Services {
    /// The services' watchdogs stop them when the process that started them has ended.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_variable_for_tests_is_parsed() {
        assert_eq!(variable("export DUCKLAKE_CATALOG=postgres://x"), None);
        let (name, value) = variable("export DUCKTIDE_TEST_SERVICES=kafka=1,registry=2").unwrap();
        assert_eq!(
            (name.as_str(), value.as_str()),
            ("DUCKTIDE_TEST_SERVICES", "kafka=1,registry=2")
        );
    }
}
