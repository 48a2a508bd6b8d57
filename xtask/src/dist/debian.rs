//! Package for Debian and its descendants: the files of the archive below `/usr`, and the settings in
//! `/etc/ducktide`. Made by Debian's own tool.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    contents::{copy, write},
    tarball,
};
use crate::{machine, process};

/// Folder of systemd's units, in the archive.
const UNITS: &str = "lib/systemd/system";

/// Libraries of Debian 12, with which the programs are linked.
const DEPENDS: &str = "ca-certificates, libc6 (>= 2.36), libgcc-s1, libssl3, libstdc++6, zlib1g";

/// Creates the user of the units. It does not start a unit: the settings are written first.
const AFTER_INSTALLATION: &str = "#!/bin/sh\nset -e\n\
    if command -v systemd-sysusers > /dev/null; then systemd-sysusers ducktide.conf; fi\n\
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n";

/// Removes what programs record next to the extensions that they have verified.
const AFTER_REMOVAL: &str = "#!/bin/sh\nset -e\n\
    case $1 in remove | purge) rm -rf /usr/lib/ducktide ;; esac\n";

/// Makes the package in a folder of the archive's files. Returns its path; None without Debian's tool.
pub(super) fn write_package(
    archive: &Path,
    version: &str,
    target: &Path,
) -> Result<Option<PathBuf>> {
    if !machine::on_path("dpkg-deb") {
        return Ok(None);
    }
    let root = target.join("debian");
    let mut bytes = 0;
    for path in tarball::files_of(archive)? {
        let to = root.join("usr").join(&path);
        copy(&archive.join(&path), &to)?;
        bytes += fs::metadata(&to).context("read the size of a file")?.len();
        if path.starts_with(UNITS) {
            let unit = fs::read_to_string(&to).context("read a unit")?;
            write(&to, &unit.replace("/usr/local/", "/usr/"))?;
        }
    }
    let settings = "etc/ducktide/ducktide.env";
    copy(&archive.join("share/ducktide/ducktide.env"), &root.join(settings))?;
    write(&root.join("DEBIAN/control"), &control(version, bytes / 1024))?;
    write(&root.join("DEBIAN/conffiles"), &format!("/{settings}\n"))?;
    for (name, text) in [("postinst", AFTER_INSTALLATION), ("postrm", AFTER_REMOVAL)] {
        let script = root.join("DEBIAN").join(name);
        write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).context("set a mode")?;
    }
    let package = target.join(format!("ducktide_{version}_amd64.deb"));
    let mut tool = Command::new("dpkg-deb");
    // Times of zero, so that the package depends on its contents only.
    tool.env("SOURCE_DATE_EPOCH", "0").args(["--root-owner-group", "-Zgzip", "--build"]);
    process::output(tool.arg(&root).arg(&package))?;
    fs::remove_dir_all(&root).context("remove the folder of the package")?;
    Ok(Some(package))
}

/// Returns the description of the package; `size` in KiB.
fn control(version: &str, size: u64) -> String {
    format!(
        "Package: ducktide\nVersion: {version}\nArchitecture: amd64\nSection: database\nPriority: optional\n\
         Maintainer: The Ducktide developers <ducktide@localhost>\nInstalled-Size: {size}\n\
         Depends: {DEPENDS}\nRecommends: systemd\n\
         Description: Avro events from Kafka into DuckLake tables, exactly once\n \
         Consumers commit events and their offsets in one transaction, a compactor maintains the\n \
         lake, and a tool for operators shows, verifies, and replays.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_one_field_in_each_line() {
        let control = control("1.2.3", 7);

        assert!(
            control.contains("\nVersion: 1.2.3\n") && control.contains("\nInstalled-Size: 7\n")
        );
        assert!(
            control.lines().all(|line| line.starts_with(' ') || line.contains(": ")),
            "{control}"
        );
    }
}
