//! Reader of Avro's binary encoding from a borrowed datum.

use super::Problem;

/// Longest varint of 64 bits, bytes; the last byte holds a single bit.
const MAX_VARINT_BYTES: usize = 10;

/// Position in a datum. Every read is bounded by the remaining bytes.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Number of further items without bytes that the datum may declare, see
    /// [`Cursor::widthless_items`].
    widthless: usize,
    /// After an error: the indices of the record columns that were being decoded, innermost first.
    /// Not allocated before an error.
    path: Vec<usize>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(datum: &'a [u8]) -> Self {
        Self { rest: datum, widthless: datum.len(), path: Vec::new() }
    }

    /// Adds the column of a nested record in which an error occurred.
    #[cold]
    pub(super) fn within(&mut self, column: usize, problem: Problem) -> Problem {
        self.path.push(column);
        problem
    }

    /// Returns the indices of the nested columns that were being decoded, outermost first.
    pub(super) fn path(&self) -> impl Iterator<Item = usize> {
        self.path.iter().rev().copied()
    }

    /// Returns the number of remaining bytes.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Problem::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Problem::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Problem> {
        let unsigned = self.varint()?;
        Ok((unsigned >> 1).cast_signed() ^ -((unsigned & 1).cast_signed()))
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i32, Problem> {
        i32::try_from(self.long()?).map_err(|_| Problem::IntOverflow)
    }

    #[inline]
    pub(super) fn boolean(&mut self) -> Result<bool, Problem> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Problem::NotABoolean),
        }
    }

    /// Reads a `bytes` or `string` value: a length, checked against the remaining bytes, and the
    /// content.
    #[inline]
    pub(super) fn length_prefixed(&mut self) -> Result<&'a [u8], Problem> {
        let length = usize::try_from(self.long()?).map_err(|_| Problem::NegativeLength)?;
        self.take(length)
    }

    /// Returns the bytes from the start of a `bytes` or `string` value to the end of the datum, and
    /// the length of the value.
    #[inline]
    pub(super) fn text_window(&mut self) -> Result<(&'a [u8], usize), Problem> {
        let length = usize::try_from(self.long()?).map_err(|_| Problem::NegativeLength)?;
        let window = self.rest;
        self.rest = window.get(length..).ok_or(Problem::UnexpectedEnd)?;
        Ok((window, length))
    }

    /// Reads the index of a union branch or enum symbol.
    #[inline]
    pub(super) fn index(&mut self) -> Result<usize, Problem> {
        usize::try_from(self.long()?).map_err(|_| Problem::NegativeIndex)
    }

    /// Reads the number of items in the next block of an array or map; 0 is the end.
    ///
    /// A negative count is followed by the size of the block in bytes, for readers that skip it.
    /// The size must be within the datum.
    #[inline]
    pub(super) fn block(&mut self) -> Result<usize, Problem> {
        let count = self.long()?;
        if count < 0 {
            let size = usize::try_from(self.long()?).map_err(|_| Problem::NegativeLength)?;
            if size > self.remaining() {
                return Err(Problem::UnexpectedEnd);
            }
        }
        usize::try_from(count.unsigned_abs()).map_err(|_| Problem::TooManyItems)
    }

    /// Counts items that take no bytes, which the remaining bytes do not bound: a datum may have as
    /// many of them as it has bytes.
    pub(super) fn widthless_items(&mut self, count: usize) -> Result<(), Problem> {
        self.widthless = self.widthless.checked_sub(count).ok_or(Problem::TooManyItems)?;
        Ok(())
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Problem> {
        self.try_varint().ok_or_else(|| self.varint_problem())
    }

    /// Reads a varint. Returns an `Option`, because that is returned in registers.
    #[inline]
    fn try_varint(&mut self) -> Option<u64> {
        let &first = self.rest.first()?;
        if first < 0x80 {
            self.rest = &self.rest[1..];
            return Some(u64::from(first));
        }
        match self.rest.first_chunk() {
            Some(word) => self.varint_in_word(u64::from_le_bytes(*word)),
            None => self.long_varint(),
        }
    }

    /// Combines the 7-bit groups of up to eight bytes at once; timestamps take eight.
    #[inline]
    fn varint_in_word(&mut self, word: u64) -> Option<u64> {
        let ends = !word & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.long_varint();
        }
        let length = (ends.trailing_zeros() / 8 + 1) as usize;
        self.rest = &self.rest[length..];
        let groups = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
        let pairs = (groups & 0x007f_007f_007f_007f) | ((groups & 0x7f00_7f00_7f00_7f00) >> 1);
        let quads = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
        Some((quads & 0x0fff_ffff) | ((quads & 0x0fff_ffff_0000_0000) >> 4))
    }

    /// Reads byte by byte: near the end of the datum, and varints of nine and ten bytes.
    #[inline(never)]
    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().enumerate().take(MAX_VARINT_BYTES) {
            if index == MAX_VARINT_BYTES - 1 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        None
    }

    #[cold]
    fn varint_problem(&self) -> Problem {
        if self.rest.len() < MAX_VARINT_BYTES {
            Problem::UnexpectedEnd
        } else {
            Problem::VarintOverflow
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(value: i64) -> Vec<u8> {
        let mut zigzag = (value << 1 ^ value >> 63).cast_unsigned();
        let mut bytes = Vec::new();
        while zigzag >= 0x80 {
            bytes.push(u8::try_from(zigzag & 0x7f).unwrap() | 0x80);
            zigzag >>= 7;
        }
        bytes.push(u8::try_from(zigzag).unwrap());
        bytes
    }

    proptest! {
        #[test]
        fn a_long_is_decoded_at_any_position(
            value in any::<i64>(), shift in 0_u32..64, tail in 0_usize..12,
        ) {
            let value = value >> shift;
            let mut datum = encode(value);
            datum.resize(datum.len() + tail, 0xff);

            let mut cursor = Cursor::new(&datum);

            prop_assert_eq!(cursor.long(), Ok(value));
            prop_assert_eq!(cursor.remaining(), tail);
        }
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_rejected() {
        let overlong = [0xff; 9].into_iter().chain([2]).collect::<Vec<_>>();
        assert_eq!(Cursor::new(&overlong).long(), Err(Problem::VarintOverflow));
        assert_eq!(Cursor::new(&[0xff; 12]).long(), Err(Problem::VarintOverflow));
        assert_eq!(Cursor::new(&[0xff; 9]).long(), Err(Problem::UnexpectedEnd));
    }

    #[test]
    fn lengths_beyond_the_datum_are_rejected_before_any_allocation() {
        let huge = encode(i64::MAX);
        assert_eq!(Cursor::new(&huge).length_prefixed(), Err(Problem::UnexpectedEnd));
        assert_eq!(Cursor::new(&encode(-1)).length_prefixed(), Err(Problem::NegativeLength));
        let block = [encode(i64::MIN), encode(50)].concat();
        assert_eq!(Cursor::new(&block).block(), Err(Problem::UnexpectedEnd));
    }
}
