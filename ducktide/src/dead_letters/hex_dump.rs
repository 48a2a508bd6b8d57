//! Hex dump of bytes, with ASCII next to it.

use std::fmt::Write as _;

const BYTES_PER_LINE: usize = 16;

/// Returns indented lines of sixteen bytes, each with its offset.
pub(super) fn hex_dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(BYTES_PER_LINE).enumerate() {
        let hex = chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let ascii: String = chunk.iter().copied().map(printable).collect();
        let offset = line * BYTES_PER_LINE;
        writeln!(text, "  {offset:08x}  {hex:<47}  {ascii}").expect("a string takes any text");
    }
    text
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_hexadecimal_and_as_ascii() {
        let dump = hex_dump(b"\0\0\0\0\x07hello world\n");

        let expected = "  00000000  00 00 00 00 07 68 65 6c 6c 6f 20 77 6f 72 6c 64  .....hello world\n  \
                        00000010  0a                                               .\n";
        assert_eq!(dump, expected);
    }

    #[test]
    fn an_empty_value_has_no_lines() {
        assert_eq!(hex_dump(b""), "");
    }
}
