//! JSON schemas of Kubernetes' objects, as kubeconform reads them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::manifests::VERSIONS;
use crate::layout;

/// Copies the installed schemas and makes their references relative: they refer to addresses of a web
/// site. Returns the folder with a folder for each version.
pub(super) fn prepare() -> Result<PathBuf> {
    let target = layout::root().join("target/kubernetes/schemas");
    for version in VERSIONS {
        let name = format!("v{version}");
        let installed = layout::cache().join("kubernetes").join(&name);
        copy(&installed, &target.join(&name))
            .with_context(|| format!("copy the schemas of Kubernetes {version}"))?;
    }
    Ok(target)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context("create a folder for schemas")?;
    for entry in fs::read_dir(from).context("list schemas")? {
        let entry = entry.context("list schemas")?;
        let text = fs::read_to_string(entry.path()).context("read a schema")?;
        fs::write(to.join(entry.file_name()), with_relative_references(&text))
            .context("write a schema")?;
    }
    Ok(())
}

fn with_relative_references(schema: &str) -> String {
    schema.replace("\"$id\"", "\"x-id\"").replace("/api/_definitions.json#", "_definitions.json#")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_relative_to_the_file() {
        let schema =
            r#"{"$id": "https://k/api/pod/v1", "$ref": "/api/_definitions.json#/$defs/a"}"#;
        let expected = r#"{"x-id": "https://k/api/pod/v1", "$ref": "_definitions.json#/$defs/a"}"#;
        assert_eq!(with_relative_references(schema), expected);
    }
}
