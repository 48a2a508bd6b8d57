//! Names of data files.

use uuid::Uuid;

/// Length of a UUID as text, with hyphens.
const UUID_LENGTH: usize = 36;

/// Returns whether a name is `ducktide-<uuid>.parquet`, `ducklake-<uuid>.parquet` or
/// `ducklake-<uuid>-delete.parquet`.
#[must_use]
pub fn is_file_of_a_lake(name: &str) -> bool {
    let rest = |prefix: &str, suffix: &str| name.strip_prefix(prefix)?.strip_suffix(suffix);
    let uuids = [
        rest("ducktide-", ".parquet"),
        rest("ducklake-", "-delete.parquet"),
        rest("ducklake-", ".parquet"),
    ];
    // Only the form with hyphens has this length.
    let is_uuid = |text: &&str| text.len() == UUID_LENGTH && Uuid::try_parse(text).is_ok();
    uuids.iter().flatten().any(is_uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0193f2a1-7c3e-7b1a-9d2f-0123456789ab";

    #[test]
    fn only_generated_names_are_recognized() {
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
