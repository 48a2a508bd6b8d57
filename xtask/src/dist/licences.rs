//! Licence texts of the packages that are linked into the programs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::cargo_metadata::Package;

/// Renders each distinct text once, after the names of the packages that have it.
pub(super) fn render(packages: &[&Package]) -> Result<String> {
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut document =
        "Packages that are linked into the programs, with their licences:\n\n".to_owned();
    for package in packages.iter().filter(|package| package.is_external) {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.licence.as_deref().unwrap_or("see its text below");
        writeln!(document, "  {name}: {licence}")?;
        for path in licence_files(&package.folder)? {
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            by_text.entry(text).or_default().push(name.clone());
        }
    }
    for (text, names) in by_text {
        writeln!(document, "\n{}\n{}\n\n{text}", "=".repeat(80), names.join(", "))?;
    }
    Ok(document)
}

/// Returns the files at the top of a package that have the name of a licence.
fn licence_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list a package")?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|word| name.starts_with(word));
        if is_licence && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
