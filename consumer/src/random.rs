//! Randomness of a consumer: the only module that reads the generator of the system.

use std::time::Duration;

use rand::RngExt as _;
#[cfg(test)]
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Source of random values.
#[derive(Debug)]
pub(crate) struct Random(StdRng);

impl Random {
    /// Creates a generator with a seed of the operating system.
    #[expect(clippy::disallowed_methods, reason = "this module is the origin of randomness")]
    pub(crate) fn system() -> Self {
        Self(rand::make_rng())
    }

    /// Creates a generator whose values follow from the seed.
    #[cfg(test)]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Returns a duration that is up to 50 % longer, so that workers that failed together do not retry
    /// together.
    pub(crate) fn jittered(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(1.0 + self.0.random_range(0.0..0.5))
    }
}
