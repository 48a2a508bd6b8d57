//! Pure helpers for SQL text.

/// Returns a text as a quoted SQL literal.
#[must_use]
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
