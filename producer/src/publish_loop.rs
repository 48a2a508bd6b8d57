//! The publish loop: creates, encodes and sends records on its own thread.

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
use crate::publisher::delivery_context::{DeliveryContext, HOLDS_EVENT, HOLDS_NO_EVENT, Totals};
use crate::publisher::{Publisher, SendOutcome};
use crate::stop_request::StopRequest;
use crate::traffic::Traffic;

/// Connects, publishes all records and waits for the acknowledgements. Returns the time spent
/// publishing, without the time spent connecting.
pub(crate) fn publish(
    config: &Config,
    schema_id: u32,
    totals: Arc<Totals>,
    stop: &StopRequest,
) -> Result<Duration, ProducerError> {
    let deliveries = DeliveryContext::new(totals, open_ledger(config)?);
    let mut publisher = Publisher::connect(config, deliveries, stop)?;
    let started = Instant::now();
    let outcome = PublishLoop::new(config, schema_id, &publisher, stop).run();
    publisher.finish(stop, config.topic.shutdown_timeout);
    publisher.deliveries().report_failures();
    publisher.check_refusal()?;
    outcome?;
    check_ledger(config, &publisher)?;
    Ok(started.elapsed())
}

fn open_ledger(config: &Config) -> Result<Option<Ledger>, ProducerError> {
    let open = |path: &PathBuf| {
        Ledger::open(path, &config.topic.topic)
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

/// State of one run, with buffers that are reused for each record.
struct PublishLoop<'a> {
    config: &'a Config,
    publisher: &'a Publisher,
    stop: &'a StopRequest,
    clock: Clock,
    pacer: Pacer,
    traffic: Traffic,
    encoder: Encoder,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> PublishLoop<'a> {
    fn new(
        config: &'a Config,
        schema_id: u32,
        publisher: &'a Publisher,
        stop: &'a StopRequest,
    ) -> Self {
        Self {
            config,
            publisher,
            stop,
            clock: config.clock,
            pacer: Pacer::new(config.rate),
            traffic: Traffic::new(config.seed, config.mix),
            encoder: Encoder::new(schema_id),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Runs all loops, or stops early on request.
    fn run(&mut self) -> Result<(), ProducerError> {
        let loops = self.config.loops.unwrap_or(u64::MAX);
        for done in 0..loops {
            if done > 0 {
                self.pause();
            }
            if self.run_loop()? == SendOutcome::Stopped {
                break;
            }
        }
        Ok(())
    }

    fn pause(&mut self) {
        if !self.config.delay.is_zero() {
            self.stop.sleep(self.config.delay);
            self.pacer.restart();
        }
    }

    fn run_loop(&mut self) -> Result<SendOutcome, ProducerError> {
        for _ in 0..self.config.rows {
            if let Some(wait) = self.pacer.next() {
                self.stop.sleep(wait);
                self.publisher.await_acknowledgements(self.stop);
            }
            if self.is_stopped() || self.send_record()? == SendOutcome::Stopped {
                return Ok(SendOutcome::Stopped);
            }
        }
        Ok(SendOutcome::Queued)
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_requested() || self.publisher.deliveries().has_ledger_failed()
    }

    fn send_record(&mut self) -> Result<SendOutcome, ProducerError> {
        let record = self.traffic.record(self.clock.now());
        self.encoder.encode(&record.event, &mut self.value);
        let mut holds = HOLDS_EVENT;
        if let Some(poison) = record.poison {
            poison.corrupt(&mut self.value);
            holds = HOLDS_NO_EVENT;
        }
        self.key.clear();
        write!(self.key, "{}", record.event.key()).expect("writing to memory cannot fail");
        self.publisher.send(&self.key, &self.value, holds, self.stop)
    }
}
