use super::*;

fn shape(fields: &str) -> Result<TableShape, ShapeError> {
    partitioned_shape(fields, None)
}

fn partitioned_shape(fields: &str, partition_by: Option<&str>) -> Result<TableShape, ShapeError> {
    let schema = format!(r#"{{"type": "record", "name": "R", "fields": [{fields}]}}"#);
    TableShape::from_avro(&AvroSchema::parse(&schema).unwrap(), partition_by)
}

#[test]
fn every_avro_type_has_the_column_type_of_the_table() {
    let types = [
        (r#""boolean""#, "BOOLEAN"),
        (r#""int""#, "BIGINT"),
        (r#""long""#, "BIGINT"),
        (r#""float""#, "DOUBLE"),
        (r#""double""#, "DOUBLE"),
        (r#""bytes""#, "BLOB"),
        (r#""string""#, "VARCHAR"),
        (r#"{"type": "fixed", "name": "F", "size": 4}"#, "BLOB"),
        (r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, "VARCHAR"),
        (r#"{"type": "array", "items": "int"}"#, "BIGINT[]"),
        (r#"{"type": "map", "values": ["null", "string"]}"#, "MAP(VARCHAR, VARCHAR)"),
        (
            r#"{"type": "record", "name": "S", "fields": [{"name": "x", "type": "long"}]}"#,
            r#"STRUCT("x" BIGINT)"#,
        ),
        (
            r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#,
            "DECIMAL(9,2)",
        ),
        (r#"{"type": "bytes", "logicalType": "decimal", "precision": 39, "scale": 2}"#, "VARCHAR"),
        (r#"{"type": "bytes", "logicalType": "big-decimal"}"#, "VARCHAR"),
        (r#"{"type": "string", "logicalType": "uuid"}"#, "UUID"),
        (r#"{"type": {"type": "fixed", "name": "U", "size": 16}, "logicalType": "uuid"}"#, "UUID"),
        (r#"{"type": "int", "logicalType": "date"}"#, "DATE"),
        (r#"{"type": "int", "logicalType": "time-millis"}"#, "TIME"),
        (r#"{"type": "long", "logicalType": "time-micros"}"#, "TIME"),
        (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, "TIMESTAMP WITH TIME ZONE"),
        (r#"{"type": "long", "logicalType": "timestamp-micros"}"#, "TIMESTAMP WITH TIME ZONE"),
        (r#"{"type": "long", "logicalType": "timestamp-nanos"}"#, "TIMESTAMP_NS"),
        (r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#, "TIMESTAMP"),
        (r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#, "TIMESTAMP"),
        (r#"{"type": "long", "logicalType": "local-timestamp-nanos"}"#, "TIMESTAMP_NS"),
        (
            r#"{"type": {"type": "fixed", "name": "D", "size": 12}, "logicalType": "duration"}"#,
            r#"STRUCT("months" BIGINT, "days" BIGINT, "millis" BIGINT)"#,
        ),
        (r#"["null", "long"]"#, "BIGINT"),
        (r#"["long"]"#, "BIGINT"),
        (r#"["null", "long", "string"]"#, "JSON"),
        (r#"{"type": "array", "items": ["long", "string"]}"#, "JSON[]"),
    ];
    for (avro, sql) in types {
        let shape = shape(&format!(r#"{{"name": "x", "type": {avro}}}"#)).unwrap();
        assert_eq!(shape.columns[0].column_type.sql(), sql, "{avro}");
    }
}

#[test]
fn the_columns_of_a_partitioned_table_are_the_records_then_kafkas_then_the_date() {
    let at = r#"{"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}"#;

    let shape = partitioned_shape(at, Some("AT")).unwrap();

    assert_eq!(
        shape.sql(),
        r#""at" TIMESTAMP WITH TIME ZONE, "_kafka_topic" VARCHAR, "_kafka_partition" INTEGER, "_kafka_offset" BIGINT, "_kafka_timestamp" TIMESTAMP WITH TIME ZONE, "event_date" DATE"#
    );
    assert!(shape.is_partitioned());
}

#[test]
fn a_described_table_has_the_shape_it_was_created_with() {
    let created = shape(r#"{"name": "x", "type": {"type": "array", "items": "int"}}"#).unwrap();

    let described = created.columns.iter().map(|c| (c.name.clone(), c.column_type.sql()));

    assert_eq!(TableShape::from_described(described), Ok(created));
}

#[test]
fn partition_by_takes_timestamps_only() {
    let field = r#"{"name": "n", "type": "long"}"#;

    assert!(partitioned_shape(field, Some("_kafka_timestamp")).is_ok());
    for column in ["n", "missing"] {
        let column = column.to_owned();
        let refused = partitioned_shape(field, Some(&column));
        assert_eq!(refused, Err(ShapeError::PartitionBy { column }));
    }
}

#[test]
fn names_of_ducktides_own_columns_are_refused_with_the_remedy() {
    for field in ["event_date", "Event_Date", "_KAFKA_x", "_ducklake_internal_snapshot_id"] {
        let error = shape(&format!(r#"{{"name": "{field}", "type": "int"}}"#)).unwrap_err();
        assert_eq!(error, ShapeError::ReservedName { field: field.to_owned() });
        assert!(error.to_string().contains("rename it"));
    }
}

#[test]
fn names_that_differ_in_case_only_are_refused_at_every_level() {
    let pair = r#"{"name": "a", "type": "int"}, {"name": "A", "type": "int"}"#;
    let nested = format!(
        r#"{{"name": "s", "type": {{"type": "record", "name": "S", "fields": [{pair}]}}}}"#
    );
    let ambiguous = |first: &str, second: &str| {
        Err(ShapeError::AmbiguousNames { first: first.to_owned(), second: second.to_owned() })
    };

    assert_eq!(shape(pair), ambiguous("a", "A"));
    assert_eq!(shape(&nested), ambiguous("s.a", "s.A"));
}

#[test]
fn types_that_hold_nothing_are_refused_outside_of_json() {
    let empty = r#"{"type": "record", "name": "S", "fields": []}"#;

    assert_eq!(
        shape(r#"{"name": "x", "type": "null"}"#),
        Err(ShapeError::NullOnly { field: "x".to_owned() })
    );
    assert_eq!(
        shape(&format!(r#"{{"name": "x", "type": {empty}}}"#)),
        Err(ShapeError::EmptyRecord { field: "x".to_owned() })
    );
    assert!(shape(&format!(r#"{{"name": "x", "type": ["null", "int", {empty}]}}"#)).is_ok());
}

#[test]
fn a_topic_of_plain_values_has_one_column_for_them() {
    let shape = TableShape::from_avro(&AvroSchema::parse("\"string\"").unwrap(), None).unwrap();

    assert_eq!(shape.columns[0], Column::new("value", ColumnType::Varchar));
    assert_eq!(shape.columns.len(), 5);
    let null = TableShape::from_avro(&AvroSchema::parse("\"null\"").unwrap(), None);
    assert_eq!(null, Err(ShapeError::NullOnly { field: "value".to_owned() }));
}
