//! `cargo xtask dist`: makes the archive for Linux x86-64, with everything that the programs need, and
//! Debian's package of the same files.

mod bill_of_materials;
mod cargo_metadata;
mod contents;
mod debian;
mod licences;
mod provenance;
mod tarball;

use std::{
    fmt::Write as _,
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
    /// Debian's package of the same files; None without `dpkg-deb`.
    pub(crate) package: Option<PathBuf>,
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
    match &archive.package {
        Some(package) => println!("dist: {}", package.display()),
        None => println!("dist: no package for Debian: dpkg-deb is not installed"),
    }
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

/// Writes archive, package, checksums and provenance to `target/dist`, which is emptied before.
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
    let package = debian::write_package(&folder, metadata.version_of("ducktide")?, &target)?;
    let (mut made, mut sums) = (Vec::new(), String::new());
    for file in [Some(&path), package.as_ref()].into_iter().flatten() {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sha256 = pins::sha256(file)?;
        writeln!(sums, "{sha256}  {name}").context("write to a string")?;
        made.push((name, sha256));
    }
    fs::write(target.join("SHA256SUMS"), sums).context("write the checksums")?;
    let statement = provenance::statement(&made, revision)?;
    fs::write(target.join(format!("{name}.provenance.json")), statement)
        .context("write the provenance")?;
    fs::remove_dir_all(&folder).context("remove the folder of the archive")?;
    let bytes = fs::metadata(&path).context("read the size of the archive")?.len();
    Ok(Archive { path, bytes, package })
}

/// Returns the output of a command in the workspace's root folder.
fn output_of(program: &str, arguments: &[&str]) -> Result<String> {
    process::output(Command::new(program).current_dir(layout::root()).args(arguments))
}
