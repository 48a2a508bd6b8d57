//! Programs from Debian's packages, without installing the packages: some of them start a server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{layout, machine};

/// Puts a program of a package into the folder of tools, with apt, which verifies the package. Returns
/// false if apt or the package is not available, or the package does not have the program.
pub(crate) fn extract_program(package: &str, program: &Path) -> Result<bool> {
    let name = program.file_name().context("name a program")?;
    let installed = layout::tool(&name.to_string_lossy());
    if installed.is_file() {
        return Ok(true);
    }
    if !machine::on_path("apt-get") || !machine::on_path("dpkg-deb") {
        return Ok(false);
    }
    let folder = layout::cache().join("downloads").join(format!("debian-{package}"));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let extracted = folder.join("files");
    let is_extracted = succeeds("apt-get", &["download", "-qq", package], &folder)
        && find_package(&folder)?.is_some_and(|file| {
            succeeds("dpkg-deb", &["--extract", &file.to_string_lossy(), "files"], &folder)
        })
        && extracted.join(program).is_file();
    if is_extracted {
        fs::create_dir_all(installed.with_file_name("")).context("create the folder of tools")?;
        fs::rename(extracted.join(program), &installed)
            .with_context(|| format!("rename to {}", installed.display()))?;
    }
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(is_extracted)
}

fn find_package(folder: &Path) -> Result<Option<PathBuf>> {
    let files = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files = files.flatten().map(|file| file.path());
    Ok(files.find(|path| path.extension().is_some_and(|end| end == "deb")))
}

fn succeeds(program: &str, arguments: &[&str], folder: &Path) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
