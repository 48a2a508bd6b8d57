//! Prints `docs/configuration.md`, made from the programs' own flags, so that the page cannot say
//! anything else than `--help` does. `cargo xtask docs` writes it, `cargo xtask test` compares.

mod help_text;
mod page;
mod settings;

use clap::CommandFactory as _;

/// Nothing of the machine it runs on may show: the page is compared wherever it is made.
#[expect(clippy::print_stdout, reason = "the page is what was asked for")]
fn main() {
    let programs = [
        ducktide_producer::Args::command(),
        ducktide_consumer::Args::command(),
        ducktide_compactor::Args::command(),
        ducktide::Args::command(),
    ];
    print!("{}", page::of(programs));
}
