//! Column chunks in memory, readable by the Parquet library.

use std::io;

use bytes::{Buf as _, Bytes};
use ducktide_storage::FileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a file, addressed by their positions in it.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    bytes: Bytes,
    start: u64,
}

impl Chunk {
    /// Reads one column chunk, at its own position.
    pub(super) fn load(file: &FileReader, metadata: &ColumnChunkMetaData) -> io::Result<Self> {
        let chunk = Self::splice([(file, metadata)].into_iter())?;
        Ok(Self { start: metadata.byte_range().0, ..chunk })
    }

    /// Reads column chunks and concatenates them, from position 0.
    pub(super) fn splice<'a>(
        parts: impl Iterator<Item = (&'a FileReader, &'a ColumnChunkMetaData)>,
    ) -> io::Result<Self> {
        let mut bytes = Vec::new();
        for (file, metadata) in parts {
            let (start, length) = metadata.byte_range();
            let end = bytes.len();
            bytes.resize(end + usize::try_from(length).map_err(io::Error::other)?, 0);
            file.read_exact_at(&mut bytes[end..], start)?;
        }
        Ok(Self { bytes: bytes.into(), start: 0 })
    }

    /// Reads the end of a file, from a position on.
    pub(super) fn tail(file: &FileReader, start: u64, file_bytes: u64) -> io::Result<Self> {
        let length = usize::try_from(file_bytes.saturating_sub(start)).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start)?;
        Ok(Self { bytes: bytes.into(), start })
    }

    fn after(&self, position: u64) -> Result<Bytes> {
        let offset = position.checked_sub(self.start);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        match offset {
            Some(offset) if offset <= self.bytes.len() => Ok(self.bytes.slice(offset..)),
            _ => Err(ParquetError::EOF(format!("{position} is outside the column chunk"))),
        }
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(self.after(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.after(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on are not there")));
        }
        Ok(bytes.slice(..length))
    }
}
