//! Arguments of the compactor, with intervals and ages scaled down from hours and days to seconds.

/// Arguments of `run`.
pub const RUN: &[&str] = &[
    "run",
    "--target-file-size",
    "2MiB",
    "--tiers",
    "16KiB,128KiB",
    "--tier-intervals",
    "2s,5s,10s",
    "--cold-after",
    "30s",
    "--expire-interval",
    "10s",
    "--cleanup-interval",
    "10s",
    "--orphans-interval",
    "15s",
    "--expire-older-than",
    "2m",
    "--delete-older-than",
    "2m",
    // Longer than the longest pause of a worker that has uncommitted files.
    "--orphans-older-than",
    "2m",
    "--max-transaction",
    "30s",
    "--max-orphans",
    "1",
    "--memory-limit",
    "256MiB",
    "--accept-retention-that-breaks-readers",
];

/// Arguments of `once` after all other programs have ended: minimum ages of one second.
pub const ONCE: &[&str] = &[
    "once",
    "--target-file-size",
    "2MiB",
    "--tiers",
    "16KiB,128KiB",
    "--expire-older-than",
    "1s",
    "--delete-older-than",
    "1s",
    "--orphans-older-than",
    "1s",
    "--max-transaction",
    "0.2",
    "--max-orphans",
    "1",
    "--accept-retention-that-breaks-readers",
];
