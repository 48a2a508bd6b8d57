//! Local services, end-to-end tests, benchmarks and the demonstration.
