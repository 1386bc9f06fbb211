//! What an error may say of a value: of a row's key enough to find the row, of every other value its shape.

use super::cells::{NULL, length, value};
use super::fixed;
use super::numeric::push_numeric;
use crate::source::postgres::types::Wire;
use arrow::array::Array;
use arrow::util::display::array_value_to_string;

/// A text in a key that is longer is shown by its shape: it is more likely to be a document than an identifier.
const LONGEST_TEXT: usize = 64;

/// A value of a key, in full where it is short.
pub(super) fn key_value(wire: &Wire, field: &[u8]) -> String {
    let length = length(field);
    if length == NULL {
        return "NULL".to_owned();
    }
    let bytes = value(field, length);
    shown(wire, bytes).unwrap_or_else(|| shape(wire, bytes))
}

/// As [`key_value`], of a row of a column that is decoded already.
pub(super) fn key_cell(array: &dyn Array, row: usize) -> Option<String> {
    let text = array_value_to_string(array, row).ok()?;
    let characters = text.chars().count();
    Some(if characters <= LONGEST_TEXT { format!("{text:?}") } else { format!("text of {characters} characters") })
}

/// How many digits the number at a position has; `None` for what is no number.
pub(super) fn number(wire: &Wire, data: &[u8], at: u32) -> Option<String> {
    let field = data.get(at as usize..)?;
    let mut text = Vec::new();
    match (wire, length(field)) {
        (_, NULL) => return None,
        (Wire::Numeric | Wire::NumericText, length) => push_numeric(&mut text, value(field, length)).ok()?,
        (Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Xid8, length) => {
            text.extend(shown(wire, value(field, length))?.into_bytes());
        }
        _ => return None,
    }
    digits(&text)
}

fn shown(wire: &Wire, bytes: &[u8]) -> Option<String> {
    let text = match wire {
        Wire::Bool => (bytes == [1]).to_string(),
        Wire::Int2 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Int4 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Int8 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Oid => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Xid8 => u64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Float4 => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Float8 => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Wire::Numeric | Wire::NumericText => short_number(bytes)?,
        Wire::Date => {
            let days = fixed::date(bytes.try_into().ok()?).ok()?;
            instant(i64::from(days) * 86_400, "%Y-%m-%d", 0)?
        }
        Wire::Timestamp => timestamp(bytes, "%Y-%m-%dT%H:%M:%S")?,
        Wire::Timestamptz => format!("{}Z", timestamp(bytes, "%Y-%m-%dT%H:%M:%S")?),
        Wire::Uuid => uuid(bytes)?,
        Wire::Text => {
            let text = std::str::from_utf8(bytes).ok().filter(|text| text.chars().count() <= LONGEST_TEXT)?;
            format!("{text:?}")
        }
        _ => return None,
    };
    Some(text)
}

fn timestamp(bytes: &[u8], format: &str) -> Option<String> {
    let micros = fixed::timestamp(bytes.try_into().ok()?).ok()?;
    instant(micros.div_euclid(1_000_000), format, micros.rem_euclid(1_000_000))
}

/// Seconds since 1970; `None` beyond the years that the calendar here knows.
fn instant(seconds: i64, format: &str, micros: i64) -> Option<String> {
    let text = jiff::Timestamp::from_second(seconds).ok()?.strftime(format).to_string();
    Some(if micros == 0 { text } else { format!("{text}.{micros:06}") })
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let number = format!("{:032x}", u128::from_be_bytes(*bytes));
    let groups = [&number[..8], &number[8..12], &number[12..16], &number[16..20], &number[20..]];
    Some(groups.join("-"))
}

/// A number of a sensible length.
fn short_number(bytes: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    push_numeric(&mut text, bytes).ok()?;
    String::from_utf8(text).ok().filter(|text| text.len() <= LONGEST_TEXT)
}

