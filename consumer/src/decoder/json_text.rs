//! The pieces of JSON text: escaped strings and numbers.

use super::Problem;

/// Appends a string's content, escaped; the quotes are the caller's. Refuses what is not UTF-8.
#[inline]
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Problem> {
    if is_plain(text) {
        out.extend_from_slice(text);
        Ok(())
    } else {
        push_special(out, text)
    }
}

/// Whether the text is ASCII without anything to escape: nearly all text that machines write.
///
/// Seen as signed numbers, control characters and the bytes of other alphabets are both below the
/// space; the loop without an exit compiles to vector instructions.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    let special = |byte: u8| byte.cast_signed() < 0x20 || byte == b'"' || byte == b'\\';
    let (chunks, rest) = text.as_chunks::<16>();
    chunks.iter().all(|chunk| !chunk.iter().fold(false, |any, &byte| any | special(byte)))
        && !rest.iter().fold(false, |any, &byte| any | special(byte))
}

#[cold]
fn push_special(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Problem> {
    let text = str::from_utf8(text).map_err(|_| Problem::NotUtf8)?;
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => push_control(out, byte),
            other => out.push(other),
        }
    }
    Ok(())
}

fn push_control(out: &mut Vec<u8>, byte: u8) {
    let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
}

#[inline]
pub(super) fn push_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest number that reads back as this float of its own width.
pub(super) fn push_float<F: zmij::Float + Into<f64> + Copy>(out: &mut Vec<u8>, value: F) {
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
        let mut out = b"\"".to_vec();
        push_escaped(&mut out, text)?;
        out.push(b'"');
        Ok(String::from_utf8(out).unwrap())
    }

    proptest! {
        #[test]
        fn any_text_reads_back_from_its_json(text in any::<String>()) {
            let json = escaped(text.as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_text_or_refused(bytes in any::<Vec<u8>>()) {
            prop_assert_eq!(escaped(&bytes).is_ok(), str::from_utf8(&bytes).is_ok());
        }

        #[test]
        fn any_double_reads_back_from_its_json(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            let mut out = Vec::new();
            push_float(&mut out, value);
            prop_assert_eq!(str::from_utf8(&out).unwrap().parse::<f64>().unwrap(), value);
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap().is_number());
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
    fn floats_are_as_short_as_their_own_width_allows() {
        let text = |value: f32| {
            let mut out = Vec::new();
            push_float(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(0.1), "0.1");
        assert_eq!(text(f32::NAN), "\"NaN\"");
        assert_eq!(text(f32::NEG_INFINITY), "\"-Infinity\"");
    }
}
