//! Avro decimals: big-endian two's complement of any length.

use crate::cursor::Cursor;
use crate::error::Problem;
use crate::text_buffer::TextBuffer;

/// Longest unscaled value of a `big-decimal`, about 2,400 digits: converting it to text takes
/// quadratic time.
const MAX_BIG_DECIMAL_BYTES: usize = 1_000;

/// Largest number of zeros in plain notation; with more padding the exponent is written instead.
const MAX_PADDING: i64 = 40;

/// Returns the unscaled value if it has at most `precision` digits (at most 38).
pub(super) fn unscaled(bytes: &[u8], precision: u8) -> Result<i128, Problem> {
    let bytes = without_sign_extension(bytes);
    if bytes.is_empty() || bytes.len() > 16 {
        return Err(Problem::DecimalOutOfRange);
    }
    let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut wide = [fill; 16];
    wide[16 - bytes.len()..].copy_from_slice(bytes);
    let value = i128::from_be_bytes(wide);
    if value.unsigned_abs() < 10_u128.pow(u32::from(precision)) {
        Ok(value)
    } else {
        Err(Problem::DecimalOutOfRange)
    }
}

/// Parses a decimal number, with or without an exponent. Rejects more than `precision` digits, and
/// more than `scale` digits after the decimal point.
pub(super) fn parse(text: &str, precision: u8, scale: u8) -> Result<i128, Problem> {
    let out_of_range = Problem::DecimalOutOfRange;
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().map_err(|_| out_of_range)?),
        None => (text, 0),
    };
    let (is_negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Problem::TypeMismatch);
    }
    // The number is its digits times ten to the power of this.
    let behind = i32::try_from(fraction.len()).map_err(|_| out_of_range)?;
    let power = exponent.checked_sub(behind).and_then(|power| power.checked_add(scale.into()));
    let mut power = power.ok_or(out_of_range)?;
    while power < 0 && digits.ends_with('0') {
        digits.pop();
        power += 1;
    }
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let zeros = usize::try_from(power).map_err(|_| out_of_range)?;
    if digits.len() + zeros.min(64) > usize::from(precision) {
        return Err(out_of_range);
    }
    let value: i128 = format!("{digits}{}", "0".repeat(zeros)).parse().map_err(|_| out_of_range)?;
    Ok(if is_negative { -value } else { value })
}

/// Writes the decimal with `scale` digits after the decimal point; rejects more than `precision`
/// digits.
pub(super) fn push_decimal(
    out: &mut TextBuffer,
    bytes: &[u8],
    precision: usize,
    scale: usize,
) -> Result<(), Problem> {
    // Three digits take slightly less than ten bits.
    if without_sign_extension(bytes).len() > precision * 10 / 24 + 2 {
        return Err(Problem::DecimalOutOfRange);
    }
    let (negative, digits) = digits(bytes)?;
    if digits.len() > precision {
        return Err(Problem::DecimalOutOfRange);
    }
    let scale = i64::try_from(scale).map_err(|_| Problem::DecimalOutOfRange)?;
    push_plain(out, negative, &digits, scale);
    Ok(())
}

/// Writes a `big-decimal`, which consists of the bytes of the unscaled value and the scale. Uses
/// plain notation if it is short, otherwise digits and an exponent, such as `12E-900`.
pub(super) fn push_big_decimal(out: &mut TextBuffer, bytes: &[u8]) -> Result<(), Problem> {
    let mut cursor = Cursor::new(bytes);
    let bytes = cursor.length_prefixed()?;
    let scale = cursor.long()?;
    if cursor.remaining() > 0 || bytes.len() > MAX_BIG_DECIMAL_BYTES {
        return Err(Problem::DecimalOutOfRange);
    }
    let (negative, digits) = digits(bytes)?;
    let padding = scale.saturating_sub(i64::try_from(digits.len()).expect("few digits"));
    if scale >= 0 && padding <= MAX_PADDING {
        push_plain(out, negative, &digits, scale);
    } else {
        push_sign(out, negative);
        out.extend_from_slice(&digits);
        let exponent = scale.checked_neg().ok_or(Problem::DecimalOutOfRange)?;
        out.extend_from_slice(format!("E{exponent}").as_bytes());
    }
    Ok(())
}

fn push_plain(out: &mut TextBuffer, negative: bool, digits: &[u8], scale: i64) {
    let scale = usize::try_from(scale).expect("callers reject negative and large scales");
    push_sign(out, negative);
    let padded = scale + 1;
    let zeros = padded.saturating_sub(digits.len());
    let whole = (digits.len() + zeros) - scale;
    let digit = |index: usize| if index < zeros { b'0' } else { digits[index - zeros] };
    (0..whole).for_each(|index| out.push(digit(index)));
    if scale > 0 {
        out.push(b'.');
        (whole..whole + scale).for_each(|index| out.push(digit(index)));
    }
}

fn push_sign(out: &mut TextBuffer, negative: bool) {
    if negative {
        out.push(b'-');
    }
}

