//! Values of simulated records: Avro in Confluent's wire format, so that the real decoder reads them.

/// Registry id of the schema with which the table is created.
pub(super) const FIRST_SCHEMA: u32 = 1;
/// Registry id of a schema with one more field.
pub(super) const WIDER_SCHEMA: u32 = 2;
/// Registry id of a schema whose records do not fit the table.
pub(super) const UNFIT_SCHEMA: u32 = 3;
/// Id that the registry does not have.
pub(super) const UNKNOWN_SCHEMA: u32 = 9;

/// Column that identifies events.
pub(super) const EVENT: &str = "event";

const FIRST: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"id","type":"long"},{"name":"event","type":"long"}]}"#;
const WIDER: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"id","type":"long"},{"name":"event","type":"long"},{"name":"extra","type":["null","long"],"default":null}]}"#;
const UNFIT: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"id","type":"long"},{"name":"event","type":"string"}]}"#;

/// Returns the text of a schema; None for an id that the registry does not have.
pub(super) const fn schema_text(id: u32) -> Option<&'static str> {
    match id {
        FIRST_SCHEMA => Some(FIRST),
        WIDER_SCHEMA => Some(WIDER),
        UNFIT_SCHEMA => Some(UNFIT),
        _ => None,
    }
}

/// Kind of a record's value, which decides what becomes of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// A row of the first schema.
    Row,
    /// A row of the wider schema.
    WiderRow,
    Tombstone,
    /// Not Avro.
    Garbage,
    /// The first bytes of a row.
    Truncated,
    /// A record of a schema that the registry does not have.
    UnknownSchema,
    /// A record whose schema does not fit the table.
    Unfit,
}

impl Payload {
    /// Returns whether the record becomes a row.
    pub(super) const fn is_row(self) -> bool {
        matches!(self, Self::Row | Self::WiderRow)
    }

    /// Returns the value; None for a tombstone.
    pub(super) fn encode(self, id: i64, event: i64) -> Option<Box<[u8]>> {
        let framed = |schema: u32| {
            let mut bytes = vec![0];
            bytes.extend(schema.to_be_bytes());
            bytes
        };
        let row = |schema: u32| {
            let mut bytes = framed(schema);
            push_long(&mut bytes, id);
            push_long(&mut bytes, event);
            bytes
        };
        let bytes = match self {
            Self::Tombstone => return None,
            Self::Row => row(FIRST_SCHEMA),
            Self::WiderRow => {
                let mut bytes = row(WIDER_SCHEMA);
                push_long(&mut bytes, 1);
                push_long(&mut bytes, id);
                bytes
            }
            Self::Garbage => b"not avro".to_vec(),
            Self::Truncated => framed(FIRST_SCHEMA),
            Self::UnknownSchema => row(UNKNOWN_SCHEMA),
            Self::Unfit => {
                let mut bytes = framed(UNFIT_SCHEMA);
                push_long(&mut bytes, id);
                push_long(&mut bytes, 1);
                bytes.push(b'x');
                bytes
            }
        };
        Some(bytes.into())
    }
}

/// Appends a long in Avro's binary encoding.
fn push_long(bytes: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let low = u8::try_from(rest & 0x7F).expect("seven bits");
        rest >>= 7;
        bytes.push(if rest == 0 { low } else { low | 0x80 });
        if rest == 0 {
            return;
        }
    }
}
