//! Byte buffer of a text column, with spare room for whole chunks after its end.

use std::io;

/// Number of bytes that are checked and copied at once.
const CHUNK: usize = 16;

/// A byte buffer that is initialised beyond its end, so that short texts are copied as one chunk of
/// which only the text's length counts. Most texts and all JSON keys are short, and a copy of a
/// variable length costs a function call and a mispredicted branch.
#[derive(Debug, Default)]
pub(super) struct TextBuffer {
    bytes: Vec<u8>,
    /// Number of bytes that belong to the content.
    len: usize,
}

/// Constant text that is copied in one or two chunks if it fits.
#[derive(Debug)]
pub(super) struct ConstantText {
    padded: [u8; 2 * CHUNK],
    text: Box<[u8]>,
}

impl ConstantText {
    pub(super) fn new(text: &str) -> Self {
        let mut padded = [0; 2 * CHUNK];
        let head = text.len().min(padded.len());
        padded[..head].copy_from_slice(&text.as_bytes()[..head]);
        Self { padded, text: text.as_bytes().into() }
    }
}

impl TextBuffer {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn allocated(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Returns the bytes and leaves an empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut taken = std::mem::take(self);
        taken.bytes.truncate(taken.len);
        taken.bytes
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.reserve(1);
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_with(bytes.len(), |room| room.copy_from_slice(bytes));
    }

    /// Appends `count` bytes that `write` fills in place.
    #[inline]
    pub(super) fn extend_with(&mut self, count: usize, write: impl FnOnce(&mut [u8])) {
        self.reserve(count);
        write(&mut self.bytes[self.len..self.len + count]);
        self.len += count;
    }

    #[inline]
    pub(super) fn push_constant(&mut self, constant: &ConstantText) {
        if constant.text.len() > constant.padded.len() {
            return self.extend_from_slice(&constant.text);
        }
        self.reserve(constant.padded.len());
        self.bytes[self.len..self.len + constant.padded.len()].copy_from_slice(&constant.padded);
        self.len += constant.text.len();
    }

    /// Appends the first `len` bytes of `window` if they are ASCII that JSON strings need no
    /// escapes for, which holds for nearly all generated text. Otherwise appends nothing and
    /// returns `false`.
    ///
    /// `window` may extend beyond the text, so that the last chunk needs no padding.
    #[inline]
    pub(super) fn push_plain(&mut self, window: &[u8], len: usize) -> bool {
        self.push_unless(has_special, window, len)
    }

    /// Appends any ASCII like [`Self::push_plain`].
    #[inline]
    pub(super) fn push_ascii(&mut self, window: &[u8], len: usize) -> bool {
        self.push_unless(has_other_than_ascii, window, len)
    }

    #[inline]
    fn push_unless(
        &mut self,
        refuses: fn([u8; CHUNK], usize) -> bool,
        window: &[u8],
        len: usize,
    ) -> bool {
        self.reserve(len + CHUNK);
        let (mut source, mut left) = (window, len);
        let mut room = &mut self.bytes[self.len..];
        while left > 0 {
            let chunk = chunk(source);
            if refuses(chunk, left) {
                return false;
            }
            let (target, behind) = room.split_first_chunk_mut().expect("room was reserved");
            *target = chunk;
            room = behind;
            source = source.get(CHUNK..).unwrap_or_default();
            left = left.saturating_sub(CHUNK);
        }
        self.len += len;
        true
    }

    #[inline]
    fn reserve(&mut self, count: usize) {
        if self.bytes.len() - self.len < count {
            self.grow(count);
        }
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        let enough = self.len + count;
        self.bytes.resize(enough.max(2 * self.bytes.len()).max(1_024), 0);
    }
}

impl io::Write for TextBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[inline]
fn chunk(window: &[u8]) -> [u8; CHUNK] {
    window.first_chunk().copied().unwrap_or_else(|| {
        let mut padded = [0; CHUNK];
        padded[..window.len()].copy_from_slice(window);
        padded
    })
}

