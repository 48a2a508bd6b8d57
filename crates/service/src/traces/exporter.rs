//! Exporter that logs when a collector becomes unavailable and available. Traces in between are lost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_otlp::{ExporterBuildError, SpanExporter as OtlpExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::telemetry::LogOnChange;

#[derive(Debug)]
pub(super) struct LoggedExporter {
    inner: OtlpExporter,
    log: Mutex<LogOnChange>,
}

impl LoggedExporter {
    /// Creates the exporter with the settings of the environment.
    pub(super) fn new() -> Result<Self, ExporterBuildError> {
        let inner = OtlpExporter::builder().with_http().build()?;
        Ok(Self { inner, log: Mutex::default() })
    }

    fn log_result(&self, result: &OTelSdkResult) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) if log.recovered() => tracing::info!("traces are exported again"),
            Err(error) if log.is_new(&error.to_string()) => {
                tracing::warn!(%error, "traces not exported; check OTEL_EXPORTER_OTLP_ENDPOINT");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl SpanExporter for LoggedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.inner.export(batch).await;
        self.log_result(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
