//! `cargo xtask setup`: brings what is needed, and nothing twice.
//!
//! A part is in place when its stamp holds the checksums that are pinned now and its witness file
//! exists; then nothing is asked of any registry, so a full cache works offline.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    archive, download, layout,
    machine::{self, Requirement},
    parts::{self, Arrangement, Part},
    pins::{self, Pin},
};

/// `cargo xtask setup [--for-build]`.
#[expect(clippy::print_stdout, reason = "setup says what it did")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let build_only = arguments == ["--for-build"];
    ensure!(
        arguments.is_empty() || build_only,
        "setup takes --for-build only; found `{}`",
        arguments.join(" ")
    );
    for_build()?;
    if !build_only {
        for_services()?;
    }
    println!("setup: all in place in {}", layout::cache().display());
    Ok(ExitCode::SUCCESS)
}

/// Brings what `cargo build` needs.
pub(crate) fn for_build() -> Result<()> {
    machine::require_pinned_platform()?;
    machine::require(Requirement::FOR_BUILD)?;
    bring(parts::FOR_BUILD)
}

/// Brings what the local services need.
pub(crate) fn for_services() -> Result<()> {
    machine::require(Requirement::FOR_SERVICES)?;
    bring(parts::FOR_SERVICES)
}

/// Brings what runs the tests on real services.
pub(crate) fn for_tests() -> Result<()> {
    for_services()?;
    bring(parts::FOR_TESTS)
}

/// Brings what the checks of `cargo xtask test` need.
pub(crate) fn for_checks() -> Result<()> {
    bring(parts::FOR_CHECKS)
}

/// Brings promtool, unless the machine has one; false when it cannot be built here either.
pub(crate) fn for_monitoring() -> Result<bool> {
    if machine::on_path("promtool") {
        return Ok(true);
    }
    build_by_go(parts::FOR_MONITORING)
}

/// Brings Docker Compose; false when it cannot be built here.
pub(crate) fn for_compose() -> Result<bool> {
    build_by_go(parts::FOR_COMPOSE)
}

fn build_by_go(names: &[&str]) -> Result<bool> {
    let is_built = |name: &&str| layout::tool(name).is_file();
    if !names.iter().all(is_built) && !machine::on_path("go") {
        return Ok(false);
    }
    bring(names).map(|()| true)
}

fn bring(names: &[&str]) -> Result<()> {
    let locks = layout::cache().join("locks");
    fs::create_dir_all(&locks).context("create .ducktide/locks")?;
    for name in names {
        // Two setups at once would unpack into each other's folders. A lock for each part: one that
        // takes minutes to build keeps nobody from the others.
        let lock = File::create(locks.join(name)).context("open a lock")?;
        lock.lock().context("wait for another setup")?;
        let part = parts::find(name).expect("a test checks that every part exists");
        bring_part(part).with_context(|| format!("set up {}", part.title))?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "progress, kept apart from the verbs' output")]
fn bring_part(part: &Part) -> Result<()> {
    let pins = pins::of_part(part.name);
    let stamp = layout::cache().join("stamps").join(part.name);
    let wanted = stamp_text(&pins);
    let in_place = layout::cache().join(part.witness).exists()
        && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted);
    if in_place {
        return Ok(());
    }
    eprintln!("setup: {}: {}", part.title, pins[0].package);
    let started = Instant::now();
    make(part, &pins)?;
    fs::create_dir_all(stamp.parent().expect("stamps lie in a folder")).context("create stamps")?;
    fs::write(&stamp, wanted).context("write stamp")?;
    eprintln!("setup: {}: done in {:.1} s", part.title, started.elapsed().as_secs_f64());
    Ok(())
}

fn stamp_text(pins: &[Pin]) -> String {
    pins.iter().fold(String::new(), |mut text, pin| {
        writeln!(text, "{} {}", pin.sha256, pin.file).expect("writing to a String cannot fail");
        text
    })
}

/// Downloads into a folder of its own and arranges the files; the downloads are removed after.
fn make(part: &Part, pins: &[Pin]) -> Result<()> {
    let downloads = layout::cache().join("downloads").join(part.name);
    remove_folder(&downloads)?;
    match part.arrangement {
        Arrangement::Pick(ends) => pick(&download::fetch(pins, &downloads)?, ends)?,
        Arrangement::Tree { prefix, folder } => {
            let files = download::fetch(pins, &downloads)?;
            replace_folder(folder, |fresh| archive::tree(&files[0], prefix, fresh))?;
        }
        Arrangement::Keep { folder } => {
            let files = download::fetch(pins, &downloads)?;
            replace_folder(folder, |fresh| move_into(&files, fresh))?;
        }
        Arrangement::GoBuild(program) => {
            let built = download::go_build(&pins[0], program, &downloads)?;
            move_into(&[built], &layout::cache().join("tools"))?;
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
        ensure!(found.contains(target), "no such file in the download path=`{end}`");
    }
    Ok(())
}

/// Fills a fresh folder and puts it in the old one's place, so that nothing of the old one stays.
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
