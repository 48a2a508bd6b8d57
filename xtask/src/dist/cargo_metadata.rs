//! Packages of the workspace and their dependencies, as cargo resolved them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{cargo, process};

/// Output of `cargo metadata` for the platform of the archive.
pub(super) struct CargoMetadata {
    packages: BTreeMap<String, Package>,
    /// Dependencies of each package that are part of a program, by package id.
    dependencies: BTreeMap<String, BTreeSet<String>>,
}

/// One package.
#[derive(Clone)]
pub(super) struct Package {
    /// Id that is unique in the output of cargo.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX expression; None for a package without one.
    pub(super) licence: Option<String>,
    pub(super) repository: Option<String>,
    /// Folder of the package.
    pub(super) folder: PathBuf,
    /// The package is from the registry, not from this workspace.
    pub(super) is_external: bool,
}

impl CargoMetadata {
    pub(super) fn read() -> Result<Self> {
        let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform"];
        let mut command = cargo::command(arguments);
        let text = process::output(command.arg("x86_64-unknown-linux-gnu"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("parse cargo's metadata")?;
        let packages =
            list(&value, "/packages")?.iter().map(package).collect::<Result<Vec<_>>>()?;
        let nodes = list(&value, "/resolve/nodes")?;
        let dependencies = nodes.iter().map(node).collect::<Result<_>>()?;
        let packages = packages.into_iter().map(|package| (package.id.clone(), package)).collect();
        Ok(Self { packages, dependencies })
    }

    /// Returns the version of a package of the workspace.
    pub(super) fn version_of(&self, name: &str) -> Result<&str> {
        self.named(name).map(|package| package.version.as_str())
    }

    fn named(&self, name: &str) -> Result<&Package> {
        let found =
            self.packages.values().find(|package| package.name == name && !package.is_external);
        found.with_context(|| format!("the workspace has no package `{name}`"))
    }

    /// Returns these packages and everything that is linked into them, by name and version.
    pub(super) fn packages_of(&self, names: &[&str]) -> Result<Vec<&Package>> {
        let mut found = BTreeSet::new();
        let mut waiting: Vec<&str> = Vec::new();
        for name in names {
            waiting.push(&self.named(name)?.id);
        }
        while let Some(id) = waiting.pop() {
            if found.insert(id) {
                waiting.extend(self.dependencies_of(id).map(String::as_str));
            }
        }
        let mut packages: Vec<_> = found.iter().filter_map(|id| self.packages.get(*id)).collect();
        ensure!(packages.len() == found.len(), "cargo's metadata lacks a package");
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(packages)
    }

    /// Returns the ids of the packages that a package links.
    pub(super) fn dependencies_of(&self, id: &str) -> impl Iterator<Item = &String> {
        self.dependencies.get(id).into_iter().flatten()
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> Result<&'a Vec<Value>> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.with_context(|| format!("cargo's metadata lacks `{pointer}`"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    let text = value[key].as_str().map(str::to_owned);
    text.with_context(|| format!("cargo's metadata lacks `{key}` of a package"))
}

fn package(value: &Value) -> Result<Package> {
    let manifest = PathBuf::from(text(value, "manifest_path")?);
    Ok(Package {
        id: text(value, "id")?,
        name: text(value, "name")?,
        version: text(value, "version")?,
        licence: value["license"].as_str().map(str::to_owned),
        repository: value["repository"].as_str().map(str::to_owned),
        folder: manifest.parent().context("find the folder of a package")?.to_owned(),
        is_external: !value["source"].is_null(),
    })
}

/// Returns a package's id with the ids of its normal dependencies: those for tests and for build
/// scripts are not part of a program.
fn node(value: &Value) -> Result<(String, BTreeSet<String>)> {
    let is_normal = |dependency: &&Value| {
        let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
        kinds.into_iter().any(|kind| kind["kind"].is_null())
    };
    let dependencies = value["deps"].as_array().into_iter().flatten().filter(is_normal);
    let ids = dependencies.map(|dependency| text(dependency, "pkg")).collect::<Result<_>>()?;
    Ok((text(value, "id")?, ids))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A program with a library, a dependency of its tests, and one that it does not use.
    const METADATA: &str = r#"{"packages": [
        {"id": "p", "name": "ducktide", "version": "0.1.0", "license": "MIT OR Apache-2.0",
         "repository": null, "manifest_path": "/w/ducktide/Cargo.toml", "source": null},
        {"id": "l", "name": "bytes", "version": "1.2.3", "license": "MIT", "repository": "https://r",
         "manifest_path": "/c/bytes-1.2.3/Cargo.toml", "source": "registry"},
        {"id": "t", "name": "tempfile", "version": "3.0.0", "license": "MIT", "repository": null,
         "manifest_path": "/c/tempfile-3.0.0/Cargo.toml", "source": "registry"}],
        "resolve": {"nodes": [
        {"id": "p", "deps": [{"pkg": "l", "dep_kinds": [{"kind": null}]},
                             {"pkg": "t", "dep_kinds": [{"kind": "dev"}]}]},
        {"id": "l", "deps": []}, {"id": "t", "deps": []}]}}"#;

    pub(in crate::dist) fn metadata() -> CargoMetadata {
        CargoMetadata::parse(METADATA).unwrap()
    }

    #[test]
    fn dependencies_of_tests_are_not_part_of_a_program() {
        let metadata = metadata();
        let packages = metadata.packages_of(&["ducktide"]).unwrap();
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["bytes", "ducktide"]);
        assert_eq!(metadata.version_of("ducktide").unwrap(), "0.1.0");
        assert!(metadata.version_of("bytes").is_err());
    }
}
