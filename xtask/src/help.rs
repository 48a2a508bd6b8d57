//! The text of `cargo xtask --help`.

use crate::handover;

#[expect(clippy::print_stdout, reason = "help is what was asked for")]
pub(crate) fn print() {
    println!("{HEAD}");
    for verb in handover::VERBS {
        println!("  {:<10} {}", verb.name, verb.summary);
    }
    println!("{TAIL}");
}

const HEAD: &str = "\
Sets the workspace up and runs its verbs.

Usage: cargo xtask VERB [ARGUMENTS]

Verbs:
  setup      Brings what the build and the local services need: checks the native tools (and
             installs them on Debian, as root), downloads the rest. Everything downloaded is pinned
             by version and SHA-256 in xtask/pins.txt and kept in .ducktide/. Quick when all is in
             place; every other verb calls it first. `--for-build` leaves the services out.
  test       Every check: format, spelling, licences, unused dependencies, clippy, documentation,
             unit tests, end-to-end tests on real services. One that fails does not stop the rest; a
             summary says how each went. Steps that compute, and the local stack, run next to the
             end-to-end tests. `--fast` runs format, lints, unit tests and one end-to-end test for
             each area; `cargo xtask test STEP...` some steps only; `--list` names them.
  compose-test
             The local stack of docker-compose.yml on a Docker engine: up, scaled, consumers and
             PostgreSQL killed, replayed, drained and proved, down and up again; the same more
             briefly with SQLite. An engine that runs is used, or root starts one; Compose is built
             by Go where the client has none; images that cannot be pulled are stood in for (see
             testbed/stand-ins). `--from-source` compiles our image's programs within the image,
             `--no-build` takes those in target/release as they are. A step of `test`, too; where no
             engine can be had, `test` skips it and says so, and this verb fails.
  docs       Writes docs/configuration.md from the programs' flags. `--check` only compares.";

const TAIL: &str = "
Environment:
  DUCKTIDE_SERVICES=containers  Services run as containers instead of child processes.

Examples:
  cargo xtask demo
  cargo xtask setup && cargo build --release
  cargo xtask test format clippy
  cargo xtask services          # then paste the exports it prints into another terminal";
