//! Local images with official names, built from the cache and from Debian packages, see
//! `testbed/local-images/README.md`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{docker::Docker, process};
use crate::{
    layout,
    machine::{self, Requirement},
    setup,
};

/// Definition of a local image.
pub(super) struct LocalImage {
    /// Name of the official image in `Dockerfile` and `docker-compose.yml`.
    pub(super) name: &'static str,
    recipe: Recipe,
}

enum Recipe {
    /// Debian's installer.
    Debootstrap,
    /// A folder of `testbed/local-images` with its Dockerfile, and folders of the cache to include.
    Folder { recipe: &'static str, artifacts: &'static [&'static str] },
    /// The Rust toolchain of this machine, on top of such a folder.
    Toolchain,
}

pub(super) const RUST: &str = "rust:1.95-bookworm";
/// The image that all other local images are based on.
pub(super) const DEBIAN: &str = "debian:bookworm-slim";

/// The object store, which is compiled when it is needed.
const VERSITYGW: &str = "tools/versitygw";

/// All local images; the first is the base of the others.
pub(super) const ALL: &[LocalImage] = &[
    LocalImage { name: DEBIAN, recipe: Recipe::Debootstrap },
    LocalImage {
        name: "apache/kafka:4.3.1",
        recipe: Recipe::Folder { recipe: "kafka", artifacts: &["kafka", "java"] },
    },
    LocalImage {
        name: "apicurio/apicurio-registry:3.3.3",
        recipe: Recipe::Folder { recipe: "registry", artifacts: &["registry", "java"] },
    },
    LocalImage {
        name: "postgres:15",
        recipe: Recipe::Folder { recipe: "postgres", artifacts: &[] },
    },
    LocalImage {
        name: "versity/versitygw:v1.8.0",
        recipe: Recipe::Folder { recipe: "s3", artifacts: &[VERSITYGW] },
    },
    LocalImage {
        name: "prom/prometheus:v3.5.0",
        recipe: Recipe::Folder { recipe: "prometheus", artifacts: &[] },
    },
    LocalImage { name: RUST, recipe: Recipe::Toolchain },
];

impl LocalImage {
    pub(super) fn build(&self, docker: &Docker) -> Result<()> {
        let built = match self.recipe {
            Recipe::Debootstrap => build_debian(docker, self.name),
            Recipe::Folder { recipe, artifacts } => {
                if artifacts.contains(&VERSITYGW) {
                    ensure!(setup::for_object_storage()?, "building versitygw needs Go");
                }
                let mut tar = tar_of_recipe(recipe, &[]);
                for artifact in artifacts {
                    tar.arg("-C").arg(layout::cache()).arg(artifact);
                }
                docker.build_local(&mut tar, self.name)
            }
            Recipe::Toolchain => build_rust(docker, self.name),
        };
        built.with_context(|| format!("build a local image for {}", self.name))
    }
}

/// Takes two minutes over a slow connection.
const DEBOOTSTRAP_TIMEOUT: Duration = Duration::from_mins(10);

/// Files that the official slim image omits too.
const EXCLUDED: &[&str] = &[
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
];

fn build_debian(docker: &Docker, name: &str) -> Result<()> {
    ensure!(machine::is_root(), "building the Debian base image needs root");
    machine::require(&[Requirement::DEBOOTSTRAP])?;
    let folder = TemporaryFolder::new()?;
    let arguments = ["--variant=minbase", "bookworm"];
    process::output(
        process::with_timeout(DEBOOTSTRAP_TIMEOUT, "debootstrap").args(arguments).arg(&folder.0),
    )?;
    let mut tar = Command::new("tar");
    tar.args(["--create", "--file=-"]);
    tar.args(EXCLUDED.iter().map(|pattern| format!("--exclude={pattern}")));
    docker.import_local(tar.arg("-C").arg(&folder.0).arg("."), name)
}

/// A folder that is removed when dropped. Not in the cache, because it is the root file system of
/// another system.
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
        // A failure wastes disk space and has no other effect.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a tar command for the files of the recipe; more files may be added. Options come first,
/// because they only apply to the files after them.
fn tar_of_recipe(recipe: &str, options: &[String]) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--dereference", "--file=-"]).args(options);
    tar.arg("-C").arg(layout::root().join("testbed/local-images").join(recipe)).arg(".");
    tar
}

fn build_rust(docker: &Docker, name: &str) -> Result<()> {
    let toolchain = process::output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let toolchain = Path::new(&toolchain);
    let folder = toolchain.file_name().context("find the toolchain's folder")?;
    let certificates = Path::new("/etc/ssl/certs");
    let options = [
        // Documentation is half of the toolchain.
        "--exclude=share/doc".to_owned(),
        format!("--transform=s,^{},toolchain,", folder.display()),
    ];
    let mut tar = tar_of_recipe("rust", &options);
    tar.arg("-C").arg(toolchain.with_file_name("")).arg(folder);
    docker.build_local(tar.arg("-C").arg(certificates).arg("ca-certificates.crt"), name)
}
