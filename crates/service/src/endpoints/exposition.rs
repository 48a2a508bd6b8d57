//! Text formats of metrics: `OpenMetrics`, and Prometheus' older format 0.0.4.
//!
//! They differ in the name of a counter's metadata (`# TYPE rows counter` for the series `rows_total`;
//! in the older format these are two metrics), and in the lines `# UNIT` and `# EOF`.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// Encodes all metrics of a registry as `OpenMetrics`.
#[must_use]
pub fn open_metrics(registry: &Registry) -> String {
    let mut written = String::new();
    text::encode(&mut written, registry).expect("a string takes any text");
    written
}

/// Converts `OpenMetrics` to the format 0.0.4.
pub(super) fn plain_text(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", _, text] => help = text,
            ["#", "TYPE", name, kind] => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                plain.extend(["# HELP ", name, suffix, " ", help, "\n"]);
                plain.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
            }
            ["#", ..] => {}
            _ => {
                plain.extend([line, "\n"]);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn metadata_of_a_counter_has_the_name_of_its_series() {
        let mut registry = Registry::with_prefix("ducktide");
        let (rows, memory) = (<Counter>::default(), <Gauge>::default());
        registry.register("rows", "Rows in the lake", rows.clone());
        registry.register_with_unit("memory", "Memory in use", Unit::Bytes, memory.clone());
        rows.inc_by(3);
        memory.set(5);

        let text = plain_text(&open_metrics(&registry));

        assert_eq!(
            text,
            "# HELP ducktide_rows_total Rows in the lake.\n\
             # TYPE ducktide_rows_total counter\n\
             ducktide_rows_total 3\n\
             # HELP ducktide_memory_bytes Memory in use.\n\
             # TYPE ducktide_memory_bytes gauge\n\
             ducktide_memory_bytes 5\n"
        );
    }
}
