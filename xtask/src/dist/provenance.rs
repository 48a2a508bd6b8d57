//! Build provenance: which sources and which pinned files an archive was made from, as an unsigned
//! in-toto statement with a predicate of SLSA 1.0.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::output_of;
use crate::{artifacts, layout, pins};

/// Returns the revision of the sources, with `-dirty` after it if files are changed.
pub(super) fn revision() -> Result<String> {
    let commit = output_of("git", &["rev-parse", "HEAD"]).context("find the revision")?;
    let changes = output_of("git", &["status", "--porcelain", "--untracked-files=no"])?;
    Ok(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}

pub(super) fn statement(files: &[(String, String)], revision: &str) -> Result<String> {
    let lock = pins::sha256(&layout::root().join("Cargo.lock"))?;
    let subjects = files.iter();
    let subjects =
        subjects.map(|(name, sha256)| json!({ "name": name, "digest": { "sha256": sha256 } }));
    let compiler = output_of("rustc", &["--version"])?;
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects.collect::<Vec<_>>(),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "cargo xtask dist",
                "externalParameters": { "revision": revision },
                "internalParameters": { "compiler": compiler, "profile": "release" },
                "resolvedDependencies": resolved_dependencies(revision, &lock),
            },
            "runDetails": { "builder": { "id": "cargo xtask dist" } },
        },
    });
    serde_json::to_string_pretty(&statement).context("render the provenance")
}

fn resolved_dependencies(revision: &str, lock: &str) -> Vec<Value> {
    let pins = artifacts::FOR_BUILD.iter().flat_map(|artifact| pins::of_artifact(artifact));
    let pins = pins.map(|pin| json!({ "name": pin.package, "digest": { "sha256": pin.sha256 } }));
    let sources = [
        json!({ "name": "sources", "digest": { "gitCommit": revision.trim_end_matches("-dirty") } }),
        json!({ "name": "Cargo.lock", "digest": { "sha256": lock } }),
    ];
    sources.into_iter().chain(pins).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_files_of_the_build_are_dependencies() {
        let dependencies = resolved_dependencies("0123-dirty", "ab");
        assert_eq!(dependencies[0]["digest"]["gitCommit"], "0123");
        let names: Vec<_> =
            dependencies.iter().filter_map(|found| found["name"].as_str()).collect();
        assert!(
            names.iter().any(|name| name.starts_with("duckdb-extension-ducklake")),
            "{names:?}"
        );
    }
}