/// Removes leading bytes that only repeat the sign.
fn without_sign_extension(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && let [second, ..] = rest
        && ((*first == 0 && second & 0x80 == 0) || (*first == 0xff && second & 0x80 != 0))
    {
        bytes = rest;
    }
    bytes
}

/// Returns the sign and the decimal digits, by repeated division by 10⁹.
fn digits(bytes: &[u8]) -> Result<(bool, Vec<u8>), Problem> {
    let bytes = without_sign_extension(bytes);
    let negative = bytes.first().ok_or(Problem::DecimalOutOfRange)? & 0x80 != 0;
    let mut limbs = magnitude(bytes, negative);
    let mut groups = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut remainder = 0_u64;
        for limb in &mut limbs {
            let dividend = remainder << 32 | u64::from(*limb);
            *limb = u32::try_from(dividend / 1_000_000_000).expect("the remainder is below 10⁹");
            remainder = dividend % 1_000_000_000;
        }
        groups.push(remainder);
    }
    let text = groups.iter().rev().map(|group| format!("{group:09}")).collect::<Vec<_>>().concat();
    let text = text.trim_start_matches('0');
    Ok((negative, if text.is_empty() { b"0".to_vec() } else { text.as_bytes().to_vec() }))
}

/// Returns the absolute value in 32-bit limbs, most significant first.
fn magnitude(bytes: &[u8], negative: bool) -> Vec<u32> {
    let fill = if negative { 0xff } else { 0 };
    let mut padded = vec![fill; bytes.len().next_multiple_of(4) - bytes.len()];
    padded.extend_from_slice(bytes);
    let mut limbs: Vec<u32> =
        padded.as_chunks().0.iter().map(|chunk| u32::from_be_bytes(*chunk)).collect();
    if negative {
        let mut carry = true;
        for limb in limbs.iter_mut().rev() {
            (*limb, carry) = (!*limb).overflowing_add(u32::from(carry));
        }
    }
    limbs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: &[u8], precision: usize, scale: usize) -> Result<String, Problem> {
        let mut out = TextBuffer::default();
        push_decimal(&mut out, bytes, precision, scale)?;
        Ok(String::from_utf8(out.take()).unwrap())
    }

    fn big_decimal(unscaled: i128, scale: i8) -> Result<String, Problem> {
        let mut bytes = vec![32];
        bytes.extend(unscaled.to_be_bytes());
        bytes.push((scale << 1 ^ scale >> 7).cast_unsigned());
        let mut out = TextBuffer::default();
        push_big_decimal(&mut out, &bytes)?;
        Ok(String::from_utf8(out.take()).unwrap())
    }

    proptest! {
        #[test]
        fn digits_equal_those_of_the_number(value in any::<i128>(), shift in 0_u32..128, fill in 0_usize..20) {
            let value = value >> shift;
            let mut bytes = vec![if value < 0 { 0xff } else { 0 }; fill];
            bytes.extend(value.to_be_bytes());

            prop_assert_eq!(text(&bytes, 40, 0), Ok(value.to_string()));
            let fits = value.unsigned_abs() < 10_u128.pow(20);
            prop_assert_eq!(unscaled(&bytes, 20).ok(), fits.then_some(value));
            prop_assert_eq!(text(&bytes, 20, 0).is_ok(), fits);
        }
    }

    #[test]
    fn numbers_are_parsed_exactly_or_rejected() {
        let read = |text| parse(text, 5, 2);

        assert_eq!(read("12.5"), Ok(1250));
        assert_eq!(read("-0.01"), Ok(-1));
        assert_eq!(read("1.2500"), Ok(125));
        assert_eq!(read("12e1"), Ok(12_000));
        assert_eq!(read("125E-1"), Ok(1250));
        assert_eq!(read("0e-99"), Ok(0));
        assert_eq!(read("999.99"), Ok(99_999));
        for text in ["1000", "0.001", "1e400000000", "1e-5", "1e99999999999"] {
            assert_eq!(read(text), Err(Problem::DecimalOutOfRange), "{text}");
        }
        for text in ["", "-", "x", "1,5", "+1", "NaN"] {
            assert_eq!(read(text), Err(Problem::TypeMismatch), "{text}");
        }
    }

    #[test]
    fn the_decimal_point_is_at_the_position_of_the_scale() {
        assert_eq!(text(&[0x04, 0xd2], 9, 2), Ok("12.34".to_owned()));
        assert_eq!(text(&[0xff], 9, 3), Ok("-0.001".to_owned()));
        assert_eq!(text(&[0], 9, 1), Ok("0.0".to_owned()));
        assert_eq!(text(&[], 9, 1), Err(Problem::DecimalOutOfRange));
    }

    #[test]
    fn a_big_decimal_of_an_extreme_scale_is_written_with_an_exponent() {
        assert_eq!(big_decimal(1234, 2), Ok("12.34".to_owned()));
        assert_eq!(big_decimal(-5, 3), Ok("-0.005".to_owned()));
        assert_eq!(big_decimal(12, -3), Ok("12E3".to_owned()));
        assert_eq!(big_decimal(12, 60), Ok("12E-60".to_owned()));
    }
}
