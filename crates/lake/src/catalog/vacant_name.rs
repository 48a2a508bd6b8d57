//! Prevents creation of a table whose name is not free, or whose rows the ledger already counts.

use ducktide_protocol::dead_letter::dead_letter_table;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{SnapshotId, SourceId};
use ducktide_protocol::table::{TableName, quote_identifier};

use crate::catalog::client::CatalogClient;
use crate::catalog::sources;
use crate::sql_text::quote;

/// Returns an error for a table that was dropped or renamed after rows were committed to it: a new one
/// would lack the earlier records. Also for a name that DuckDB does not distinguish from another one.
pub(crate) fn check(catalog: &impl CatalogClient, table: &TableName) -> Result<()> {
    check_spelling(catalog, table)?;
    let counted = counted_rows(catalog, table)?;
    if counted > 0 { Err(lost_table(catalog, table, counted)?) } else { Ok(()) }
}

/// Returns the error for a table that workers write to and that does not exist any more.
pub(crate) fn dropped(catalog: &impl CatalogClient, table: &TableName) -> Result<LakeError> {
    let counted = counted_rows(catalog, table)?;
    lost_table(catalog, table, counted)
}

/// Returns the number of rows, or open dead letters, that the ledger counts for a table.
fn counted_rows(catalog: &impl CatalogClient, table: &TableName) -> Result<i64> {
    let mut counted = 0;
    for source in sources(catalog)? {
        if source.spec.table == *table {
            counted += sum(catalog, source.id, "rows")?;
        }
        if dead_letter_table(&source.spec.table) == *table {
            counted += sum(catalog, source.id, "dead")?;
        }
    }
    Ok(counted)
}

fn sum(catalog: &impl CatalogClient, source: SourceId, column: &str) -> Result<i64> {
    let sql = format!(
        "SELECT CAST(coalesce(sum({column}), 0) AS BIGINT) AS counted FROM {} WHERE source_id = {source}",
        catalog.native_table("ducktide_ledger")
    );
    catalog.catalog_scalar(&sql)
}

/// Reason why a table does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MissingReason {
    /// The table was renamed to this name.
    Renamed { schema: String, table: String },
    /// The table was dropped; this is the last snapshot that contains it.
    Dropped { last_snapshot: i64 },
    /// The snapshots that contained the table are expired.
    Expired,
}

fn lost_table(catalog: &impl CatalogClient, table: &TableName, counted: i64) -> Result<LakeError> {
    Ok(LakeError::invalid(lost_text(table, counted, &missing_reason(catalog, table)?)))
}

/// Returns the text of the error. Pure.
fn lost_text(table: &TableName, counted: i64, reason: &MissingReason) -> String {
    let name = table.sql();
    let (what, remedy, detail) = match reason {
        MissingReason::Renamed { schema, table: now } => {
            let from = format!("{}.{}", quote_identifier(schema), quote_identifier(now));
            (
                "the table was renamed",
                format!(
                    "rename it back with `ALTER TABLE {from} RENAME TO {}`, or",
                    quote_identifier(&table.table)
                ),
                format!(" renamed_to=`{schema}.{now}`"),
            )
        }
        MissingReason::Dropped { last_snapshot } => (
            "the table was dropped",
            format!(
                "restore it with `CREATE TABLE {name} AS FROM {name} AT (VERSION => {last_snapshot})`, or"
            ),
            String::new(),
        ),
        MissingReason::Expired => ("the table is gone", String::new(), String::new()),
    };
    let space = if remedy.is_empty() { "" } else { " " };
    format!(
        "{what}, and a new one would lack the rows that were committed to it; {remedy}{space}fill \
         another table from the topic's beginning with --table: table=`{table}` rows=`{counted}`{detail}"
    )
}

fn missing_reason(catalog: &impl CatalogClient, table: &TableName) -> Result<MissingReason> {
    let native = |name: &str| catalog.native_table(name);
    let (tables, schemas) = (native("ducklake_table"), native("ducklake_schema"));
    let ended: Vec<EndedTable> = catalog.catalog_query(&format!(
        "SELECT t.table_id, t.end_snapshot FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         WHERE t.end_snapshot IS NOT NULL AND s.schema_name = {} AND t.table_name = {} \
         ORDER BY t.end_snapshot DESC LIMIT 1",
        quote(&table.schema),
        quote(&table.table)
    ))?;
    let Some(EndedTable { table_id, end_snapshot: SnapshotId(end) }) = ended.into_iter().next()
    else {
        return Ok(MissingReason::Expired);
    };
    let renamed: Vec<RenamedTable> = catalog.catalog_query(&format!(
        "SELECT s.schema_name, t.table_name FROM {tables} t JOIN {schemas} s ON s.schema_id = t.schema_id \
         WHERE t.end_snapshot IS NULL AND s.end_snapshot IS NULL AND t.table_id = {table_id}"
    ))?;
    if let Some(RenamedTable { schema_name: schema, table_name: table }) =
        renamed.into_iter().next()
    {
        return Ok(MissingReason::Renamed { schema, table });
    }
    let readable: i64 = catalog.catalog_scalar(&format!(
        "SELECT count(*) AS found FROM {} WHERE snapshot_id = {}",
        native("ducklake_snapshot"),
        end - 1
    ))?;
    let is_readable = readable > 0;
    Ok(if is_readable {
        MissingReason::Dropped { last_snapshot: end - 1 }
    } else {
        MissingReason::Expired
    })
}

