//! systemd units: systemd parses them and rates their sandbox.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::folder;
use crate::{layout, machine, process};

/// Maximum exposure of a unit as systemd rates it, in tenths: 0 is the best, 100 the worst. What
/// remains is the network that a worker needs.
const MAX_EXPOSURE: &str = "11";

/// Checks all units; returns the reason if systemd is not installed.
pub(super) fn check() -> Result<Option<String>> {
    if !machine::on_path("systemd-analyze") {
        return Ok(Some("systemd-analyze is not on PATH: systemd units".to_owned()));
    }
    let units = runnable_copies()?;
    process::output(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units))?;
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|end| end == "service")) {
        let rate = ["security", "--offline=yes", "--no-pager", "--threshold", MAX_EXPOSURE];
        process::output(Command::new("systemd-analyze").args(rate).arg(unit))
            .with_context(|| format!("exposure above {MAX_EXPOSURE}: {}", unit.display()))?;
    }
    Ok(None)
}

/// Copies the units and replaces their programs, which are not installed on this machine.
fn runnable_copies() -> Result<Vec<PathBuf>> {
    let target = layout::root().join("target/systemd");
    fs::create_dir_all(&target).context("create a folder for units")?;
    let mut units = Vec::new();
    for entry in fs::read_dir(folder().join("systemd")).context("list the units")? {
        let path = entry.context("list the units")?.path();
        if is_unit(&path) {
            let text = fs::read_to_string(&path).context("read a unit")?;
            let copy = target.join(path.file_name().context("find the name of a unit")?);
            fs::write(&copy, text.replace("ExecStart=/usr/local/bin/", "ExecStart=/bin/true "))
                .context("write a unit")?;
            units.push(copy);
        }
    }
    ensure!(!units.is_empty(), "deploy/systemd has no units");
    Ok(units)
}

fn is_unit(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "service" || end == "timer")
}