/// Reports a control character, a quote, a backslash or a non-ASCII byte among the first `count`
/// bytes.
///
/// As signed numbers, control characters and non-ASCII bytes are both below the space. Bytes beyond
/// `count` are replaced by a harmless one rather than skipped, so that both loops compile to a few
/// vector instructions.
#[expect(clippy::needless_bitwise_bool, reason = "an early exit would keep the loop scalar")]
#[inline]
fn has_special(mut chunk: [u8; CHUNK], count: usize) -> bool {
    const HARMLESS: u8 = b'a';
    let keep: &[u8; CHUNK] =
        KEEP[CHUNK - count.min(CHUNK)..].first_chunk().expect("KEEP is two chunks long");
    for (byte, keep) in chunk.iter_mut().zip(keep) {
        *byte = ((*byte ^ HARMLESS) & keep) ^ HARMLESS;
    }
    chunk.iter().fold(false, |any, &byte| {
        any | (byte.cast_signed() < 0x20) | (byte == b'"') | (byte == b'\\')
    })
}

/// Reports a non-ASCII byte among the first `count` bytes.
#[inline]
fn has_other_than_ascii(chunk: [u8; CHUNK], count: usize) -> bool {
    let keep: &[u8; CHUNK] =
        KEEP[CHUNK - count.min(CHUNK)..].first_chunk().expect("KEEP is two chunks long");
    chunk.iter().zip(keep).fold(0, |all, (byte, keep)| all | (byte & keep)) >= 0x80
}

/// One chunk of ones and one of zeros: a window of it has any number of leading ones.
const KEEP: [u8; 2 * CHUNK] = {
    let mut keep = [0; 2 * CHUNK];
    let (ones, _) = keep.split_at_mut(CHUNK);
    ones.copy_from_slice(&[u8::MAX; CHUNK]);
    keep
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_text_is_appended_and_other_text_rejected(
            text in prop::collection::vec(prop_oneof![8 => 0x20_u8..0x80, 1 => any::<u8>()], 0..60),
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let (ascii, special) = (text.is_ascii(), |byte: &u8| *byte < 0x20 || *byte >= 0x80 || matches!(byte, b'"' | b'\\'));
            let is_plain = !text.iter().any(special);
            let mut buffer = TextBuffer::default();
            buffer.extend_from_slice(b"before");

            let window = [text.as_slice(), &behind].concat();

            prop_assert_eq!(buffer.push_plain(&window, text.len()), is_plain);
            let expected = if is_plain { text.as_slice() } else { b"" };
            prop_assert_eq!(buffer.as_slice(), [b"before", expected].concat());
            buffer.truncate(b"before".len());
            prop_assert_eq!(buffer.push_ascii(&window, text.len()), ascii);
            let expected = if ascii { text.as_slice() } else { b"" };
            prop_assert_eq!(buffer.take(), [b"before", expected].concat());
        }

        #[test]
        fn constants_of_any_length_are_appended_completely(constants in prop::collection::vec("[a-z]{0,70}", 0..9)) {
            let mut buffer = TextBuffer::default();
            for constant in &constants {
                buffer.push_constant(&ConstantText::new(constant));
            }
            prop_assert_eq!(buffer.take(), constants.concat().into_bytes());
        }
    }

    #[test]
    fn every_byte_is_classified_at_every_position() {
        for (byte, place) in
            (0..=255_u8).flat_map(|byte| (0..CHUNK).map(move |place| (byte, place)))
        {
            let mut chunk = [b'a'; CHUNK];
            chunk[place] = byte;
            let special = !(0x20..0x80).contains(&byte) || matches!(byte, b'"' | b'\\');
            assert_eq!(has_special(chunk, CHUNK), special, "{byte} at {place}");
            assert!(!has_special(chunk, place), "{byte} at {place} does not count");
            assert_eq!(has_other_than_ascii(chunk, CHUNK), byte >= 0x80, "{byte} at {place}");
            assert!(!has_other_than_ascii(chunk, place), "{byte} at {place} does not count");
        }
    }
}