crate::row_struct! {
    struct EndedTable {
        table_id: i64,
        end_snapshot: SnapshotId,
    }
}

crate::row_struct! {
    struct RenamedTable {
        schema_name: String,
        table_name: String,
    }
}

crate::row_struct! {
    /// An object of the lake that has a name.
    struct NamedObject {
        kind: String,
        schema_name: String,
        /// Empty for a schema.
        object_name: String,
    }
}

/// Returns an error for a name that differs from an existing one in case only: `DuckDB` ignores case,
/// the catalog's tables do not.
fn check_spelling(catalog: &impl CatalogClient, table: &TableName) -> Result<()> {
    let native = |name: &str| catalog.native_table(name);
    let of_schema = |kind: &str, objects: &str, name: &str| {
        format!(
            "SELECT '{kind}' AS kind, s.schema_name AS schema_name, o.{name} AS object_name \
             FROM {} o JOIN {} s ON s.schema_id = o.schema_id \
             WHERE o.end_snapshot IS NULL AND s.end_snapshot IS NULL",
            native(objects),
            native("ducklake_schema")
        )
    };
    let sql = format!(
        "{} UNION ALL {} UNION ALL SELECT 'schema' AS kind, schema_name, '' AS object_name FROM {} \
         WHERE end_snapshot IS NULL",
        of_schema("table", "ducklake_table", "table_name"),
        of_schema("view", "ducklake_view", "view_name"),
        native("ducklake_schema")
    );
    let named: Vec<NamedObject> = catalog.catalog_query(&sql)?;
    spelling_conflict(&named, table).map_or(Ok(()), |text| Err(LakeError::invalid(text)))
}

/// Returns the reason why a name cannot be used for a new table, if there is one. Pure.
fn spelling_conflict(named: &[NamedObject], table: &TableName) -> Option<String> {
    let in_schema = |found: &&NamedObject| found.schema_name.eq_ignore_ascii_case(&table.schema);
    let same = named.iter().filter(in_schema).find(|found| {
        found.kind != "schema" && found.object_name.eq_ignore_ascii_case(&table.table)
    });
    if let Some(NamedObject { kind, schema_name: schema, object_name: name }) = same {
        return Some(if kind == "view" {
            format!(
                "the lake has a view of this name; name another table with --table: \
                 table=`{table}` view=`{schema}.{name}`"
            )
        } else {
            format!(
                "the lake has a table whose name differs in case only, and DuckDB takes both for one; \
                 name it as it is with --table to fill it, or name another: \
                 table=`{table}` existing=`{schema}.{name}`"
            )
        });
    }
    let other_case = named.iter().find(|found| {
        found.kind == "schema" && in_schema(found) && found.schema_name != table.schema
    });
    other_case.map(|NamedObject { schema_name: schema, .. }| {
        format!(
            "the lake has a schema whose name differs in case only, and DuckDB takes both for one; \
             name it as it is with --table: table=`{table}` existing=`{schema}.{}`",
            table.table
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(kind: &str, schema: &str, name: &str, table: &str) -> Option<String> {
        let named = |kind: &str, name: &str| NamedObject {
            kind: kind.to_owned(),
            schema_name: schema.to_owned(),
            object_name: name.to_owned(),
        };
        spelling_conflict(&[named("schema", ""), named(kind, name)], &table.parse().unwrap())
    }

    #[test]
    fn a_name_that_differs_in_case_only_is_rejected() {
        let text = conflict("table", "main", "orders", "Orders").unwrap();
        assert!(text.contains("table=`main.Orders` existing=`main.orders`"), "{text}");
        let text = conflict("table", "raw", "other", "RAW.events").unwrap();
        assert!(text.contains("existing=`raw.events`"), "{text}");
        assert!(conflict("view", "main", "orders", "orders").unwrap().contains("view"));
        assert_eq!(conflict("table", "main", "orders", "orders2"), None);
        assert_eq!(conflict("table", "raw", "orders", "main.Orders"), None);
    }

    #[test]
    fn the_remedy_depends_on_the_reason() {
        let table: TableName = "events".parse().unwrap();
        let text = |reason| lost_text(&table, 70, &reason);

        let renamed =
            text(MissingReason::Renamed { schema: "main".to_owned(), table: "old".to_owned() });
        assert!(renamed.contains(r#"`ALTER TABLE "main"."old" RENAME TO "events"`"#), "{renamed}");
        let dropped = text(MissingReason::Dropped { last_snapshot: 9 });
        assert!(dropped.contains("AT (VERSION => 9)"), "{dropped}");
        let gone = text(MissingReason::Expired);
        assert!(
            gone.contains("to it; fill another table") && gone.ends_with("rows=`70`"),
            "{gone}"
        );
    }
}
