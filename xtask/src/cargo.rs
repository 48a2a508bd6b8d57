//! Starts cargo the way a shell would.

use std::{env, ffi::OsStr, process::Command};

use crate::layout;

/// cargo in the workspace's root folder.
///
/// `cargo xtask` tells this program about xtask's own package, in variables that build scripts of
/// `ring` and others ask to be built again for when they change. Handed on to another cargo, they
/// would have DuckDB's bindings, and all that depends on them, compiled at each turn between
/// `cargo xtask` and `cargo build`. So would the place of DuckDB's library, which cargo takes from
/// `.cargo/config.toml` by itself, and tells this program.
pub(crate) fn command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut cargo = program("cargo");
    cargo.args(arguments);
    cargo
}

/// A program that calls cargo itself, in the workspace's root folder.
pub(crate) fn program(path: impl AsRef<OsStr>) -> Command {
    let mut cargo = Command::new(path);
    cargo.current_dir(layout::root());
    for (name, value) in env::vars_os() {
        if is_about_a_package(&name) || is_place_of_duckdb(&name, &value) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Another place is somebody's own choice, and is handed on.
fn is_place_of_duckdb(variable: &OsStr, value: &OsStr) -> bool {
    variable == "DUCKDB_LIB_DIR" && *value == *layout::cache().join("duckdb")
}

fn is_about_a_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_of_this_package_is_not_handed_on() {
        let cargo = command(["build"]);
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).collect();
        // cargo sets both for tests too.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "DUCKDB_LIB_DIR"] {
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }
}
