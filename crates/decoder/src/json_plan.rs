//! Conversion of a value of any Avro type to JSON text.

use ducktide_protocol::table::{AvroField, AvroType, BytesEncoding, TimeUnit, UuidEncoding};

use crate::text_buffer::ConstantText;

/// Largest number of digits of a decimal that becomes a JSON number. Readers parse numbers as
/// doubles, which keep 15 digits; decimals with more digits become strings, so that no digit is
/// lost.
const MAX_NUMBER_DIGITS: usize = 15;

/// Conversion of one value to JSON.
///
/// | Avro | JSON |
/// |---|---|
/// | null, boolean, int, long | null, true or false, number |
/// | float, double | number, the shortest that parses to the same value; `"NaN"`, `"Infinity"`, `"-Infinity"`, which are not JSON numbers but can be cast to DOUBLE in DuckDB |
/// | string, enum | string |
/// | bytes, fixed | string, base64 (decoded by `from_base64`) |
/// | decimal of up to 15 digits; wider, and big-decimal | number; string |
/// | uuid | string, lower case with hyphens |
/// | date, time | `"2026-01-31"`, `"12:34:56.789"` |
/// | timestamp; local-timestamp | `"2026-01-31T12:34:56.789Z"`; the same without Z |
/// | duration | `{"months":1,"days":2,"millis":3}` |
/// | array, map, record | array, object, object |
/// | union | the value of its branch, without a wrapper |
#[derive(Debug)]
pub(super) enum JsonPlan {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes(BytesEncoding),
    /// The symbols, escaped and in quotes.
    Enum(Box<[ConstantText]>),
    UuidText,
    Uuid(BytesEncoding),
    Decimal {
        encoding: BytesEncoding,
        precision: usize,
        scale: usize,
        quoted: bool,
    },
    BigDecimal,
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp(TimeUnit),
    LocalTimestamp(TimeUnit),
    Duration,
    Array {
        items: Box<JsonPlan>,
        widthless: bool,
    },
    Map(Box<JsonPlan>),
    Record(JsonRecord),
    Union(Box<[JsonPlan]>),
}

/// A record as an object.
///
/// The text between two values is one constant: the comma, the key, the colon, and the quotes of
/// strings on both sides.
#[derive(Debug)]
pub(super) struct JsonRecord {
    /// Constant text before each value, and the value.
    pub(super) fields: Box<[(ConstantText, JsonPlan)]>,
    /// Constant text after the last value.
    pub(super) end: ConstantText,
}

impl JsonPlan {
    pub(super) fn compile(avro_type: &AvroType) -> Self {
        match avro_type {
            AvroType::Null => Self::Null,
            AvroType::Boolean => Self::Boolean,
            AvroType::Int => Self::Int,
            AvroType::Long => Self::Long,
            AvroType::Float => Self::Float,
            AvroType::Double => Self::Double,
            AvroType::Bytes => Self::Bytes(BytesEncoding::Length),
            AvroType::Fixed(size) => Self::Bytes(BytesEncoding::Fixed(*size)),
            AvroType::String => Self::Text,
            AvroType::Enum(symbols) => {
                let quoted = |symbol: &String| ConstantText::new(&json_string(symbol));
                Self::Enum(symbols.iter().map(quoted).collect())
            }
            AvroType::Array(items) => {
                let widthless = items.is_zero_width();
                Self::Array { items: Box::new(Self::compile(items)), widthless }
            }
            AvroType::Map(values) => Self::Map(Box::new(Self::compile(values))),
            AvroType::Record(fields) => Self::Record(JsonRecord::compile(fields)),
            AvroType::Union(branches) => Self::Union(branches.iter().map(Self::compile).collect()),
            AvroType::Variants(branches) => {
                let plans = branches.iter().map(|branch| Self::compile(&branch.avro_type));
                Self::Union(plans.collect())
            }
            AvroType::Decimal { encoding, precision, scale } => Self::Decimal {
                encoding: *encoding,
                precision: *precision,
                scale: *scale,
                quoted: *precision > MAX_NUMBER_DIGITS,
            },
            AvroType::BigDecimal => Self::BigDecimal,
            AvroType::Uuid(UuidEncoding::Text) => Self::UuidText,
            AvroType::Uuid(UuidEncoding::Bytes(encoding)) => Self::Uuid(*encoding),
            AvroType::Date => Self::Date,
            AvroType::TimeMillis => Self::TimeMillis,
            AvroType::TimeMicros => Self::TimeMicros,
            AvroType::Timestamp(unit) => Self::Timestamp(*unit),
            AvroType::LocalTimestamp(unit) => Self::LocalTimestamp(*unit),
            AvroType::Duration => Self::Duration,
        }
    }

    /// Reports that [`super::json::write`] leaves the quotes around the value to the caller.
    fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }
}

impl JsonRecord {
    fn compile(fields: &[AvroField]) -> Self {
        let mut pending = "{".to_owned();
        let fields = fields.iter().enumerate().map(|(index, field)| {
            let plan = JsonPlan::compile(&field.avro_type);
            if index > 0 {
                pending.push(',');
            }
            let quote = if plan.is_text() { "\"" } else { "" };
            let prefix = format!("{pending}{}:{quote}", json_string(&field.name));
            quote.clone_into(&mut pending);
            (ConstantText::new(&prefix), plan)
        });
        let fields = fields.collect();
        pending.push('}');
        Self { fields, end: ConstantText::new(&pending) }
    }
}

/// Returns the text in quotes. Names and symbols may contain characters that JSON escapes.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
