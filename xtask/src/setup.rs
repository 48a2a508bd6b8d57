//! `cargo xtask setup`: installs the required artifacts, each only once.
//!
//! An artifact is up to date if its stamp holds the currently pinned checksums and its sentinel
//! file exists. Then no registry is contacted, so setup works offline with a complete cache.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    archive,
    artifacts::{self, Artifact, InstallMethod},
    debian_package, download, layout,
    machine::{self, Requirement},
    pins::{self, PinnedFile},
};

/// `cargo xtask setup [--for-build]`.
#[expect(clippy::print_stdout, reason = "the result is printed")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let build_only = arguments == ["--for-build"];
    ensure!(
        arguments.is_empty() || build_only,
        "unknown argument; setup only takes --for-build arguments=`{}`",
        arguments.join(" ")
    );
    for_build()?;
    if !build_only {
        for_services()?;
    }
    println!("setup: all artifacts are installed in {}", layout::cache().display());
    Ok(ExitCode::SUCCESS)
}

/// Installs the artifacts that `cargo build` needs.
pub(crate) fn for_build() -> Result<()> {
    machine::require_pinned_platform()?;
    machine::require(Requirement::FOR_BUILD)?;
    install(artifacts::FOR_BUILD)
}

/// Installs the artifacts that the local services need.
pub(crate) fn for_services() -> Result<()> {
    machine::require(Requirement::FOR_SERVICES)?;
    install(artifacts::FOR_SERVICES)
}

/// Installs the artifacts that the tests with real services need.
pub(crate) fn for_tests() -> Result<()> {
    for_services()?;
    machine::require(Requirement::FOR_TESTS)?;
    install(artifacts::FOR_TESTS)
}

/// Installs the artifacts that the checks of `cargo xtask test` need.
pub(crate) fn for_checks() -> Result<()> {
    install(artifacts::FOR_CHECKS)
}

/// Provides promtool unless the machine has it: from Debian's package, or built, which takes minutes.
/// Returns false if neither is possible.
pub(crate) fn for_monitoring() -> Result<bool> {
    if machine::on_path("promtool")
        || debian_package::extract_program("prometheus", Path::new("usr/bin/promtool"))?
    {
        return Ok(true);
    }
    build_with_go(artifacts::FOR_MONITORING)
}

/// Builds Docker Compose; returns false if it cannot be built.
pub(crate) fn for_compose() -> Result<bool> {
    build_with_go(artifacts::FOR_COMPOSE)
}

/// Builds the programs that validate Kubernetes manifests, and installs their schemas; returns false if
/// they cannot be built.
pub(crate) fn for_deploy() -> Result<bool> {
    if !build_with_go(artifacts::FOR_DEPLOY)? {
        return Ok(false);
    }
    install(artifacts::DEPLOY_SCHEMAS).map(|()| true)
}

/// Builds the object store; returns false if it cannot be built.
pub(crate) fn for_object_storage() -> Result<bool> {
    build_with_go(artifacts::FOR_OBJECT_STORAGE)
}

/// Installs the object store of Azure. Returns false if npm is missing.
pub(crate) fn for_azure() -> Result<bool> {
    if !["node", "npm"].into_iter().all(machine::on_path) {
        return Ok(false);
    }
    install(artifacts::FOR_AZURE).map(|()| true)
}

fn build_with_go(names: &[&str]) -> Result<bool> {
    let is_built = |name: &&str| layout::tool(name).is_file();
    if !names.iter().all(is_built) && !machine::on_path("go") {
        return Ok(false);
    }
    install(names).map(|()| true)
}

