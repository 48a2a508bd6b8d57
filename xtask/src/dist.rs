//! `cargo xtask dist`: makes the archive for Linux x86-64, with everything that the programs need.

mod bill_of_materials;
mod cargo_metadata;
mod contents;
mod licences;
mod provenance;
mod tarball;

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};

use self::{cargo_metadata::CargoMetadata, contents::Contents};
use crate::{cargo, layout, pins, process, setup};

/// Programs of the archive, which are packages of the same name.
const PROGRAMS: [&str; 4] =
    ["ducktide", "ducktide-producer", "ducktide-consumer", "ducktide-compactor"];

/// A finished archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// `cargo xtask dist [--no-build]`.
#[expect(clippy::print_stdout, reason = "the result is printed")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let build = match arguments {
        [] => true,
        [flag] if flag == "--no-build" => false,
        _ => bail!(
            "unknown argument; dist only takes --no-build arguments=`{}`",
            arguments.join(" ")
        ),
    };
    setup::for_build()?;
    let revision = provenance::revision()?;
    if build {
        self::build(&revision)?;
    }
    let archive = make(&revision)?;
    println!("dist: {} ({} MB)", archive.path.display(), archive.bytes / 1_000_000);
    Ok(ExitCode::SUCCESS)
}

/// Makes the archive of the programs that are built, for the tests.
pub(crate) fn of_built_programs() -> Result<Archive> {
    make(&provenance::revision()?)
}

/// Builds with the same features as the other verbs. The revision, which `ducktide version --verbose`
/// prints, causes one more compilation of the package `ducktide`.
fn build(revision: &str) -> Result<()> {
    let arguments =
        ["build", "--release", "--locked", "--workspace", "--lib", "--bins", "--examples"];
    let mut cargo = cargo::command(arguments);
    let status = cargo.env("DUCKTIDE_REVISION", revision).status().context("start cargo build")?;
    ensure!(status.success(), "cargo build failed");
    Ok(())
}

/// Writes archive, checksums and provenance to `target/dist`, which is emptied before.
fn make(revision: &str) -> Result<Archive> {
    let metadata = CargoMetadata::read()?;
    let name = format!("ducktide-{}-x86_64-linux", metadata.version_of("ducktide")?);
    let target = layout::root().join("target/dist");
    if target.exists() {
        fs::remove_dir_all(&target).context("empty target/dist")?;
    }
    let folder = target.join(&name);
    Contents::at(&folder).write(&metadata)?;
    let path = target.join(format!("{name}.tar.gz"));
    tarball::write(&folder, &name, &path)?;
    let sha256 = pins::sha256(&path)?;
    fs::write(target.join("SHA256SUMS"), format!("{sha256}  {name}.tar.gz\n"))
        .context("write the checksum")?;
    let statement = provenance::statement(&format!("{name}.tar.gz"), &sha256, revision)?;
    fs::write(target.join(format!("{name}.provenance.json")), statement)
        .context("write the provenance")?;
    fs::remove_dir_all(&folder).context("remove the folder of the archive")?;
    let bytes = fs::metadata(&path).context("read the size of the archive")?.len();
    Ok(Archive { path, bytes })
}

/// Returns the output of a command in the workspace's root folder.
fn output_of(program: &str, arguments: &[&str]) -> Result<String> {
    process::output(Command::new(program).current_dir(layout::root()).args(arguments))
}
