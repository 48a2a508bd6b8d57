//! Renamed fields: a field with an alias keeps the column of its former name.

use super::{AvroField, AvroType, Column, ColumnType};

/// Gives the fields of a writer's record the names of their columns in a table. Pure.
///
/// `newest` has the fields of the topic's newest schema, whose aliases older schemas cannot contain;
/// empty if it is unknown.
///
/// | the table has a column for | the field becomes |
/// |---|---|
/// | the field's name | unchanged |
/// | not its name, but one of its aliases | the column of the alias |
/// | neither, but a field of `newest` has the name as an alias | that field, or the column of another of its aliases |
/// | none of these | unchanged: the column is missing |
///
/// A name of another field of the record is never used. Records in a STRUCT, a list, a map and
/// an optional union are renamed in the same way.
pub fn rename(fields: &mut [AvroField], columns: &[Column], newest: &[AvroField]) {
    for index in 0..fields.len() {
        let counterpart = counterpart(&fields[index], newest);
        if let Some(name) = new_name(fields, index, columns, counterpart) {
            fields[index].name = name;
        }
        let field = &mut fields[index];
        if let Some(column) = columns.iter().find(|column| column.is_named(&field.name)) {
            let newest = counterpart.map(|field| &field.avro_type);
            rename_type(&mut field.avro_type, &column.column_type, newest);
        }
    }
}

/// Returns the same field in the newest schema.
fn counterpart<'a>(field: &AvroField, newest: &'a [AvroField]) -> Option<&'a AvroField> {
    let same_name = newest.iter().find(|candidate| candidate.name == field.name);
    same_name.or_else(|| newest.iter().find(|candidate| candidate.aliases.contains(&field.name)))
}

fn new_name(
    fields: &[AvroField],
    index: usize,
    columns: &[Column],
    counterpart: Option<&AvroField>,
) -> Option<String> {
    let column = |name: &String| columns.iter().find(|column| column.is_named(name));
    let field = &fields[index];
    if column(&field.name).is_some() {
        return None;
    }
    let newer = counterpart
        .into_iter()
        .flat_map(|newer| std::iter::once(&newer.name).chain(&newer.aliases));
    let is_free = |candidate: &Column| !fields.iter().any(|other| candidate.is_named(&other.name));
    let found = field.aliases.iter().chain(newer).filter_map(column).find(|name| is_free(name));
    found.map(|column| column.name.clone())
}

fn rename_type(avro_type: &mut AvroType, column: &ColumnType, newest: Option<&AvroType>) {
    let newest = newest.and_then(|newest| match newest.branches()[..] {
        [only] => Some(only),
        _ => None,
    });
    match (avro_type, column) {
        (AvroType::Record(fields), ColumnType::Struct(columns)) => match newest {
            Some(AvroType::Record(newest)) => rename(fields, columns, newest),
            _ => rename(fields, columns, &[]),
        },
        (AvroType::Array(items), ColumnType::List(column)) => match newest {
            Some(AvroType::Array(newest)) => rename_type(items, column, Some(newest)),
            _ => rename_type(items, column, None),
        },
        (AvroType::Map(values), ColumnType::Map(column)) => match newest {
            Some(AvroType::Map(newest)) => rename_type(values, column, Some(newest)),
            _ => rename_type(values, column, None),
        },
        (AvroType::Variants(branches), ColumnType::Struct(columns)) => {
            for branch in branches {
                let Some(column) = columns.iter().find(|column| column.is_named(&branch.name))
                else {
                    continue;
                };
                let same = match newest {
                    Some(AvroType::Variants(newest)) => {
                        newest.iter().find(|newer| newer.name == branch.name)
                    }
                    _ => None,
                };
                let newest = same.map(|newer| &newer.avro_type);
                rename_type(&mut branch.avro_type, &column.column_type, newest);
            }
        }
        (AvroType::Union(branches), column) => {
            for branch in branches {
                rename_type(branch, column, newest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{AvroSchema, TableShape, UnionAs};

    fn fields(fields: &str) -> Vec<AvroField> {
        let schema = format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#);
        AvroType::record_fields(&AvroSchema::parse(&schema).unwrap(), UnionAs::Json).unwrap()
    }

    /// Returns the columns of a writer's fields.
    fn names(writer: &str, columns: &[(&str, &str)], newest: &str) -> Vec<String> {
        let mut writer = fields(writer);
        let table = TableShape::from_described(columns.iter().copied()).unwrap();
        rename(&mut writer, &table.columns, &fields(newest));
        writer.into_iter().map(|field| field.name).collect()
    }

    #[test]
    fn a_renamed_field_keeps_its_column() {
        let renamed = r#"{"name": "b", "type": "int", "aliases": ["a"]}"#;

        assert_eq!(names(renamed, &[("A", "BIGINT")], ""), ["A"]);
        assert_eq!(names(renamed, &[("a", "BIGINT"), ("b", "BIGINT")], ""), ["b"]);
        assert_eq!(names(renamed, &[("c", "BIGINT")], ""), ["b"]);
    }

    #[test]
    fn an_older_writers_field_is_known_by_the_newest_schema() {
        let old = r#"{"name": "a", "type": "int"}"#;
        let newest = r#"{"name": "c", "type": "int", "aliases": ["b", "a"]}"#;

        assert_eq!(names(old, &[("c", "BIGINT")], newest), ["c"]);
        assert_eq!(names(old, &[("b", "BIGINT")], newest), ["b"]);
        assert_eq!(names(old, &[("a", "BIGINT"), ("c", "BIGINT")], newest), ["a"]);
    }

    #[test]
    fn two_fields_never_go_to_one_column() {
        let both = r#"{"name": "a", "type": "int"}, {"name": "b", "type": "int"}"#;
        let newest = r#"{"name": "b", "type": "int", "aliases": ["a"]}"#;

        assert_eq!(names(both, &[("b", "BIGINT")], newest), ["a", "b"]);
    }

    #[test]
    fn fields_of_nested_records_are_renamed_too() {
        let record = |name: &str, aliases: &str| {
            format!(
                r#"{{"type": "record", "name": "N", "fields": [
                    {{"name": "{name}", "type": "int", "aliases": [{aliases}]}}]}}"#
            )
        };
        for (wrapped, column) in [
            ("RECORD", "STRUCT(a BIGINT)"),
            (r#"["null", RECORD]"#, "STRUCT(a BIGINT)"),
            (r#"{"type": "array", "items": RECORD}"#, "STRUCT(a BIGINT)[]"),
            (r#"{"type": "map", "values": ["null", RECORD]}"#, "MAP(VARCHAR, STRUCT(a BIGINT))"),
        ] {
            let field = |record: &str| {
                format!(r#"{{"name": "x", "type": {}}}"#, wrapped.replace("RECORD", record))
            };
            let table = TableShape::from_described([("x", column)]).unwrap();
            let mut by_alias = fields(&field(&record("b", r#""a""#)));
            rename(&mut by_alias, &table.columns, &[]);
            let mut by_newest = fields(&field(&record("z", "")));
            let newest = fields(&field(&record("a", r#""z""#)));
            rename(&mut by_newest, &table.columns, &newest);

            for renamed in [by_alias, by_newest] {
                let text = format!("{renamed:?}");
                assert!(text.contains(r#"name: "a""#), "{wrapped}: {text}");
            }
        }
    }
}