fn install(names: &[&str]) -> Result<()> {
    let locks = layout::cache().join("locks");
    fs::create_dir_all(&locks).context("create .ducktide/locks")?;
    for name in names {
        // Concurrent setups must not write to the same folder. There is a lock for each artifact,
        // so that one that takes minutes to build does not block the others.
        let lock = File::create(locks.join(name)).context("open a lock")?;
        lock.lock().context("wait for another setup")?;
        let artifact = artifacts::find(name).expect("a test checks that every artifact exists");
        install_artifact(artifact).with_context(|| format!("set up {}", artifact.title))?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress, separate from the output of the verb")]
fn install_artifact(artifact: &Artifact) -> Result<()> {
    let pins = pins::of_artifact(artifact.name);
    let stamp = layout::cache().join("stamps").join(artifact.name);
    let expected = stamp_text(&pins);
    let is_installed = layout::cache().join(artifact.sentinel).exists()
        && fs::read_to_string(&stamp).is_ok_and(|found| found == expected);
    if is_installed {
        return Ok(());
    }
    eprintln!("setup: {}: {}", artifact.title, pins[0].package);
    let started = Instant::now();
    download_and_install(artifact, &pins)?;
    fs::create_dir_all(stamp.parent().expect("stamps have a parent folder"))
        .context("create stamps")?;
    fs::write(&stamp, expected).context("write stamp")?;
    eprintln!("setup: {}: done in {:.1} s", artifact.title, started.elapsed().as_secs_f64());
    Ok(())
}

fn stamp_text(pins: &[PinnedFile]) -> String {
    pins.iter().fold(String::new(), |mut text, pin| {
        writeln!(text, "{} {}", pin.sha256, pin.file).expect("writing to a String cannot fail");
        text
    })
}

/// Downloads the files into a temporary folder, which is removed afterwards, and installs them.
fn download_and_install(artifact: &Artifact, pins: &[PinnedFile]) -> Result<()> {
    let downloads = layout::cache().join("downloads").join(artifact.name);
    remove_folder(&downloads)?;
    match artifact.install_method {
        InstallMethod::ExtractFiles(ends) => pick(&download::fetch(pins, &downloads)?, ends)?,
        InstallMethod::ExtractFolder { prefix, folder } => {
            let files = download::fetch(pins, &downloads)?;
            replace_folder(folder, |fresh| archive::tree(&files[0], prefix, fresh))?;
        }
        InstallMethod::ExtractFolders(folders) => {
            let files = download::fetch(pins, &downloads)?;
            for (prefix, folder) in folders {
                replace_folder(folder, |fresh| archive::tree(&files[0], prefix, fresh))?;
            }
        }
        InstallMethod::StoreFiles { folder } => {
            let files = download::fetch(pins, &downloads)?;
            replace_folder(folder, |fresh| move_into(&files, fresh))?;
        }
        InstallMethod::GoBuild(program) => {
            let built = download::go_build(&pins[0], program, &downloads)?;
            move_into(&[built], &layout::cache().join("tools"))?;
        }
        InstallMethod::NpmInstall { project, folder } => {
            let project = layout::root().join(project);
            replace_folder(folder, |fresh| download::npm_install(&pins[0], &project, fresh))?;
        }
    }
    remove_folder(&downloads)
}

fn pick(archives: &[PathBuf], ends: &[(&str, &str)]) -> Result<()> {
    let cache = layout::cache();
    let ends: Vec<_> = ends.iter().map(|(end, target)| (*end, cache.join(target))).collect();
    let mut found = Vec::new();
    for archive in archives {
        found.extend(archive::pick(archive, &ends)?);
    }
    for (end, target) in &ends {
        ensure!(found.contains(target), "file not found in the download path=`{end}`");
    }
    Ok(())
}

/// Fills a new folder and replaces the old one with it, so that no old file remains.
fn replace_folder(folder: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let target = layout::cache().join(folder);
    let fresh = layout::cache().join(format!("{folder}.new"));
    remove_folder(&fresh)?;
    fill(&fresh)?;
    remove_folder(&target)?;
    fs::rename(&fresh, &target).with_context(|| format!("rename to {}", target.display()))
}

fn move_into(files: &[PathBuf], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    for file in files {
        let target = folder.join(file.file_name().expect("downloads have names"));
        fs::rename(file, &target).with_context(|| format!("rename to {}", target.display()))?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))
}
