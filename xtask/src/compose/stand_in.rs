//! Images under official names, made of what is in the cache and of Debian's packages: see
//! `testbed/stand-ins/README.md`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{call, docker::Docker};
use crate::{
    layout,
    machine::{self, Requirement},
};

/// How an official image is made here.
pub(super) struct StandIn {
    /// The official image, as `Dockerfile` and `docker-compose.yml` name it.
    pub(super) name: &'static str,
    recipe: Recipe,
}

enum Recipe {
    /// Debian's own installer.
    Debootstrap,
    /// A folder of `testbed/stand-ins` with its Dockerfile, and folders of the cache that go into it.
    Folder { recipe: &'static str, parts: &'static [&'static str] },
    /// The toolchain of this machine, on top of such a folder.
    Toolchain,
}

pub(super) const RUST: &str = "rust:1.95-bookworm";
/// The image that all others here are made of.
pub(super) const DEBIAN: &str = "debian:bookworm-slim";

/// The first is what the others are made from.
pub(super) const ALL: &[StandIn] = &[
    StandIn { name: DEBIAN, recipe: Recipe::Debootstrap },
    StandIn {
        name: "apache/kafka:4.3.1",
        recipe: Recipe::Folder { recipe: "kafka", parts: &["kafka", "java"] },
    },
    StandIn {
        name: "apicurio/apicurio-registry:3.3.3",
        recipe: Recipe::Folder { recipe: "registry", parts: &["registry", "java"] },
    },
    StandIn { name: "postgres:15", recipe: Recipe::Folder { recipe: "postgres", parts: &[] } },
    StandIn {
        name: "prom/prometheus:v3.5.0",
        recipe: Recipe::Folder { recipe: "prometheus", parts: &[] },
    },
    StandIn { name: RUST, recipe: Recipe::Toolchain },
];

impl StandIn {
    pub(super) fn make(&self, docker: &Docker) -> Result<()> {
        let made = match self.recipe {
            Recipe::Debootstrap => make_debian(docker, self.name),
            Recipe::Folder { recipe, parts } => {
                let mut tar = tar_of_recipe(recipe, &[]);
                for part in parts {
                    tar.arg("-C").arg(layout::cache()).arg(part);
                }
                docker.build_stand_in(&mut tar, self.name)
            }
            Recipe::Toolchain => make_rust(docker, self.name),
        };
        made.with_context(|| format!("make a stand-in for {}", self.name))
    }
}

/// Two minutes over a slow line.
const DEBOOTSTRAP_WITHIN: Duration = Duration::from_mins(10);

/// What the official slim image leaves out as well.
const LEFT_OUT: &[&str] = &[
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
];

fn make_debian(docker: &Docker, name: &str) -> Result<()> {
    ensure!(machine::is_root(), "only root can make Debian's base image");
    machine::require(&[Requirement::DEBOOTSTRAP])?;
    let folder = TemporaryFolder::new()?;
    let words = ["--variant=minbase", "bookworm"];
    call::output(call::within(DEBOOTSTRAP_WITHIN, "debootstrap").args(words).arg(&folder.0))?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--file=-"]);
    tar.args(LEFT_OUT.iter().map(|pattern| format!("--exclude={pattern}")));
    docker.import_stand_in(tar.arg("-C").arg(&folder.0).arg("."), name)
}

/// Removed when dropped. Not in the cache: it is a file system of another system.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("ducktide-debian-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // One that is left behind costs space and nothing else.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A build context that has the recipe's files; more may be added. Options count for what comes after
/// them, so they come first.
fn tar_of_recipe(recipe: &str, options: &[String]) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--dereference", "--file=-"]).args(options);
    tar.arg("-C").arg(layout::root().join("testbed/stand-ins").join(recipe)).arg(".");
    tar
}

fn make_rust(docker: &Docker, name: &str) -> Result<()> {
    let toolchain = call::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let toolchain = Path::new(&toolchain);
    let folder = toolchain.file_name().context("find the toolchain's folder")?;
    let certificates = Path::new("/etc/ssl/certs");
    let options = [
        // Documentation is half of it.
        "--exclude=share/doc".to_owned(),
        format!("--transform=s,^{},toolchain,", folder.display()),
    ];
    let mut tar = tar_of_recipe("rust", &options);
    tar.arg("-C").arg(toolchain.with_file_name("")).arg(folder);
    docker.build_stand_in(tar.arg("-C").arg(certificates).arg("ca-certificates.crt"), name)
}
