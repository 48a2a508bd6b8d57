//! Small file system that can be filled up or set read-only.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::watchdog::Watchdog;

/// File system in memory, mounted at a folder; unmounted when dropped or when this process ends.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    watchdog: Option<Watchdog>,
}

/// File that fills the disk.
const FILLER: &str = ".filler";

const UNMOUNT: &str = r#"umount -l "$1""#;

impl SmallDisk {
    /// Mounts a file system of `mebibytes` MiB. Needs root.
    pub fn mount(folder: &Path, mebibytes: u32) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let size = format!("size={mebibytes}m,mode=0777");
        let arguments = ["-t", "tmpfs", "-o", &size, "ducktide"].map(OsStr::new);
        run("mount", arguments.into_iter().chain([folder.as_os_str()]))?;
        let watchdog = Watchdog::start(UNMOUNT, &[folder.as_os_str()]).context("start a watchdog");
        Ok(Self { folder: folder.to_owned(), watchdog: Some(watchdog?) })
    }

    /// Fills the disk completely.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::create(self.folder.join(FILLER)).context("create filler")?;
        let block = vec![0; 1 << 20];
        for size in [block.len(), 4096, 1] {
            while filler.write_all(&block[..size]).is_ok() {}
        }
        Ok(())
    }

    /// Frees the space that [`fill`](Self::fill) has used.
    pub fn free_space(&self) -> Result<()> {
        match fs::remove_file(self.folder.join(FILLER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("remove filler")
            }
            _ => Ok(()),
        }
    }

    /// Sets the disk read-only or writable. Fails while a file is open for writing.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        let arguments = ["-o", options].map(OsStr::new);
        run("mount", arguments.into_iter().chain([self.folder.as_os_str()]))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = run("umount", ["-l".as_ref(), self.folder.as_os_str()]);
        if let (Ok(()), Some(watchdog)) = (unmounted, self.watchdog.take()) {
            watchdog.release();
        }
    }
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", errors.trim());
    Ok(())
}
