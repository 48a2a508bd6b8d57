//! Writer of a new file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::remote::Upload;

/// Writer of a new file.
///
/// Dropped before [`finish`](Self::finish), it leaves an incomplete local file, which the caller removes,
/// and aborts the upload of an object.
#[derive(Debug)]
pub struct FileWriter {
    target: Target,
    written: u64,
    /// Last bytes, oldest first.
    last: [u8; LAST],
}

/// Number of last bytes that a writer keeps: a Parquet file ends with the size of its footer and `PAR1`.
const LAST: usize = 8;

#[derive(Debug)]
enum Target {
    Local(File),
    Remote(Box<Upload>),
}

impl FileWriter {
    pub(crate) const fn local(file: File) -> Self {
        Self { target: Target::Local(file), written: 0, last: [0; LAST] }
    }

    pub(crate) fn remote(upload: Upload) -> Self {
        Self { target: Target::Remote(Box::new(upload)), written: 0, last: [0; LAST] }
    }

    /// Returns the number of bytes written.
    #[must_use]
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Returns the last bytes of the file.
    #[must_use]
    pub const fn last_bytes(&self) -> [u8; LAST] {
        self.last
    }

    /// Returns the memory for data that the store has not received yet, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.target {
            Target::Local(_) => 0,
            Target::Remote(upload) => upload.memory(),
        }
    }

    /// Completes the file. An object is durable afterwards; [`Storage::make_durable`] syncs a local file.
    ///
    /// After an error the file must not be used, and can be removed.
    ///
    /// [`Storage::make_durable`]: crate::Storage::make_durable
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Local(_) => Ok(()),
            Target::Remote(upload) => upload.finish(),
        }
    }

    /// Removes the incomplete file of this path, or aborts the upload. No commit may have been attempted
    /// with it.
    pub fn abandon(&mut self, path: &Path) -> io::Result<()> {
        match &mut self.target {
            Target::Local(_) => std::fs::remove_file(path),
            Target::Remote(upload) => upload.abort(),
        }
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.target {
            Target::Local(file) => file.write(bytes)?,
            Target::Remote(upload) => upload.write(bytes)?,
        };
        self.written += count as u64;
        let kept = count.min(LAST);
        self.last.rotate_left(kept);
        self.last[LAST - kept..].copy_from_slice(&bytes[count - kept..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Local(file) => file.flush(),
            Target::Remote(_) => Ok(()),
        }
    }
}
