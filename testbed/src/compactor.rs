//! The compactor, with everything that it waits for scaled down from hours and days to seconds.

/// What it is told to do for ever: `run`.
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
    // Longer than any worker sleeps with files in its hands.
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

/// What it is told once nobody else is there: nothing is too young, except what is made now.
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
