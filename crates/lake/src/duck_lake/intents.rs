//! Intents of replays.

use ducktide_protocol::error::Result;

use super::DuckLake;
use crate::catalog::intent::{self, Intent};

impl DuckLake {
    /// Returns the intents that have not expired.
    pub fn live_intents(&mut self) -> Result<Vec<Intent>> {
        intent::live_intents(self.session()?)
    }

    /// Announces an intent. Fails while another intent of the same source is live.
    pub fn announce(&mut self, intent: &Intent) -> Result<()> {
        intent::announce(self.session()?, intent)
    }

    /// Updates kind and expiry of an intent, when the removal begins or takes longer.
    pub fn renew(&mut self, intent: &Intent) -> Result<()> {
        intent::renew(self.session()?, intent)
    }

    /// Deletes an intent.
    pub fn withdraw(&mut self, intent: &Intent) -> Result<()> {
        intent::withdraw(self.session()?, intent)
    }
}
