//! `ducktide version`: versions of the program and of what it contains.

use std::env::consts::{ARCH, OS};
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use ducktide_lake::{CATALOG_FORMAT, Versions};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # for an issue, or before an upgrade
  ducktide version --verbose";

/// Prints the version.
///
/// No lake is opened; `ducktide init` prints the versions of a lake.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct VersionArgs {
    /// Also print the revision of the source, the versions of DuckDB and its extensions, and the format of
    /// the catalogs that this version can use.
    #[arg(long, short)]
    pub verbose: bool,

    /// Folder with DuckDB's signed extension files. [default: next to the program, then DuckDB's own]
    #[arg(long, env = "DUCKTIDE_EXTENSION_DIR", value_name = "DIR")]
    pub extension_dir: Option<PathBuf>,
}

/// Revision of the source, which `cargo xtask dist` sets.
const REVISION: Option<&str> = option_env!("DUCKTIDE_REVISION");

pub(crate) fn run(args: &VersionArgs) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if !args.verbose {
        writeln!(out, "ducktide {}", env!("CARGO_PKG_VERSION"))?;
        return Ok(());
    }
    let versions = Versions::read(args.extension_dir.as_ref())?;
    write_versions(&versions, &mut out)?;
    Ok(())
}

fn write_versions(versions: &Versions, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "ducktide          {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "revision          {}", REVISION.unwrap_or("unknown"))?;
    writeln!(out, "platform          {ARCH}-{OS}")?;
    writeln!(out, "duckdb            {}", versions.duckdb)?;
    for extension in &versions.extensions {
        let version = extension.version.as_deref().unwrap_or("not installed");
        writeln!(out, "{:<16}  {version}", extension.name)?;
    }
    writeln!(out, "catalog format    {CATALOG_FORMAT}")
}

#[cfg(test)]
mod tests {
    use ducktide_lake::ComponentVersion;

    use super::*;

    #[test]
    fn a_missing_extension_is_shown() {
        let versions = Versions {
            duckdb: "v1.5.5 (abc)".to_owned(),
            extensions: vec![ComponentVersion { name: "ducklake", version: None }],
        };
        let mut text = Vec::new();

        write_versions(&versions, &mut text).unwrap();

        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("duckdb            v1.5.5 (abc)\n"), "{text}");
        assert!(text.contains("ducklake          not installed\n"), "{text}");
        assert!(text.ends_with("catalog format    1.0\n"), "{text}");
    }
}
