//! Prints `docs/configuration.md`, generated from the flags of the programs so that it agrees with
//! `--help`. `cargo xtask docs` writes the page, `cargo xtask test` compares it.

mod help_text;
mod page;
mod settings;

use clap::CommandFactory as _;

/// The page must not depend on the machine: it is compared on any.
#[expect(clippy::print_stdout, reason = "the page is the output")]
fn main() {
    let programs = [
        ducktide_producer::Args::command(),
        ducktide_consumer::Args::command(),
        ducktide_compactor::Args::command(),
        ducktide::Args::command(),
    ];
    print!("{}", page::of(programs));
}
