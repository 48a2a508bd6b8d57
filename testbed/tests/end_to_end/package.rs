//! The archive of `cargo xtask dist`, unpacked into a root folder that has nothing else but the shared
//! libraries of a minimal Debian. Needs root; a step of its own, which makes the archive.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    program::Program,
    workspace,
};
use tempfile::TempDir;

/// A root folder with the unpacked archive in `/usr/local`.
struct Root {
    folder: TempDir,
    logs: PathBuf,
}

/// Network of a program in the root folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    None,
    /// That of this machine, for the services of the test.
    Host,
}

impl Root {
    fn unpack(logs: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("ducktide-root-").tempdir().unwrap();
        let root = Self { folder, logs: logs.to_owned() };
        let path = root.path("");
        for name in ["usr/local", "proc", "tmp", "lake"] {
            fs::create_dir_all(root.path(name)).unwrap();
        }
        let archive = archive();
        root.host_shell(&format!(
            "tar --extract --gzip --file {archive} --directory {path}/usr/local --strip-components 1",
            archive = archive.display(),
            path = path.display(),
        ));
        // The libraries of the system: what the image installs, without any other file.
        root.host_shell(&format!(
            "unset LD_LIBRARY_PATH; \
             for file in {path}/usr/local/bin/* {path}/usr/local/lib/libduckdb.so; do ldd $file; done \
             | grep -o '/[^ ]*' | grep -v {path} | sort -u \
             | xargs -I FILE cp --dereference --parents FILE {path}",
            path = path.display(),
        ));
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host_shell(&self, command: &str) -> String {
        Program::shell(command).run(&self.logs, "shell", WAIT_TIMEOUT).unwrap()
    }

    /// Returns a program of the archive that sees only the root folder and its own processes.
    fn program(&self, network: Network, name: &str) -> Program {
        let root = self.folder.path().display();
        let network = if network == Network::None { "--net" } else { "" };
        let isolated = format!(
            "exec env --unset=LD_LIBRARY_PATH \
             unshare {network} --mount --pid --ipc --uts --fork --mount-proc={root}/proc \
             chroot {root} /usr/local/bin/{name} \"$@\""
        );
        Program::shell(&isolated)
            .args(["archive"])
            .env("DUCKLAKE_CATALOG", "sqlite:/lake/lake.sqlite")
            .env("HOME", "/lake")
    }

    fn run(&self, network: Network, name: &str, arguments: &[&str]) -> String {
        let program = self.program(network, name).args(arguments);
        program.run(&self.logs, name, WAIT_TIMEOUT).unwrap()
    }
}

/// Returns the archive that `cargo xtask dist` has made.
fn archive() -> PathBuf {
    let folder = workspace::root().join("target/dist");
    let files = fs::read_dir(&folder).expect("`cargo xtask dist` has made an archive");
    let mut archives = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "gz"));
    archives.next().unwrap()
}

#[test]
#[ignore = "needs the archive and root"]
fn without_network_a_lake_is_created_maintained_and_queried() {
    let logs = env::temp_dir().join(format!("ducktide-package-{}", std::process::id()));
    let root = Root::unpack(&logs);
    let run = |name: &str, arguments: &[&str]| root.run(Network::None, name, arguments);

    let version = run("ducktide", &["version", "--verbose"]);
    assert!(version.contains("duckdb            v1.5.5"), "{version}");
    assert!(!version.contains("not installed"), "{version}");
    assert!(run("ducktide", &["init"]).contains("created a new lake"));
    assert_eq!(run("ducktide-producer", &["--rows", "5", "--dry-run"]).lines().count(), 5);
    run("ducktide", &["sql", "SELECT 1"]);
    run("ducktide", &["verify", "--deep"]);
    run("ducktide-compactor", &["once"]);
    assert!(run("ducktide-consumer", &["--help"]).contains("exactly once"));
    fs::remove_dir_all(logs).unwrap();
}

