//! Prints `docs/metrics.md`, generated from the exported metrics so that it agrees with `/metrics`.
//! `cargo xtask docs` writes the page, `cargo xtask test` compares it.

mod page;

/// The page must not depend on the machine: it is compared on any.
#[expect(clippy::print_stdout, reason = "the page is the output")]
fn main() {
    let workers = [
        ("ducktide-consumer", ducktide_consumer::sample_metrics()),
        ("ducktide-compactor", ducktide_compactor::sample_metrics()),
    ];
    print!("{}", page::of(&workers));
}
