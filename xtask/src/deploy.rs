//! The step `deploy` of `cargo xtask test`: checks the Kubernetes manifests and the systemd units in
//! `deploy/`.

mod manifests;
mod schemas;
#[cfg(test)]
mod tests;
mod units;

use std::path::PathBuf;

use anyhow::Result;

use crate::layout;

/// Checks everything that the tools of this machine can check; returns the reasons why other parts
/// were not tested.
pub(crate) fn check() -> Result<Vec<String>> {
    let untested = [manifests::check()?, units::check()?];
    Ok(untested.into_iter().flatten().collect())
}

fn folder() -> PathBuf {
    layout::root().join("deploy")
}