#[test]
#[ignore = "needs the archive, root, Kafka and the registry"]
fn events_are_loaded_exactly_once() {
    let pipeline = Pipeline::on_shared_services("archive", CatalogKind::Sqlite).unwrap();
    let root = Root::unpack(pipeline.logs());
    let run = |name: &str, arguments: &[&str]| {
        let program = root.program(Network::Host, name);
        let program = program
            .env("KAFKA_BOOTSTRAP_SERVERS", &pipeline.bootstrap_servers)
            .env("SCHEMA_REGISTRY_URL", &pipeline.schema_registry_url)
            .env("KAFKA_TOPIC", &pipeline.topic)
            .env("KAFKA_TOPICS", &pipeline.topic)
            .env("DUCKLAKE_TABLE", "events");
        program.args(arguments).run(pipeline.logs(), name, WAIT_TIMEOUT).unwrap()
    };

    run(
        "ducktide-producer",
        &["--rows", "10000", "--partitions", "3", "--ledger", "/lake/ledger.csv"],
    );
    run("ducktide-consumer", &["--until-end"]);
    run("ducktide-compactor", &["once"]);

    run("ducktide", &["verify", "--deep", "--against-ledger", "/lake/ledger.csv"]);
    let rows = run("ducktide", &["sql", "--format", "csv", "SELECT count(*) AS n FROM events"]);
    assert_eq!(rows.lines().last(), Some("10000"));
}

#[test]
#[ignore = "needs the archive"]
fn the_package_for_debian_has_its_files_below_usr() {
    let files = fs::read_dir(workspace::root().join("target/dist")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let Some(package) = files.find(|path| path.extension().is_some_and(|end| end == "deb")) else {
        eprintln!("SKIPPED: there is no package, because dpkg-deb is not installed");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (root, package) = (folder.path().display(), package.display());
    let shell = |command: &str| {
        let command = format!("unset LD_LIBRARY_PATH; cd {root}; {command}");
        Program::shell(&command).run(folder.path(), "check", WAIT_TIMEOUT).unwrap()
    };
    shell(&format!("dpkg-deb --extract {package} . && dpkg-deb --control {package} DEBIAN"));

    let version = shell("usr/bin/ducktide version --verbose");
    assert!(version.contains("duckdb            v1.5.5"), "{version}");
    assert!(!version.contains("not installed"), "{version}");
    // Each program of a unit is a file of the package.
    shell(
        "for unit in usr/lib/systemd/system/*.service; do \
               program=$(sed -n 's|^ExecStart=/||p' $unit | cut -d ' ' -f 1); test -x \"$program\"; \
           done; ! grep -r /usr/local usr/lib/systemd",
    );
    shell("sh -n DEBIAN/postinst && sh -n DEBIAN/postrm && test -f .$(cat DEBIAN/conffiles)");
    let control = fs::read_to_string(folder.path().join("DEBIAN/control")).unwrap();
    assert!(control.contains("libssl3") && control.contains("Architecture: amd64"), "{control}");
}

#[test]
#[ignore = "needs the archive"]
fn completions_man_pages_and_checksums_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let check = |command: &str| {
        let command = format!("cd {}; {command}", folder.path().display());
        Program::shell(&command).run(folder.path(), "check", WAIT_TIMEOUT).unwrap()
    };
    check(&format!("tar xzf {} --strip-components 1", archive().display()));

    check("sha256sum --check --quiet share/doc/ducktide/SHA256SUMS");
    check("for file in share/bash-completion/completions/*; do bash -n $file; done");
    for name in ["ducktide", "ducktide-consumer", "ducktide-compactor-run", "ducktide-verify"] {
        let page = fs::read_to_string(folder.path().join(format!("share/man/man1/{name}.1")));
        assert!(page.unwrap().contains(".SH OPTIONS"), "{name}");
    }
    let bill = fs::read_to_string(folder.path().join("share/doc/ducktide/sbom.cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_str(&bill).unwrap();
    let components = bill["components"].as_array().unwrap();
    for name in ["ducktide-consumer", "rdkafka", "parquet", "duckdb-extension-ducklake"] {
        assert!(components.iter().any(|component| component["name"] == name), "{name}");
    }
}
