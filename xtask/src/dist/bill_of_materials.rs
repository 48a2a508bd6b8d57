//! Software bill of materials in `CycloneDX` 1.6: every package that is linked into a program, and
//! DuckDB's files.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::cargo_metadata::{CargoMetadata, Package};

/// Version of DuckDB and its extensions, as in `pins.txt`.
const DUCKDB_VERSION: &str = "1.5.5";

/// Renders the document. `native_files` are name and checksum of DuckDB's files.
pub(super) fn render(
    metadata: &CargoMetadata,
    packages: &[&Package],
    native_files: &[(String, String)],
) -> Result<String> {
    let version = metadata.version_of("ducktide")?;
    let native = native_files.iter().map(|(name, sha256)| native_component(name, sha256));
    let components: Vec<_> =
        packages.iter().map(|package| component(package)).chain(native).collect();
    let dependencies: Vec<_> =
        packages.iter().map(|package| dependency(metadata, packages, package)).collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": format!("ducktide-archive@{version}"),
                "name": "ducktide-archive",
                "version": version,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    serde_json::to_string_pretty(&document).context("render the bill of materials")
}

fn component(package: &Package) -> Value {
    let mut component = json!({
        "type": if package.is_external { "library" } else { "application" },
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
    });
    if package.is_external {
        component["purl"] = json!(format!("pkg:cargo/{}@{}", package.name, package.version));
    }
    if let Some(licence) = &package.licence {
        // The deprecated form with a slash is not an SPDX expression.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(repository) = &package.repository {
        component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
    }
    component
}

fn native_component(name: &str, sha256: &str) -> Value {
    json!({
        "type": "library",
        "bom-ref": format!("{name}@{DUCKDB_VERSION}"),
        "name": name,
        "version": DUCKDB_VERSION,
        "purl": format!("pkg:generic/{name}@{DUCKDB_VERSION}"),
        "hashes": [{ "alg": "SHA-256", "content": sha256 }],
        "licenses": [{ "expression": "MIT" }],
    })
}

fn dependency(metadata: &CargoMetadata, packages: &[&Package], package: &Package) -> Value {
    let ids: Vec<_> = metadata.dependencies_of(&package.id).collect();
    let dependencies = packages.iter().filter(|other| ids.contains(&&other.id));
    let references: Vec<_> = dependencies.map(|other| reference(other)).collect();
    json!({ "ref": reference(package), "dependsOn": references })
}

fn reference(package: &Package) -> String {
    format!("{}@{}", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dist::cargo_metadata::tests::metadata;

    #[test]
    fn packages_and_native_files_are_listed_with_their_dependencies() {
        let metadata = metadata();
        let packages = metadata.packages_of(&["ducktide"]).unwrap();
        let native = [("duckdb".to_owned(), "ab".repeat(32))];

        let bill: Value =
            serde_json::from_str(&render(&metadata, &packages, &native).unwrap()).unwrap();

        assert_eq!(bill["components"][0]["purl"], "pkg:cargo/bytes@1.2.3");
        assert_eq!(bill["components"][1]["type"], "application");
        assert_eq!(bill["components"][2]["hashes"][0]["content"], "ab".repeat(32));
        let dependency = json!({ "ref": "ducktide@0.1.0", "dependsOn": ["bytes@1.2.3"] });
        assert_eq!(bill["dependencies"][1], dependency);
    }
}
