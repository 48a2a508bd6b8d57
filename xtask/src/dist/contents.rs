//! Files of the archive, which is unpacked into `/usr/local` or another folder.
//!
//! | Folder | Contents |
//! |---|---|
//! | `bin` | the programs |
//! | `lib` | DuckDB's library; its extensions; systemd units |
//! | `share/man`, `share/bash-completion`, `share/zsh`, `share/fish` | generated from the flags |
//! | `share/ducktide` | manifests, alerts, dashboard, example of the settings |
//! | `share/doc/ducktide` | licences, list of changes, bill of materials, checksums of all files |

use std::{fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{PROGRAMS, bill_of_materials, cargo_metadata::CargoMetadata, licences, tarball};
use crate::{layout, pins, process};

/// Folders and files that are copied from the workspace: (from, to).
const COPIED: [(&str, &str); 9] = [
    (".ducktide/duckdb/libduckdb.so", "lib/libduckdb.so"),
    ("deploy/systemd/ducktide-consumer@.service", "lib/systemd/system/ducktide-consumer@.service"),
    ("deploy/systemd/ducktide-compactor.service", "lib/systemd/system/ducktide-compactor.service"),
    ("deploy/systemd/ducktide-verify.service", "lib/systemd/system/ducktide-verify.service"),
    ("deploy/systemd/ducktide-verify.timer", "lib/systemd/system/ducktide-verify.timer"),
    ("deploy/systemd/ducktide.sysusers", "lib/sysusers.d/ducktide.conf"),
    ("deploy/systemd/ducktide.env", "share/ducktide/ducktide.env"),
    ("docker/grafana/dashboards/ducktide.json", "share/ducktide/grafana/ducktide.json"),
    ("docker/prometheus/rules/ducktide.yml", "share/ducktide/prometheus/ducktide.yml"),
];

/// DuckDB's signed extensions.
const EXTENSIONS: [&str; 5] = ["azure", "ducklake", "httpfs", "postgres_scanner", "sqlite_scanner"];

/// Folder with the documents of the archive.
const DOCUMENTS: &str = "share/doc/ducktide";

/// The folder that becomes the archive.
pub(super) struct Contents<'a>(&'a Path);

impl<'a> Contents<'a> {
    pub(super) const fn at(folder: &'a Path) -> Self {
        Self(folder)
    }

    pub(super) fn write(&self, metadata: &CargoMetadata) -> Result<()> {
        let programs = layout::binary()?.with_file_name("");
        for name in PROGRAMS {
            copy(&programs.join(name), &self.0.join("bin").join(name))?;
        }
        for (from, to) in COPIED {
            copy(&layout::root().join(from), &self.0.join(to))?;
        }
        for name in EXTENSIONS {
            let file = format!("{name}.duckdb_extension");
            let from = layout::cache().join("extensions").join(&file);
            copy(&from, &self.0.join("lib/ducktide/extensions").join(&file))?;
        }
        let manifests = layout::root().join("deploy/kubernetes");
        for path in tarball::files_of(&manifests)? {
            copy(&manifests.join(&path), &self.0.join("share/ducktide/kubernetes").join(&path))?;
        }
        self.compress_debug_information()?;
        self.generate_from_flags()?;
        self.write_documents(metadata)
    }

    /// Reduces the size as in the image. The script also moves the licences.
    fn compress_debug_information(&self) -> Result<()> {
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            copy(&layout::root().join(licence), &self.0.join("bin").join(licence))?;
        }
        let script = layout::root().join("docker/image/pack");
        process::output(Command::new("sh").arg(script).arg(self.0)).map(drop)
    }

    /// Writes man pages and completions.
    fn generate_from_flags(&self) -> Result<()> {
        let example = layout::binary()?.with_file_name("examples").join("package_files");
        process::output(
            Command::new(example)
                .arg(self.0.join("share"))
                .env("LD_LIBRARY_PATH", layout::cache().join("duckdb")),
        )
        .map(drop)
        .context("write man pages and completions")
    }

    fn write_documents(&self, metadata: &CargoMetadata) -> Result<()> {
        let documents = self.0.join(DOCUMENTS);
        for name in ["CHANGELOG.md", "SECURITY.md"] {
            copy(&layout::root().join(name), &documents.join(name))?;
        }
        let packages = metadata.packages_of(&PROGRAMS)?;
        let bill = bill_of_materials::render(metadata, &packages, &self.native_files()?)?;
        write(&documents.join("sbom.cdx.json"), &bill)?;
        write(&documents.join("THIRD-PARTY-LICENCES.txt"), &licences::render(&packages)?)?;
        write(&documents.join("SHA256SUMS"), &self.checksums()?)
    }

    /// Returns the name and the checksum of each file that was not compiled here.
    fn native_files(&self) -> Result<Vec<(String, String)>> {
        let library = ("duckdb".to_owned(), pins::sha256(&self.0.join("lib/libduckdb.so"))?);
        let mut files = vec![library];
        for name in EXTENSIONS {
            let path = self.0.join(format!("lib/ducktide/extensions/{name}.duckdb_extension"));
            files.push((format!("duckdb-extension-{name}"), pins::sha256(&path)?));
        }
        Ok(files)
    }

    /// Returns the checksums of all files, in the format of `sha256sum`.
    fn checksums(&self) -> Result<String> {
        let mut text = String::new();
        for path in tarball::files_of(self.0)? {
            let sha256 = pins::sha256(&self.0.join(&path))?;
            writeln!(text, "{sha256}  {}", path.display()).context("write to a string")?;
        }
        Ok(text)
    }
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    create_parent(to)?;
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    create_parent(path)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("find a parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))
}
