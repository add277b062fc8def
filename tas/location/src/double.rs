//! IEEE 754 doubles from whole numbers, without floating point: a TA has none.

/// Bits of the double nearest to `number / scale`; ties go to the even one.
///
/// For numbers below 2^37 either way and a `scale` from 1 to 2^24: all that the TA has.
#[must_use]
pub fn bits(number: i64, scale: u32) -> u64 {
    let sign = if number < 0 { 1 << 63 } else { 0 };
    let magnitude = u128::from(number.unsigned_abs());
    if magnitude == 0 || scale == 0 {
        return 0;
    }
    // At least 66 significant bits, and the rest says whether more follow.
    let scale = u128::from(scale);
    let scaled = magnitude << SHIFT;
    let (quotient, rest) = (scaled / scale, scaled % scale);
    let len = 128 - quotient.leading_zeros();
    let mut drop = len.saturating_sub(53);
    let low = quotient & ((1 << drop) - 1);
    let half = 1u128 << drop.saturating_sub(1);
    let mut mantissa = quotient >> drop;
    let above = low > half || (low == half && (rest != 0 || mantissa & 1 == 1));
    mantissa += u128::from(above);
    if mantissa == 1 << 53 {
        mantissa >>= 1;
        drop += 1;
    }
    let exponent = u64::from(1023 + 52 + drop - SHIFT);
    let fraction = u64::try_from(mantissa & ((1 << 52) - 1)).unwrap_or(0);
    sign | exponent << 52 | fraction
}

/// Room made below the binary point.
const SHIFT: u32 = 90;
