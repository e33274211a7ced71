//! `Decimal` in the binary form of Postgres' NUMERIC.
//!
//! sqlx' own conversion loses the scale of a zero and silently rounds a stored value that has more digits than a
//! `Decimal` holds.

use rust_decimal::Decimal;

use crate::backend::BindError;

const NEGATIVE: u16 = 0x4000;
const POSITIVE: u16 = 0x0000;

/// One more than the largest mantissa of a `Decimal`.
const MANTISSA_END: u128 = 1 << 96;

/// Writes `value`.
pub(super) fn put(value: Decimal, out: &mut Vec<u8>) {
    let scale = value.scale();
    let groups_after_point = scale.div_ceil(4);
    // At most 2^96 * 1000.
    let mut mantissa = value.mantissa().unsigned_abs() * 10u128.pow(groups_after_point * 4 - scale);

    let mut digits = Vec::with_capacity(9);
    while mantissa != 0 {
        digits.push((mantissa % 10_000) as i16);
        mantissa /= 10_000;
    }
    digits.reverse();
    let weight = if digits.is_empty() { 0 } else { digits.len() as i16 - groups_after_point as i16 - 1 };
    while digits.last() == Some(&0) {
        digits.pop();
    }

    let negative = value.is_sign_negative() && !digits.is_empty();
    out.extend_from_slice(&(digits.len() as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&(if negative { NEGATIVE } else { POSITIVE }).to_be_bytes());
    out.extend_from_slice(&(scale as i16).to_be_bytes());
    for digit in digits {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

/// Reads a value, with the scale it is stored with as far as a `Decimal` can express it.
pub(super) fn take(bytes: &[u8]) -> Result<Decimal, BindError> {
    let word = |at: usize| -> Result<i16, BindError> {
        let word = bytes.get(at * 2..at * 2 + 2).ok_or("the NUMERIC is cut short")?;
        Ok(i16::from_be_bytes([word[0], word[1]]))
    };
    let (count, weight, sign, wanted) = (word(0)?, i32::from(word(1)?), word(2)? as u16, word(3)?);
    if sign != NEGATIVE && sign != POSITIVE {
        return Err("a `Decimal` has no NaN and no infinity".into());
    }
    let count = usize::try_from(count)?;
    let wanted = u32::try_from(wanted)?.min(Decimal::MAX_SCALE);

    let mut mantissa = 0u128;
    for at in 0..count {
        let digit = u128::try_from(word(4 + at)?)?;
        mantissa = mantissa.checked_mul(10_000).and_then(|high| high.checked_add(digit)).ok_or(TOO_LARGE)?;
    }
    // The value is mantissa * 10^exponent.
    let exponent = if count == 0 { 0 } else { 4 * (weight - count as i32 + 1) };
    let mut scale = exponent.min(0).unsigned_abs();
    if exponent > 0 {
        let power = 10u128.checked_pow(exponent.unsigned_abs()).ok_or(TOO_LARGE)?;
        mantissa = mantissa.checked_mul(power).ok_or(TOO_LARGE)?;
    }

    while scale > 0 && mantissa.is_multiple_of(10) && (scale > wanted || mantissa >= MANTISSA_END) {
        mantissa /= 10;
        scale -= 1;
    }
    while scale < wanted && mantissa <= (MANTISSA_END - 1) / 10 {
        mantissa *= 10;
        scale += 1;
    }
    if mantissa >= MANTISSA_END || scale > Decimal::MAX_SCALE {
        return Err(TOO_LARGE.into());
    }
    let signed = if sign == NEGATIVE { -(mantissa as i128) } else { mantissa as i128 };
    Ok(Decimal::try_from_i128_with_scale(signed, scale)?)
}

const TOO_LARGE: &str = "the NUMERIC has more digits than a `Decimal` holds";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn value_and_scale_survive(lo: u32, mid: u32, hi: u32, negative: bool, scale in 0u32..=28) {
            for value in [
                Decimal::from_parts(lo, mid, hi, negative, scale),
                Decimal::from_parts(lo, 0, 0, negative, scale),
                Decimal::from_parts(0, 0, 0, false, scale),
            ] {
                let mut bytes = Vec::new();
                put(value, &mut bytes);
                let back = take(&bytes).unwrap();
                prop_assert_eq!((back, back.scale()), (value, value.scale()));
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>, head: [i16; 4]) {
            let _ = take(&bytes);
            let mut all: Vec<u8> = head.iter().flat_map(|word| word.to_be_bytes()).collect();
            all.extend_from_slice(&bytes);
            let _ = take(&all);
        }
    }
}
