#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used)]
use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use ducktide_consumer::{decoder::*, staging::*};
use ducktide_lake::table::TableShape;
use std::sync::Arc;
fn main() {
    let schema = Schema::parse_str(r#"{"type": "record", "name": "R", "fields": [
    {"name": "id", "type": ["null", {"type": "string", "logicalType": "uuid"}]},
    {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["LOGIN", "LOGOUT"]}},
    {"name": "details", "type": ["null", "string", "double"]},
    {"name": "ts", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
    {"name": "lts", "type": ["null", {"type": "long", "logicalType": "local-timestamp-micros"}]},
    {"name": "nts", "type": ["null", {"type": "long", "logicalType": "timestamp-nanos"}]},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    {"name": "price4", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
    {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "long"}}},
    {"name": "unions", "type": {"type": "array", "items": ["long", "string"]}},
    {"name": "place", "type": {"type": "record", "name": "P", "fields": [
        {"name": "x", "type": "double"}, {"name": "code", "type": {"type": "fixed", "name": "F", "size": 2}}, {"name": "uid", "type": {"type": "string", "logicalType": "uuid"}}]}},
    {"name": "dur", "type": {"type": {"type":"fixed","name":"D","size":12}, "logicalType": "duration"}},
    {"name": "dbl", "type": "double"},
    {"name": "date", "type": {"type": "int", "logicalType": "date"}},
    {"name": "time", "type": {"type": "int", "logicalType": "time-millis"}},
    {"name": "flag", "type": "boolean"}]}"#).unwrap();
    let out = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let table = Arc::new(TableShape::from_avro(&schema, Some("ts")).unwrap());
    let decoder = RecordDecoder::compile(&schema, table.clone()).unwrap();
    let mut rows = RowBuffer::new(table.clone(), Some("ts")).unwrap();
    let hints = ColumnHints { enums: decoder.enum_columns().to_vec(), ..Default::default() };
    let mut w = StagingWriter::new(
        "t".parse().unwrap(),
        &out.join("main/t"),
        rows.schema().clone(),
        &hints,
    )
    .unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let u = |i, v| Value::Union(i, Box::new(v));
    let uuid = apache_avro::Uuid::from_u128(7);
    println!("CREATE TABLE lake.t ({});", table.sql());
    println!("ALTER TABLE lake.t SET PARTITIONED BY (event_date);");
    for (k, (ts, dbl, days)) in [
        (0i64, 1.0f64, 0i32),
        (1, f64::NAN, 1),
        (-62135596800000000, 2.0, -719162),
        (253402300799999999, f64::INFINITY, 2932896),
    ]
    .into_iter()
    .enumerate()
    {
        let v = Value::Record(vec![
            ("id".into(), u(1, Value::Uuid(uuid))),
            ("kind".into(), Value::Enum(1, "LOGOUT".into())),
            ("details".into(), u(1, Value::String("x\"y".into()))),
            ("ts".into(), u(1, Value::TimestampMicros(ts))),
            ("lts".into(), u(1, Value::LocalTimestampMicros(ts))),
            (
                "nts".into(),
                u(
                    1,
                    Value::TimestampNanos(
                        [0, 5, -106_751 * 86400 * 1000000000, 106_751 * 86400 * 1000000000 - 1, 0]
                            [k],
                    ),
                ),
            ),
            ("price".into(), Value::Decimal(apache_avro::Decimal::from(vec![4u8, 0xd2]))),
            ("price4".into(), Value::Decimal(apache_avro::Decimal::from(vec![4u8, 0xd2]))),
            (
                "tags".into(),
                Value::Map(
                    [("k".to_string(), Value::Array(vec![Value::Long(1), Value::Long(2)]))].into(),
                ),
            ),
            (
                "unions".into(),
                Value::Array(vec![u(0, Value::Long(5)), u(1, Value::String("s".into()))]),
            ),
            (
                "place".into(),
                Value::Record(vec![
                    ("x".into(), Value::Double(dbl)),
                    ("code".into(), Value::Fixed(2, vec![1, 2])),
                    ("uid".into(), Value::Uuid(uuid)),
                ]),
            ),
            (
                "dur".into(),
                Value::Duration(apache_avro::Duration::new(
                    apache_avro::Months::new(1),
                    apache_avro::Days::new(2),
                    apache_avro::Millis::new(3),
                )),
            ),
            ("dbl".into(), Value::Double(dbl)),
            ("date".into(), Value::Date(days)),
            ("time".into(), Value::TimeMillis(86399999)),
            ("flag".into(), Value::Boolean(true)),
        ]);
        let d = writer.write_value_to_vec(v).unwrap();
        decoder.decode(&d, &mut rows).unwrap();
        rows.push_kafka("topic", 1, k as i64, 0);
    }
    w.write(&rows.finish_batch().unwrap()).unwrap();
    for f in w.finish().unwrap() {
        println!(
            "CALL ducklake_add_data_files('lake', 't', '{}', hive_partitioning => true);",
            f.path.display()
        );
    }
}
