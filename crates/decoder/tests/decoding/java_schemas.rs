//! Schemas that Avro's Java library accepts and apache-avro rejects or interprets differently.

use super::{Fixture, lake::TestLake};

/// A topic's schema, a datum, and the first column with its type and value as DuckDB prints them.
struct SchemaCase {
    schema: String,
    datum: Vec<u8>,
    column: &'static str,
    sql: &'static str,
    value: &'static str,
}

/// Returns a record schema with this field.
fn field(field: &str) -> String {
    format!(r#"{{"type": "record", "name": "R", "namespace": "n", "fields": [{field}]}}"#)
}

fn case(
    schema: &str,
    datum: &[u8],
    column: &'static str,
    sql: &'static str,
    value: &'static str,
) -> SchemaCase {
    SchemaCase { schema: schema.to_owned(), datum: datum.to_vec(), column, sql, value }
}

fn field_case(
    of: &str,
    datum: &[u8],
    column: &'static str,
    sql: &'static str,
    value: &'static str,
) -> SchemaCase {
    case(&field(of), datum, column, sql, value)
}

/// Names and symbols with any letters, and namespaces that are not identifiers.
fn names() -> Vec<SchemaCase> {
    let ab = r#"{"type": "enum", "name": "E", "symbols": ["größer", "歳以上", "a-b", "\"", ""]}"#;
    let of_enum = format!(r#"{{"name": "e", "type": {ab}}}"#);
    let nested = r#"{"name": "größe", "type": {"type": "record", "name": "Maß", "fields": [
        {"name": "höhe in cm", "type": "int"}]}}"#;
    let variants = r#"{"name": "u", "type": ["int", {"type": "record", "name": "V", "fields": [
        {"name": "a\"b", "type": "int"}]}]}"#;
    vec![
        field_case(r#"{"name": "größe", "type": "long"}"#, &[6], "größe", "BIGINT", "3"),
        field_case(r#"{"name": "歳以上", "type": "string"}"#, &[2, b'x'], "歳以上", "VARCHAR", "x"),
        field_case(r#"{"name": "Ä", "type": "boolean"}"#, &[1], "Ä", "BOOLEAN", "true"),
        field_case(r#"{"name": "2nd", "type": "int"}"#, &[1], "2nd", "BIGINT", "-1"),
        field_case(r#"{"name": "a.b-c d", "type": "int"}"#, &[2], "a.b-c d", "BIGINT", "1"),
        field_case(r#"{"name": "q\"'", "type": "int"}"#, &[2], "q\"'", "BIGINT", "1"),
        field_case(nested, &[2], "größe", r#"STRUCT("höhe in cm" BIGINT)"#, "{'höhe in cm': 1}"),
        field_case(&of_enum, &[0], "e", "VARCHAR", "größer"),
        field_case(&of_enum, &[2], "e", "VARCHAR", "歳以上"),
        field_case(&of_enum, &[4], "e", "VARCHAR", "a-b"),
        field_case(&of_enum, &[8], "e", "VARCHAR", ""),
        field_case(variants, &[2, 2], "u", "JSON", r#"{"a\"b":1}"#),
        // Debezium's record names for a server named `my-server.1st`.
        case(
            r#"{"type": "record", "name": "Envelope", "namespace": "my-server.1st.db", "fields": [
                {"name": "after", "type": ["null", {"type": "record", "name": "Value", "fields": [
                    {"name": "id", "type": "int"}]}], "default": null},
                {"name": "before", "type": ["null", "Value"]}]}"#,
            &[2, 14, 0],
            "after",
            r#"STRUCT("id" BIGINT)"#,
            "{'id': 7}",
        ),
        case(
            r#"{"type": "record", "name": "my-server.1st.Key-1", "fields": [
                {"name": "a", "type": {"type": "fixed", "name": "F", "size": 1}},
                {"name": "b", "type": "my-server.1st.F"}]}"#,
            &[65, 66],
            "a",
            "BLOB",
            "A",
        ),
    ]
}

/// Defaults, which only readers with a schema of their own use.
fn defaults() -> Vec<SchemaCase> {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}"#;
    let duration = r#"{"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}"#;
    let point = r#"{"type": "record", "name": "P", "fields": [
        {"name": "x", "type": "int"}, {"name": "y", "type": "int"}]}"#;
    let with_default = |of: &str, default: &str| {
        field(&format!(r#"{{"name": "a", "type": {of}, "default": {default}}}"#))
    };
    let of = |of: &str, default: &str, datum: &[u8], sql: &'static str, value: &'static str| {
        case(&with_default(of, default), datum, "a", sql, value)
    };
    let durations = r#"STRUCT("months" BIGINT, "days" BIGINT, "millis" BIGINT)"#;
    let zeros = r#""\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000\u0000""#;
    let months = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
    vec![
        of(r#""string""#, "null", &[2, b'x'], "VARCHAR", "x"),
        of(r#""long""#, r#""0""#, &[2], "BIGINT", "1"),
        of(r#""int""#, "99999999999", &[2], "BIGINT", "1"),
        of(r#""double""#, r#""NaN""#, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f], "DOUBLE", "1.0"),
        of(r#""double""#, "1e999", &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f], "DOUBLE", "1.0"),
        of(r#"["null", "string"]"#, r#""x""#, &[2, 2, b'y'], "VARCHAR", "y"),
        of(r#"["string", "null"]"#, "7", &[0, 2, b'y'], "VARCHAR", "y"),
        of(&format!(r#"["null", {decimal}]"#), r#""\u0000""#, &[2, 2, 100], "DECIMAL(4,2)", "1.00"),
        of(decimal, "0.5", &[2, 100], "DECIMAL(4,2)", "1.00"),
        of(duration, zeros, &months, durations, "{'months': 1, 'days': 2, 'millis': 3}"),
        of(point, r#"{"x": 1}"#, &[2, 4], r#"STRUCT("x" BIGINT, "y" BIGINT)"#, "{'x': 1, 'y': 2}"),
        of(
            r#"{"type": "enum", "name": "E", "symbols": ["A", "B"], "default": "C"}"#,
            r#""D""#,
            &[2],
            "VARCHAR",
            "B",
        ),
        of(r#"{"type": "array", "items": "int"}"#, "{}", &[2, 2, 0], "BIGINT[]", "[1]"),
        of(r#""boolean""#, r#""\ud800""#, &[1], "BOOLEAN", "true"),
    ]
}

/// Other unusual properties and definitions.
fn other_parts() -> Vec<SchemaCase> {
    let of = |of: &str, datum: &[u8], sql: &'static str, value: &'static str| {
        case(&field(&format!(r#"{{"name": "a", "type": {of}}}"#)), datum, "a", sql, value)
    };
    vec![
        // Logical types that do not match their types are ignored.
        of(r#"{"type": "int", "logicalType": 5}"#, &[2], "BIGINT", "1"),
        of(r#"{"type": "int", "logicalType": "timestamp-millis"}"#, &[2], "BIGINT", "1"),
        of(r#"{"type": "bytes", "logicalType": "decimal"}"#, &[2, b'A'], "BLOB", "A"),
        of(
            r#"{"type": "array", "items": "int", "logicalType": "set"}"#,
            &[2, 2, 0],
            "BIGINT[]",
            "[1]",
        ),
        of(
            r#"{"type": "array", "items": "int", "logicalType": "decimal"}"#,
            &[2, 2, 0],
            "BIGINT[]",
            "[1]",
        ),
        // Duplicate symbols, and a duplicate definition.
        of(r#"{"type": "enum", "name": "E", "symbols": ["A", "B", "A"]}"#, &[4], "VARCHAR", "A"),
        case(
            r#"{"type": "record", "name": "R", "fields": [
                {"name": "a", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
                {"name": "b", "type": {"type": "enum", "name": "E", "symbols": ["A", "B"]}},
                {"name": "c", "type": "E"}]}"#,
            &[2, 0, 0],
            "a",
            "VARCHAR",
            "B",
        ),
        // A name that is defined later, and one without its namespace.
        case(
            r#"{"type": "record", "name": "n.R", "fields": [
                {"name": "a", "type": ["null", "Later"]},
                {"name": "b", "type": {"type": "record", "name": "Later", "namespace": "", "fields": [
                    {"name": "x", "type": "int"}]}}]}"#,
            &[2, 8, 0],
            "a",
            r#"STRUCT("x" BIGINT)"#,
            "{'x': 4}",
        ),
        // Comments, an error type, aliases that are not names, unknown properties.
        case(
            r#"// generated
            {"type": "error", "name": "R", "aliases": ["", "a b"], "connect.version": null, "fields": [
                /* the id */ {"name": "a", "type": "int", "aliases": ["1st"], "order": 5}]}"#,
            &[2],
            "a",
            "BIGINT",
            "1",
        ),
        // Two equal types in one union, which Java rejects and other writers do not.
        of(r#"["int", "int"]"#, &[2, 2], "JSON", "1"),
        of(r#"{"type": {"type": "int"}, "logicalType": "date"}"#, &[2], "DATE", "1970-01-02"),
    ]
}

#[test]
fn schemas_that_java_accepts_have_their_columns_and_values() {
    let mut tables = TestLake::new();
    for case in names().into_iter().chain(defaults()).chain(other_parts()) {
        let mut fixture = Fixture::new(&case.schema);
        let column = fixture.decoder.table().columns[0].clone();
        assert_eq!((&*column.name, &*column.column_type.sql()), (case.column, case.sql));
        fixture.push(&case.datum);
        let table = tables.fill(&mut fixture);
        let column = ducktide_protocol::table::quote_identifier(case.column);
        let sql = format!("SELECT CAST({column} AS VARCHAR) FROM lake.{}", table.sql());
        let connection = tables.lake.connection().unwrap();
        let value: String = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(value, case.value, "{}", case.schema);
        let found = tables.lake.find_table(&table).unwrap().unwrap();
        assert_eq!(&found.shape, &**fixture.decoder.table(), "{}", case.schema);
    }
}

#[test]
fn invalid_schemas_are_rejected_with_the_reason() {
    use ducktide_protocol::table::AvroSchema;
    for (schema, reason) in [
        ("{", "not JSON"),
        ("{}", "no `type`"),
        (r#"{"type": "record", "name": "R"}"#, "no list of fields: record=`R`"),
        (r#"{"type": "fixed", "name": "F", "size": -1}"#, "size of a fixed"),
        (r#"{"type": "array"}"#, "key=`items`"),
        (r#"["null", 5]"#, "not a text, list or object"),
        (
            r#"{"type": "record", "name": "n.R", "fields": [{"name": "a", "type": "S"}]}"#,
            "not defined: name=`n.S`",
        ),
    ] {
        let error = AvroSchema::parse(schema).unwrap_err().to_string();
        assert!(error.contains(reason), "{schema}: {error}");
    }
}
