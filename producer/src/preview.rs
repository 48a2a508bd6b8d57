//! Prints events instead of publishing them.

use std::io::{self, Write};

use crate::config::Config;
use crate::traffic::Traffic;

/// Writes each record of the run as a JSON line: an event in the shape it has in the lake, or the
/// kind of poison. A reader that closes the pipe early, as `head` does, ends the output without an
/// error.
pub fn print(config: &Config, out: &mut impl Write) -> io::Result<()> {
    match print_records(config, out) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn print_records(config: &Config, out: &mut impl Write) -> io::Result<()> {
    let (mut traffic, mut clock) = (Traffic::new(config.seed, config.mix), config.clock);
    for _ in 0..config.total_rows().unwrap_or(u64::MAX) {
        let record = traffic.record(clock.now());
        match record.poison {
            None => serde_json::to_writer(&mut *out, &record.event)?,
            Some(poison) => write!(out, r#"{{"poison":"{poison:?}"}}"#)?,
        }
        writeln!(out)?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Args;

    fn printed(flags: &[&str]) -> String {
        let args = Args::parse_from(std::iter::once(&"ducktide-producer").chain(flags));
        let mut out = Vec::new();
        print(&Config::try_from(args).expect("valid"), &mut out).expect("memory takes it");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn each_record_is_a_json_line() {
        let text = printed(&["--rows", "20", "--loops", "2", "--poison", "0.3", "--seed", "1"]);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 40);
        assert!(lines.iter().any(|line| line["details"].is_object()));
        assert!(lines.iter().any(|line| line["poison"].is_string()));
    }

    #[test]
    fn a_seed_and_a_start_time_reproduce_the_data() {
        let flags = [
            "--rows",
            "50",
            "--seed",
            "9",
            "--start-time",
            "2026-01-01T00:00:00Z",
            "--late",
            "0.2",
            "--duplicates",
            "0.2",
            "--poison",
            "0.1",
        ];
        assert_eq!(printed(&flags), printed(&flags));
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        struct ClosedPipe;
        impl Write for ClosedPipe {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let args = Args::parse_from(["ducktide-producer", "--continuous"]);
        print(&Config::try_from(args).expect("valid"), &mut ClosedPipe).expect("not an error");
    }
}
