//! Names of data files.

use uuid::Uuid;

/// How long a UUID is as text.
const UUID_LENGTH: usize = 36;

/// `ducktide-<uuid>.parquet`, `ducklake-<uuid>.parquet` or `ducklake-<uuid>-delete.parquet`.
#[must_use]
pub fn is_file_of_a_lake(name: &str) -> bool {
    let rest = |prefix: &str, suffix: &str| name.strip_prefix(prefix)?.strip_suffix(suffix);
    let uuids = [
        rest("ducktide-", ".parquet"),
        rest("ducklake-", "-delete.parquet"),
        rest("ducklake-", ".parquet"),
    ];
    // Only the spelling with hyphens has this length.
    let is_uuid = |text: &&str| text.len() == UUID_LENGTH && Uuid::try_parse(text).is_ok();
    uuids.iter().flatten().any(is_uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0193f2a1-7c3e-7b1a-9d2f-0123456789ab";

    #[test]
    fn only_names_that_are_made_up_for_files_are_looked_at() {
        for name in ["ducktide-@.parquet", "ducklake-@.parquet", "ducklake-@-delete.parquet"] {
            assert!(is_file_of_a_lake(&name.replace('@', UUID)), "{name}");
        }
        for name in [
            "@.parquet",
            "data_@.parquet",
            "ducktide-@-delete.parquet",
            "ducktide-@.parquet.tmp",
            "my-ducktide-@.parquet",
            "ducktide-@0.parquet",
            "ducktide-events.parquet",
            "ducktide-.parquet",
        ] {
            assert!(!is_file_of_a_lake(&name.replace('@', UUID)), "{name}");
        }
        assert!(!is_file_of_a_lake("ducktide-0193f2a17c3e7b1a9d2f0123456789ab0000.parquet"));
    }
}
