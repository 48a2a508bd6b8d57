//! JSON text output: escaped strings and numbers.

use crate::error::Problem;
use crate::text_buffer::TextBuffer;

/// Appends the first `len` bytes of `window` as the escaped content of a string; the caller writes
/// the quotes. Rejects invalid UTF-8.
#[inline]
pub(super) fn push_escaped(out: &mut TextBuffer, window: &[u8], len: usize) -> Result<(), Problem> {
    if out.push_plain(window, len) { Ok(()) } else { push_special(out, &window[..len]) }
}

#[cold]
fn push_special(out: &mut TextBuffer, text: &[u8]) -> Result<(), Problem> {
    let mut rest = str::from_utf8(text).map_err(|_| Problem::NotUtf8)?.as_bytes();
    let is_escaped = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\');
    while let Some(place) = rest.iter().position(is_escaped) {
        out.extend_from_slice(&rest[..place]);
        push_escape(out, rest[place]);
        rest = &rest[place + 1..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn push_escape(out: &mut TextBuffer, byte: u8) {
    match byte {
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => push_control(out, byte),
        quote_or_backslash => out.extend_from_slice(&[b'\\', quote_or_backslash]),
    }
}

fn push_control(out: &mut TextBuffer, byte: u8) {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
}

#[inline]
pub(super) fn push_integer(out: &mut TextBuffer, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest number that parses to the same float of its width.
pub(super) fn push_float<F: zmij::Float + Into<f64> + Copy>(out: &mut TextBuffer, value: F) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        let name: &[u8] = match wide {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => b"\"NaN\"",
        };
        out.extend_from_slice(name);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &[u8]) -> Result<String, Problem> {
        let mut out = TextBuffer::default();
        out.push(b'"');
        push_escaped(&mut out, text, text.len())?;
        out.push(b'"');
        Ok(String::from_utf8(out.take()).unwrap())
    }

    proptest! {
        #[test]
        fn any_text_parses_back_from_its_json(text in any::<String>()) {
            let json = escaped(text.as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_escaped_or_rejected(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(escaped(&bytes).is_ok(), str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn any_double_parses_back_from_its_json(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let mut out = TextBuffer::default();
            push_float(&mut out, value);
            let read = str::from_utf8(out.as_slice()).unwrap().parse::<f64>().unwrap();
            prop_assert_eq!(read.to_bits(), value.to_bits());
            prop_assert!(serde_json::from_slice::<serde_json::Value>(out.as_slice()).unwrap().is_number());
        }
    }

    #[test]
    fn every_control_character_is_escaped() {
        let controls = (0..0x20).collect::<Vec<u8>>();
        let text = escaped(&controls).unwrap();

        assert!(text.bytes().all(|byte| byte >= 0x20));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap().into_bytes(), controls);
    }

    #[test]
    fn floats_are_as_short_as_their_width_allows() {
        let text = |value: f32| {
            let mut out = TextBuffer::default();
            push_float(&mut out, value);
            String::from_utf8(out.take()).unwrap()
        };
        assert_eq!(text(0.1), "0.1");
        assert_eq!(text(f32::NAN), "\"NaN\"");
        assert_eq!(text(f32::NEG_INFINITY), "\"-Infinity\"");
    }
}
