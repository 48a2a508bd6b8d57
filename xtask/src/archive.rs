//! Extracts the archives of the package registries: wheels (zip) and gzipped tars.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use flate2::read::GzDecoder;

/// Calls `visit` with path, permission bits and content of each regular file in the archive.
fn for_each_file(
    archive: &Path,
    visit: &mut dyn FnMut(&Path, u32, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    match archive.extension().and_then(|extension| extension.to_str()) {
        Some("whl") => for_each_zipped(file, visit),
        Some("tgz" | "gz") => for_each_tarred(file, visit),
        _ => bail!("unknown archive format file=`{}`", archive.display()),
    }
}

type Visit<'a> = &'a mut dyn FnMut(&Path, u32, &mut dyn Read) -> Result<()>;

fn for_each_zipped(file: File, visit: Visit<'_>) -> Result<()> {
    let mut archive = zip::ZipArchive::new(file).context("open zip archive")?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).context("read zip archive")?;
        if entry.is_file() {
            let path = PathBuf::from(entry.name());
            let mode = entry.unix_mode().unwrap_or(0o644);
            visit(&path, mode, &mut entry)?;
        }
    }
    Ok(())
}

fn for_each_tarred(file: File, visit: Visit<'_>) -> Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    for entry in archive.entries().context("open tar archive")? {
        let mut entry = entry.context("read tar archive")?;
        if entry.header().entry_type().is_file() {
            let path = entry.path().context("read path in tar archive")?.into_owned();
            let mode = entry.header().mode().context("read mode in tar archive")?;
            visit(&path, mode, &mut entry)?;
        }
    }
    Ok(())
}

/// Extracts the files whose path ends with one of `ends`; returns the targets of those that were
/// found.
pub(crate) fn pick(archive: &Path, ends: &[(&str, PathBuf)]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for_each_file(archive, &mut |path, mode, content| {
        let wanted = ends.iter().find(|(end, _)| path.to_string_lossy().ends_with(end));
        if let Some((_, target)) = wanted {
            write(target, mode, content)?;
            found.push(target.clone());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Extracts every file below `prefix` into `folder`, with the same relative path.
pub(crate) fn tree(archive: &Path, prefix: &str, folder: &Path) -> Result<()> {
    for_each_file(archive, &mut |path, mode, content| {
        let Ok(relative) = path.strip_prefix(prefix) else { return Ok(()) };
        if !relative.components().all(|component| matches!(component, Component::Normal(_))) {
            bail!("archive contains a path outside its folder path=`{}`", path.display());
        }
        write(&folder.join(relative), mode, content)
    })
}

/// Writes to a temporary file next to the target and renames it, so that no program reads a partial
/// file. A target with the same content is not changed, because cargo would rebuild everything that
/// depends on its modification time.
fn write(target: &Path, mode: u32, content: &mut dyn Read) -> Result<()> {
    let describe = || format!("write {}", target.display());
    fs::create_dir_all(target.parent().expect("targets have a parent folder"))
        .with_context(describe)?;
    let mut fresh = target.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    io::copy(content, &mut File::create(&fresh).with_context(describe)?).with_context(describe)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode & 0o755 | 0o444))
        .with_context(describe)?;
    if same_content(&fresh, target) {
        return fs::remove_file(&fresh).with_context(describe);
    }
    fs::rename(&fresh, target).with_context(describe)
}

fn same_content(a: &Path, b: &Path) -> bool {
    let same_length = matches!(
        (fs::metadata(a), fs::metadata(b)),
        (Ok(a), Ok(b)) if a.len() == b.len()
    );
    same_length && matches!((fs::read(a), fs::read(b)), (Ok(a), Ok(b)) if a == b)
}
