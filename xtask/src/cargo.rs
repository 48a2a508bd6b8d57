//! Starts cargo the way a shell would.

use std::{env, ffi::OsStr, process::Command};

use crate::layout;

/// cargo in the workspace's root folder.
///
/// `cargo xtask` tells this program about xtask's own package, in variables that build scripts of
/// `ring` and others ask to be built again for when they change. Handed on to another cargo, they
/// would have DuckDB's bindings, and all that depends on them, compiled at each turn between
/// `cargo xtask` and `cargo build`.
pub(crate) fn command<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).current_dir(layout::root());
    for (name, _) in env::vars_os().filter(|(name, _)| is_about_a_package(name)) {
        cargo.env_remove(name);
    }
    cargo
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
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name}");
        }
    }
}
