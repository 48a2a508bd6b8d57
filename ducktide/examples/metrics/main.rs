//! Prints `docs/metrics.md`, made from what the workers export, so that the page cannot say anything
//! else than `/metrics` does. `cargo xtask docs` writes it, `cargo xtask test` compares.

mod page;

/// Nothing of the machine it runs on may show: the page is compared wherever it is made.
#[expect(clippy::print_stdout, reason = "the page is what was asked for")]
fn main() {
    let workers = [
        ("ducktide-consumer", ducktide_consumer::sample_metrics()),
        ("ducktide-compactor", ducktide_compactor::sample_metrics()),
    ];
    print!("{}", page::of(&workers));
}
