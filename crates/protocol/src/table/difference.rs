//! Comparison of an existing table with a wanted shape.

use std::fmt;

use super::{Column, ColumnType, TableShape};

/// Differences that keep a table from storing rows of a wanted shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Columns, or fields of a STRUCT by their path, that are missing in the table.
    pub missing: Vec<Column>,
    /// Columns that exist in both, with incompatible types.
    pub mismatched: Vec<TypeMismatch>,
}

/// Column of the table with an incompatible type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeMismatch {
    /// Name of the column, or path of a STRUCT's field.
    pub column: String,
    /// Type in the table.
    pub table: ColumnType,
    /// Type of the record's values.
    pub wanted: ColumnType,
}

impl Difference {
    /// Returns true if the table can store the rows without a change.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.missing.is_empty() && self.mismatched.is_empty()
    }
}

/// Compares an existing table with the shape of a schema. Pure.
///
/// | table | wanted | result |
/// |---|---|---|
/// | column | no such column | fits: the rows have NULL there |
/// | no such column | column | missing |
/// | T | T | fits |
/// | JSON | any type | fits: values are written as JSON |
/// | DECIMAL(P, s) | DECIMAL(p, s), p ≤ P | fits: no digit is lost |
/// | DOUBLE | BIGINT | fits: Avro promotes int and long to double |
/// | VARCHAR | BLOB | fits, as in Avro: bytes that are not UTF-8 are a bad record |
/// | BLOB | VARCHAR | fits, as in Avro |
/// | T\[\], MAP(VARCHAR, T) | the same of U | result of T and U |
/// | STRUCT | STRUCT | result field by field, as for tables |
/// | T | any other type | does not fit |
///
/// Names are compared case-insensitively, in any order: files are registered by their columns' names. Paths are DuckDB's: `s.field` of a STRUCT, `l.element.field` within a list,
/// `m.value.field` within a map.
#[must_use]
pub fn diff(table: &TableShape, wanted: &TableShape) -> Difference {
    let mut difference = Difference::default();
    difference.compare_columns("", &table.columns, &wanted.columns);
    difference
}

impl Difference {
    fn compare_columns(&mut self, parent: &str, table: &[Column], wanted: &[Column]) {
        for column in wanted {
            let path = format!("{parent}{}", column.name);
            match table.iter().find(|candidate| candidate.is_named(&column.name)) {
                Some(found) => self.compare(&path, &found.column_type, &column.column_type),
                None => self.missing.push(Column::new(&path, column.column_type.clone())),
            }
        }
    }

    fn compare(&mut self, path: &str, table: &ColumnType, wanted: &ColumnType) {
        use ColumnType::{BigInt, Blob, Decimal, Double, Json, List, Map, Struct, Varchar};
        match (table, wanted) {
            (Json, _) | (Double, BigInt) | (Varchar, Blob) | (Blob, Varchar) => {}
            (Decimal { precision, scale }, Decimal { precision: p, scale: s })
                if p <= precision && s == scale => {}
            (List(table), List(wanted)) => {
                self.compare(&format!("{path}.element"), table, wanted);
            }
            (Map(table), Map(wanted)) => self.compare(&format!("{path}.value"), table, wanted),
            (Struct(table), Struct(wanted)) => {
                self.compare_columns(&format!("{path}."), table, wanted);
            }
            _ if table == wanted => {}
            _ => self.mismatched.push(TypeMismatch {
                column: path.to_owned(),
                table: table.clone(),
                wanted: wanted.clone(),
            }),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.iter().map(|Column { name, column_type }| {
            format!("column is missing column=`{name}` wanted=`{column_type}`")
        });
        let mismatched = self.mismatched.iter().map(|TypeMismatch { column, table, wanted }| {
            format!("type does not fit column=`{column}` table=`{table}` wanted=`{wanted}`")
        });
        f.write_str(&missing.chain(mismatched).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(table: &[(&str, &str)], wanted: &[(&str, &str)]) -> Difference {
        let shape =
            |columns: &[(&str, &str)]| TableShape::from_described(columns.iter().copied()).unwrap();
        diff(&shape(table), &shape(wanted))
    }

    #[test]
    fn every_row_of_the_table_holds() {
        let fits = |table, wanted| compare(&[("x", table)], &[("X", wanted)]).fits();

        assert!(compare(&[("x", "BIGINT"), ("y", "DATE")], &[("x", "BIGINT")]).fits());
        assert!(!compare(&[("y", "BIGINT")], &[("x", "BIGINT")]).fits());
        assert!(fits("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"));
        assert!(fits("JSON", "STRUCT(a BIGINT[])"));
        assert!(fits("DECIMAL(9,2)", "DECIMAL(4,2)"));
        assert!(!fits("DECIMAL(4,2)", "DECIMAL(9,2)"));
        assert!(!fits("DECIMAL(9,3)", "DECIMAL(4,2)"));
        assert!(fits("DECIMAL(9,2)[]", "DECIMAL(4,2)[]"));
        assert!(fits("DOUBLE", "BIGINT"));
        assert!(fits("VARCHAR", "BLOB"));
        assert!(fits("BLOB", "VARCHAR"));
        assert!(fits("MAP(VARCHAR, JSON)", "MAP(VARCHAR, BIGINT)"));
        assert!(fits("STRUCT(a BIGINT, b DATE)", "STRUCT(A BIGINT)"));
        assert!(!fits("STRUCT(a BIGINT)", "STRUCT(a BIGINT, b DATE)"));
        assert!(!fits("BIGINT", "DOUBLE"));
        assert!(!fits("VARCHAR", "JSON"));
    }

    #[test]
    fn all_differences_are_listed_with_paths_and_both_types() {
        let difference = compare(
            &[
                ("a", "BIGINT"),
                ("s", "STRUCT(x VARCHAR)"),
                ("l", "STRUCT(x DATE)[]"),
                ("m", "MAP(VARCHAR, STRUCT(x DATE))"),
            ],
            &[
                ("a", "DOUBLE"),
                ("s", "STRUCT(x DATE, y UUID)"),
                ("l", "STRUCT(y DATE)[]"),
                ("m", "MAP(VARCHAR, STRUCT(y DATE))"),
                ("b", "JSON"),
            ],
        );

        assert_eq!(
            difference.to_string(),
            "column is missing column=`s.y` wanted=`UUID`; \
             column is missing column=`l.element.y` wanted=`DATE`; \
             column is missing column=`m.value.y` wanted=`DATE`; \
             column is missing column=`b` wanted=`JSON`; \
             type does not fit column=`a` table=`BIGINT` wanted=`DOUBLE`; \
             type does not fit column=`s.x` table=`VARCHAR` wanted=`DATE`"
        );
    }
}
