//! Starts cargo with the environment of a shell.

use std::{env, ffi::OsStr, process::Command};

use crate::layout;

/// Returns a cargo command in the root folder of the workspace.
///
/// `cargo xtask` sets variables about the package xtask, and the build scripts of `ring` and others
/// run again when these change. If they were passed to another cargo, DuckDB's bindings and
/// everything that depends on them would be compiled again at each change between `cargo xtask` and
/// `cargo build`. The same holds for the path of the DuckDB library, which cargo reads from
/// `.cargo/config.toml` and passes to this program.
pub(crate) fn command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut cargo = program("cargo");
    cargo.args(arguments);
    cargo
}

/// Returns a command for a program that calls cargo, in the root folder of the workspace.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    let mut cargo = Command::new(path);
    cargo.current_dir(layout::root());
    for (name, value) in env::vars_os() {
        if describes_a_package(&name) || is_default_duckdb_path(&name, &value) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Compares with the default path; another path was set by the user and is passed on.
fn is_default_duckdb_path(variable: &OsStr, value: &OsStr) -> bool {
    variable == "DUCKDB_LIB_DIR" && *value == *layout::cache().join("duckdb")
}

fn describes_a_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_about_this_package_are_not_passed_on() {
        let cargo = command(["build"]);
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).collect();
        // cargo sets both for tests too.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "DUCKDB_LIB_DIR"] {
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }
}
