//! Export of traces by OTLP (OpenTelemetry's protocol), off by default.
//!
//! A trace is one unit of work, such as a batch, with a span for each of its steps. It is recorded from
//! outside, by the times of the steps: the work itself runs in several threads.

mod exporter;

use std::env;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use thiserror::Error;

use self::exporter::LoggedExporter;

/// Variables with the address of the collector, as OpenTelemetry names them. One of them must be set.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// Longest time that the end of a program waits for the export of its last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Invalid value of a variable for traces.
#[derive(Debug, Error)]
#[error("export traces: {reason}; correct OTEL_EXPORTER_OTLP_ENDPOINT or unset it")]
pub struct TraceError {
    reason: String,
}

/// Exporter of traces. Without a collector it does nothing.
#[derive(Debug, Default)]
pub struct Traces(Option<Exporter>);

#[derive(Debug)]
struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Creates the exporter of a program if the environment names a collector.
    ///
    /// The variables are OpenTelemetry's: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`,
    /// `OTEL_SERVICE_NAME` (default: the program), `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER` and
    /// others. An empty value counts as not set.
    pub fn from_env(program: &'static str) -> Result<Self, TraceError> {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_disabled =
            env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        if is_disabled || !ENDPOINTS.into_iter().any(is_set) {
            return Ok(Self::default());
        }
        let exporter = LoggedExporter::new();
        let exporter = exporter.map_err(|error| TraceError { reason: error.to_string() })?;
        let mut resource = Resource::builder();
        if !is_set("OTEL_SERVICE_NAME") {
            resource = resource.with_service_name(program);
        }
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.with_attribute(version).build())
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("ducktide");
        Ok(Self(Some(Exporter { provider, tracer })))
    }

    /// Starts a trace whose work began at a time.
    #[must_use]
    pub fn start(&self, name: &'static str, began: Instant) -> Trace {
        let Some(Exporter { tracer, .. }) = &self.0 else { return Trace(None) };
        let root = SpanBuilder::from_name(name).with_start_time(time_of(began));
        let root = tracer.build_with_context(root, &Context::new());
        Trace(Some(Recording {
            tracer: tracer.clone(),
            root: Context::new().with_span(root),
            step_began: began,
        }))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(Exporter { provider, .. }) = &self.0 {
            // A collector that is not available must not delay the end of the program.
            let _ = provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Trace of one unit of work. It is exported when it ends or is dropped.
#[derive(Debug, Default)]
pub struct Trace(Option<Recording>);

#[derive(Debug)]
struct Recording {
    tracer: SdkTracer,
    root: Context,
    step_began: Instant,
}

impl Trace {
    /// Returns the identifier, 32 hexadecimal digits, for log lines; None if traces are not exported.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        let Recording { root, .. } = self.0.as_ref()?;
        Some(root.span().span_context().trace_id().to_string())
    }

    /// Adds the step that began at the end of the step before it and ends now.
    pub fn end_step(&mut self, name: &'static str, now: Instant) {
        let Some(Recording { tracer, root, step_began }) = &mut self.0 else { return };
        let step = SpanBuilder::from_name(name).with_start_time(time_of(*step_began));
        tracer.build_with_context(step, root).end_with_timestamp(time_of(now));
        *step_began = now;
    }

    /// Adds an attribute of the whole work.
    pub fn set(&self, name: &'static str, value: i64) {
        if let Some(Recording { root, .. }) = &self.0 {
            root.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// Ends the trace; `error` is the reason if the work failed.
    pub fn end(self, now: Instant, error: Option<&str>) {
        let Some(Recording { root, .. }) = &self.0 else { return };
        if let Some(error) = error {
            root.span().set_status(Status::error(error.to_owned()));
        }
        root.span().end_with_timestamp(time_of(now));
    }
}

/// Returns the time of the system's clock at an instant.
fn time_of(instant: Instant) -> SystemTime {
    let (now, system) = (Instant::now(), SystemTime::now());
    match now.checked_duration_since(instant) {
        Some(passed) => system - passed,
        None => system + instant.duration_since(now),
    }
}
