//! Reader of a part of a file.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;

/// Part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Path of the file.
    pub path: PathBuf,
    /// Positions of the bytes.
    pub bytes: Range<u64>,
}

/// Reader of a part of a file. A local file is read when it is asked for; a part of an object is in memory.
#[derive(Debug)]
pub struct FileReader(Part);

#[derive(Debug)]
enum Part {
    Local(File),
    Remote { bytes: Bytes, start: u64 },
}

impl FileReader {
    pub(crate) const fn local(file: File) -> Self {
        Self(Part::Local(file))
    }

    pub(crate) const fn remote(bytes: Bytes, start: u64) -> Self {
        Self(Part::Remote { bytes, start })
    }

    /// Reads bytes from a position of the file. They must be within the part.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let (bytes, start) = match &self.0 {
            Part::Local(file) => return file.read_exact_at(buffer, position),
            Part::Remote { bytes, start } => (bytes, start),
        };
        let begin = position.checked_sub(*start).and_then(|begin| usize::try_from(begin).ok());
        let found = begin.and_then(|begin| bytes.get(begin..)?.get(..buffer.len()));
        let found = found.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}