fn shape(wire: &Wire, bytes: &[u8]) -> String {
    let by_digits = match wire {
        Wire::Numeric | Wire::NumericText => {
            let mut text = Vec::new();
            push_numeric(&mut text, bytes).ok().and_then(|()| digits(&text))
        }
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Xid8 => {
            shown(wire, bytes).and_then(|text| digits(text.as_bytes()))
        }
        Wire::Text | Wire::Json | Wire::Jsonb => {
            std::str::from_utf8(bytes).ok().map(|text| format!("text of {} characters", text.chars().count()))
        }
        _ => None,
    };
    by_digits.unwrap_or_else(|| format!("a value of {} bytes", bytes.len()))
}

/// `-9999.99` → `a number with 4 digits before the point and 2 after it`. `None` for what has no digits.
fn digits(number: &[u8]) -> Option<String> {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let before = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = number.get(before + 1..).unwrap_or_default().len();
    match (before, after) {
        (0, _) => None,
        (1, 0) => Some("a number of 1 digit".to_owned()),
        (1, _) => Some(format!("a number with 1 digit before the point and {after} after it")),
        (_, 0) => Some(format!("a number of {before} digits")),
        _ => Some(format!("a number with {before} digits before the point and {after} after it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(bytes: &[u8]) -> Vec<u8> {
        let mut field = (bytes.len() as i32).to_be_bytes().to_vec();
        field.extend(bytes);
        field
    }

    fn key(wire: &Wire, bytes: &[u8]) -> String {
        key_value(wire, &field(bytes))
    }

    #[test]
    fn keys_are_shown_in_full_unless_they_are_long() {
        assert_eq!(key(&Wire::Int8, &(-42_i64).to_be_bytes()), "-42");
        assert_eq!(key(&Wire::Uuid, &[0xab; 16]), "abababab-abab-abab-abab-abababababab");
        assert_eq!(key(&Wire::Date, &0_i32.to_be_bytes()), "2000-01-01");
        assert_eq!(key(&Wire::Timestamp, &(-1_i64).to_be_bytes()), "1999-12-31T23:59:59.999999");
        assert_eq!(key(&Wire::Timestamptz, &0_i64.to_be_bytes()), "2000-01-01T00:00:00Z");
        assert_eq!(key(&Wire::Text, "a \"é\"\n".as_bytes()), r#""a \"é\"\n""#);
        assert_eq!(key(&Wire::Text, "é".repeat(65).as_bytes()), "text of 65 characters");
        assert_eq!(key(&Wire::Numeric, &[0, 2, 0, 0, 0x40, 0, 0, 2, 0, 12, 0x13, 0x88]), "-12.50");
        assert_eq!(key(&Wire::Bytea, &[1, 2, 3]), "a value of 3 bytes");
        assert_eq!(key_value(&Wire::Int4, &NULL.to_be_bytes()), "NULL");
        // Beyond the calendar, broken, or of another width: nothing is claimed.
        assert_eq!(key(&Wire::Date, &i32::MAX.to_be_bytes()), "a value of 4 bytes");
        assert_eq!(key(&Wire::Int8, &[1, 2]), "a value of 2 bytes");
    }

    #[test]
    fn a_shape_tells_how_much_there_is_and_never_what() {
        let number = [0, 2, 0, 0, 0, 0, 0, 2, 0x27, 0x0f, 0x26, 0xac];
        assert_eq!(shape(&Wire::Numeric, &number), "a number with 4 digits before the point and 2 after it");
        assert_eq!(shape(&Wire::Int4, &(-123_i32).to_be_bytes()), "a number of 3 digits");
        assert_eq!(shape(&Wire::Text, b"secret"), "text of 6 characters");
        assert_eq!(shape(&Wire::Text, &[0xff]), "a value of 1 bytes");
        assert_eq!(shape(&Wire::Numeric, &[0, 0, 0, 0, 0xc0, 0, 0, 0]), "a value of 8 bytes");
    }
}
