//! The ledger: a CSV file with one line for each record that Kafka acknowledged.
//!
//! Tests compare the lake with it, so it never lists too much: a line is written only after the
//! acknowledgement. The ledger may lag by a second (see [`Ledger::flush`]), and a producer that is
//! killed loses the lines of that second, although their records are in the topic.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// First line of each ledger.
pub const HEADER: &str = "topic,partition,offset,event_id";

/// Buffer size at which the collected lines are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// Ledger of the acknowledged records of one topic.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    /// Complete lines only, so that a reader never sees a partial line.
    lines: Vec<u8>,
    topic: String,
}

impl Ledger {
    /// Opens the ledger at `path`, or creates it. Existing lines are kept, because several runs may
    /// fill one topic. Any other existing file is rejected.
    pub fn open(path: &Path, topic: &str) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() == 0 {
            writeln!(file, "{HEADER}")?;
        } else {
            check_header(&mut file)?;
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self { file, lines: Vec::with_capacity(BUFFER_BYTES), topic: topic.to_owned() })
    }

    /// Appends an acknowledged record. `event_id` is empty for a record without an event.
    pub fn append(&mut self, partition: i32, offset: i64, event_id: &[u8]) -> io::Result<()> {
        write!(self.lines, "{},{partition},{offset},", self.topic)?;
        self.lines.extend_from_slice(event_id);
        self.lines.push(b'\n');
        // The longest line is a topic name (249 bytes), two numbers and a UUID.
        if self.lines.len() + 512 > BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes the collected lines to the file.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }
}

fn check_header(file: &mut File) -> io::Result<()> {
    let mut start = [0; HEADER.len() + 1];
    let expected = format!("{HEADER}\n");
    let read = file.read_exact(&mut start);
    if read.is_ok() && start == expected.as_bytes() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the file exists and is not a ledger; choose another file or remove it",
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn acknowledged_records_become_lines_under_the_header() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger.csv");
        let mut ledger = Ledger::open(&path, "events").expect("a new ledger");
        ledger.append(3, 17, b"3f2c8a7e-51d4-4c0b-9b64-0a6d7e1f9c25").expect("a line");
        ledger.append(0, 0, b"").expect("a line");
        ledger.flush().expect("written");
        let text = fs::read_to_string(&path).expect("a text");
        assert_eq!(
            text,
            "topic,partition,offset,event_id\n\
             events,3,17,3f2c8a7e-51d4-4c0b-9b64-0a6d7e1f9c25\n\
             events,0,0,\n"
        );
    }

    #[test]
    fn an_existing_ledger_is_appended_to() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger.csv");
        for offset in 0..2 {
            let mut ledger = Ledger::open(&path, "t").expect("a ledger");
            ledger.append(0, offset, b"").expect("a line");
            ledger.flush().expect("written");
        }
        let text = fs::read_to_string(&path).expect("a text");
        assert_eq!(text, format!("{HEADER}\nt,0,0,\nt,0,1,\n"));
    }

    #[test]
    fn a_file_that_is_not_a_ledger_is_refused_and_unchanged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, content) in [("short", "x"), ("long", &*"something else entirely\n".repeat(9))] {
            let path = folder.path().join(name);
            fs::write(&path, content).expect("written");
            let error = Ledger::open(&path, "t").expect_err("not a ledger");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(fs::read_to_string(&path).expect("a text"), content);
        }
    }

    #[test]
    fn only_complete_lines_are_written_to_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ledger.csv");
        let mut ledger = Ledger::open(&path, &"t".repeat(249)).expect("a ledger");
        for offset in 0..10_000 {
            ledger.append(i32::MAX, i64::MAX - offset, &[b'x'; 36]).expect("a line");
            if offset % 500 == 0 {
                assert!(fs::read(&path).expect("bytes").ends_with(b"\n"));
            }
        }
    }
}
