//! Numbers and sizes of files, and the limits of their classes.

/// Default target size of merges, for a lake without `target_file_size`. DuckLake's own default is
/// 512 MiB; merges of half of that end sooner, and reads are hardly slower.
pub const DEFAULT_TARGET_BYTES: u64 = 256 << 20;

/// Limits of the size classes of files, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Files below it are tiny, such as those of single commits of a quiet topic.
    pub tiny_bytes: u64,
    /// Files below it are small: opening one costs more than reading its rows.
    pub small_bytes: u64,
    /// Target of tables without `target_file_size`.
    pub default_target_bytes: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            tiny_bytes: 1 << 20,
            small_bytes: 16 << 20,
            default_target_bytes: DEFAULT_TARGET_BYTES,
        }
    }
}

/// Number and size of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// Number of files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

impl std::ops::AddAssign for FileCount {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}
