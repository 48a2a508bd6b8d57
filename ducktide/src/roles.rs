//! `ducktide roles`: roles of a PostgreSQL catalog with the rights that each program needs.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_lake::config::{CatalogLocation, LakeArgs};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # create the roles, as the owner of the lake's tables
  ducktide roles > roles.sql && psql --file roles.sql postgres://owner@db/lake

  # a login for the consumers
  psql --command \"CREATE ROLE ingest LOGIN PASSWORD '...' IN ROLE ducktide_worker\" postgres://owner@db/lake

Roles:
  ducktide_reader     queries, status, verify
  ducktide_operator   also verify --record, replay, skip, dead-letters, snapshots, sql --write
  ducktide_compactor  ducktide-compactor
  ducktide_worker     ducktide-consumer --no-init";

/// Prints a SQL script that creates roles for a lake in PostgreSQL, each with only the rights that its
/// programs need.
///
/// The lake is not opened, and nothing is changed. No role can drop a trigger or write progress. Run the
/// script again after an upgrade of Ducktide.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RolesArgs {
    /// Beginning of the roles' names, of letters, digits and underscores. Roles belong to the whole server:
    /// choose another prefix for each lake.
    #[arg(long, value_name = "NAME", default_value = "ducktide", value_parser = parse_prefix)]
    pub prefix: String,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

/// Template of the script.
const SCRIPT: &str = include_str!("roles.sql");

pub(crate) fn run(args: &RolesArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    if matches!(config.catalog, CatalogLocation::Sqlite(_)) {
        return Err(Failure::Usage("roles needs a PostgreSQL catalog: a SQLite file has no roles"));
    }
    io::stdout().write_all(script(&config.metadata_schema, &args.prefix).as_bytes())?;
    Ok(())
}

fn script(schema: &str, prefix: &str) -> String {
    let identifier = format!("\"{}\"", schema.replace('"', "\"\""));
    SCRIPT
        .replace("@SCHEMA_TEXT@", &schema.replace('\'', "''"))
        .replace("@SCHEMA@", &identifier)
        .replace("@PREFIX@", prefix)
}

/// Limits the length too: PostgreSQL truncates names to 63 bytes.
fn parse_prefix(text: &str) -> Result<String, &'static str> {
    let is_valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && text.len() <= 40 && text.chars().all(is_valid) {
        Ok(text.to_owned())
    } else {
        Err("expected up to 40 lower-case letters, digits and underscores, beginning with a letter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_and_prefix_are_replaced_everywhere() {
        let script = script("lake_a", "shop");

        assert!(script.contains("GRANT SELECT ON ALL TABLES IN SCHEMA \"lake_a\""), "{script}");
        assert!(script.contains("IN ROLE shop_worker"), "{script}");
        assert!(script.contains("schemaname = 'lake_a'"), "{script}");
        assert!(!script.contains('@'), "{script}");
    }

    #[test]
    fn a_prefix_cannot_contain_sql() {
        assert_eq!(parse_prefix("lake_2").as_deref(), Ok("lake_2"));
        for text in ["", "2lake", "a b", "a;b", "a'b", "Ä", "a-b"] {
            assert!(parse_prefix(text).is_err(), "{text}");
        }
    }
}
