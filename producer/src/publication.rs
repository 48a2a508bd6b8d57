//! The publishing thread's work: make, encode and send records, loop after loop.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::Config;
use crate::encoder::Encoder;
use crate::error::ProducerError;
use crate::ledger::Ledger;
use crate::pacer::Pacer;
use crate::publisher::deliveries::{Deliveries, HOLDS_EVENT, HOLDS_NO_EVENT, Totals};
use crate::publisher::{Publisher, Sent};
use crate::stop::Stop;
use crate::traffic::Traffic;

/// Connects, publishes everything, and waits for the acknowledgements. Returns how long the
/// publishing took, connecting not included.
pub(crate) fn publish(
    config: &Config,
    schema_id: u32,
    totals: Arc<Totals>,
    stop: &Stop,
) -> Result<Duration, ProducerError> {
    let deliveries = Deliveries::new(totals, open_ledger(config)?);
    let mut publisher = Publisher::connect(&config.kafka, deliveries, stop)?;
    let begun = Instant::now();
    let outcome = Publication::new(config, schema_id, &publisher, stop).run();
    publisher.finish(stop, config.kafka.shutdown_timeout);
    publisher.deliveries().report_failures();
    outcome?;
    check_ledger(config, &publisher)?;
    Ok(begun.elapsed())
}

fn open_ledger(config: &Config) -> Result<Option<Ledger>, ProducerError> {
    let open = |path: &PathBuf| {
        Ledger::open(path, &config.kafka.topic)
            .map_err(|source| ProducerError::Ledger { path: path.clone(), source })
    };
    config.ledger.as_ref().map(open).transpose()
}

fn check_ledger(config: &Config, publisher: &Publisher) -> Result<(), ProducerError> {
    match (publisher.deliveries().take_ledger_error(), &config.ledger) {
        (Some(source), Some(path)) => Err(ProducerError::Ledger { path: path.clone(), source }),
        _ => Ok(()),
    }
}

/// One run's state, with buffers that each record uses again.
struct Publication<'a> {
    config: &'a Config,
    publisher: &'a Publisher,
    stop: &'a Stop,
    clock: Clock,
    traffic: Traffic,
    encoder: Encoder,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Publication<'a> {
    fn new(config: &'a Config, schema_id: u32, publisher: &'a Publisher, stop: &'a Stop) -> Self {
        Self {
            config,
            publisher,
            stop,
            clock: config.clock,
            traffic: Traffic::new(config.seed, config.mix),
            encoder: Encoder::new(schema_id),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// All loops, or as many as there is time for before a request to stop.
    fn run(&mut self) -> Result<(), ProducerError> {
        let loops = self.config.loops.unwrap_or(u64::MAX);
        for done in 0..loops {
            if done > 0 {
                self.stop.sleep(self.config.delay);
            }
            if self.run_loop()? == Sent::Stopped {
                break;
            }
        }
        Ok(())
    }

    fn run_loop(&mut self) -> Result<Sent, ProducerError> {
        let begun = Instant::now();
        let pacer = Pacer::new(self.config.rate);
        for sent in 0..self.config.rows {
            if let Some(wait) = pacer.wait(sent, || begun.elapsed()) {
                self.stop.sleep(wait);
            }
            if self.is_stopped() || self.send_record()? == Sent::Stopped {
                return Ok(Sent::Stopped);
            }
        }
        Ok(Sent::Queued)
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_requested() || self.publisher.deliveries().is_broken()
    }

    fn send_record(&mut self) -> Result<Sent, ProducerError> {
        let record = self.traffic.record(self.clock.now());
        self.encoder.encode(&record.event, &mut self.value);
        let mut holds = HOLDS_EVENT;
        if let Some(poison) = record.poison {
            poison.spoil(&mut self.value);
            holds = HOLDS_NO_EVENT;
        }
        self.key.clear();
        write!(self.key, "{}", record.event.key()).expect("writing to memory cannot fail");
        self.publisher.send(&self.key, &self.value, holds, self.stop)
    }
}
