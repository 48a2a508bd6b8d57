//! A tar archive that depends on its contents only: sorted, without owners and times.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use tar::{Builder, EntryType, Header};

/// Writes all files of a folder, below `root` in the archive.
pub(super) fn write(folder: &Path, root: &str, archive: &Path) -> Result<()> {
    let file = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut builder = Builder::new(GzEncoder::new(file, Compression::default()));
    for path in files_of(folder)? {
        append(&mut builder, &folder.join(&path), &Path::new(root).join(&path))
            .with_context(|| format!("add {} to the archive", path.display()))?;
    }
    let encoder = builder.into_inner().context("finish the archive")?;
    encoder.finish().context("finish the compression")?;
    Ok(())
}

fn append(builder: &mut Builder<impl std::io::Write>, file: &Path, path: &Path) -> Result<()> {
    let content = File::open(file)?;
    let metadata = content.metadata()?;
    let is_program = metadata.permissions().mode() & 0o100 != 0;
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(metadata.len());
    header.set_mode(if is_program { 0o755 } else { 0o644 });
    header.set_mtime(0);
    builder.append_data(&mut header, path, content)?;
    Ok(())
}

/// Returns the paths of all files below a folder, relative to it and sorted.
pub(super) fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        let entries = fs::read_dir(folder.join(&relative));
        for entry in entries.with_context(|| format!("list {}", folder.display()))? {
            let entry = entry.context("list a folder")?;
            let path = relative.join(entry.file_name());
            let is_folder = entry.file_type().context("list a folder")?.is_dir();
            if is_folder { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn an_archive_of_the_same_files_has_the_same_bytes() {
        let base = env::temp_dir().join(format!("ducktide-tarball-{}", process::id()));
        let archive_of = |name: &str| {
            let folder = base.join(name);
            fs::create_dir_all(folder.join("bin")).unwrap();
            fs::write(folder.join("bin/b"), "program").unwrap();
            fs::set_permissions(folder.join("bin/b"), fs::Permissions::from_mode(0o711)).unwrap();
            fs::write(folder.join("a"), "text").unwrap();
            let archive = base.join(format!("{name}.tar.gz"));
            write(&folder, "root", &archive).unwrap();
            fs::read(archive).unwrap()
        };
        assert_eq!(archive_of("first"), archive_of("second"));
        let listed = files_of(&base.join("first")).unwrap();
        assert_eq!(listed, [PathBuf::from("a"), PathBuf::from("bin/b")]);
        fs::remove_dir_all(base).unwrap();
    }
}
