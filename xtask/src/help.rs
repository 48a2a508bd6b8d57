//! The text of `cargo xtask --help`.

use crate::testbed_verbs;

#[expect(clippy::print_stdout, reason = "the help is printed")]
pub(crate) fn print() {
    println!("{HEAD}");
    for verb in testbed_verbs::VERBS {
        println!("  {:<10} {}", verb.name, verb.summary);
    }
    println!("{TAIL}");
}

const HEAD: &str = "\
Sets up the workspace and runs its verbs.

Usage: cargo xtask VERB [ARGUMENTS]

Verbs:
  setup      Installs the requirements of the build and of the local services: checks the native
             tools (and installs them on Debian, as root), downloads the rest. Downloads are pinned
             by version and SHA-256 in xtask/pins.txt and stored in .ducktide/. Fast if everything is
             installed; every other verb runs it first. `--for-build` omits the services.
  test       Runs all checks: format, spelling, vocabulary, licences, unused dependencies, clippy,
             documentation, unit tests, end-to-end tests with real services. A failed step does not
             stop the others; a summary lists the results. CPU-bound steps and the local stack run
             concurrently with the end-to-end tests. `--fast` runs format, lints, unit tests and one
             end-to-end test per area; `cargo xtask test STEP...` runs only these steps; `--list`
             lists the steps.
  compose-test
             Tests the local stack of docker-compose.yml on a Docker engine: starts and scales it,
             kills consumers and PostgreSQL, replays, compares lake and ledger, stops and restarts
             it; then a shorter test with SQLite. Uses the running engine, or starts one as root.
             Builds Compose with Go if the client has none, and builds local images for those that
             cannot be pulled (see testbed/local-images). `--from-source` compiles the programs within
             the image; `--no-build` uses target/release without building. Also a step of `test`,
             which skips it without an engine; this verb then fails.
  simulate   Runs the consumers' decisions against a simulated Kafka, lake, registry and disk, in virtual
             time: some hundred schedules of faults a second. A failure prints its seed and a reduced
             schedule as a test. `--seed N` runs consecutive seeds from N on instead of random ones,
             `--minutes M` (default 1) sets the duration, `--jobs J` (default 1) the number of processes.
             See docs/architecture/simulation.md.
  docs       Writes docs/configuration.md and docs/metrics.md. `--check` only compares them.
  dist       Makes target/dist/ducktide-VERSION-x86_64-linux.tar.gz, and a package for Debian if dpkg-deb is
             installed: programs, DuckDB, man pages, completions,
             systemd units, Kubernetes manifests, licences and a bill of materials; with its checksum and
             provenance. `--no-build` uses target/release without building. See docs/installing.md.";

const TAIL: &str = "
Environment:
  DUCKTIDE_SERVICES=containers  Run services as containers instead of child processes.

Examples:
  cargo xtask demo
  cargo xtask setup && cargo build --release
  cargo xtask test format clippy
  cargo xtask simulate --seed 7 --minutes 10 --jobs 2
  cargo xtask services          # paste the printed exports into another terminal";
