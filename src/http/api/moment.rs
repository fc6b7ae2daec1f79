//! Moments as clients write them: RFC 3339, or the same without an offset, which is then UTC, as Azure DevOps takes it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, de};

/// Longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// Reads a moment; None if the text is none. Years are 0001 to 9999.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (civil, offset) = read(text, false)?;
    offset.to_timestamp(civil).ok()
}

/// Reads a moment, or a day alone, which stands for its beginning. What is later or earlier than any moment that can be
/// told stands for the last or the first: `9999-12-31T23:59:59.9999999` is how some clients write "never".
pub(super) fn parse_end(text: &str) -> Option<Timestamp> {
    let (civil, offset) = read(text, true)?;
    let furthest = if civil.year() > 0 {
        Timestamp::MAX
    } else {
        Timestamp::MIN
    };
    Some(offset.to_timestamp(civil).unwrap_or(furthest))
}

fn read(text: &str, may_be_a_day: bool) -> Option<(DateTime, Offset)> {
    // A name of a zone in brackets is not RFC 3339, and neither is a year with a sign.
    if text.len() > TEXT_BYTES_MAX || text.contains('[') || text.starts_with('+') {
        return None;
    }
    let pieces = Pieces::parse(text).ok()?;
    let time = pieces.time();
    if time.is_none() && !may_be_a_day {
        return None;
    }
    let civil = pieces.date().to_datetime(time.unwrap_or_default());
    Some((civil, pieces.to_numeric_offset().unwrap_or(Offset::UTC)))
}

/// Reads a field that may be missing or null, for `deserialize_with`.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    parse(&text)
        .map(Some)
        .ok_or_else(|| de::Error::custom("it is no moment like 2027-01-31T18:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_and_without_an_offset() {
        let utc = |text: &str| parse(text).map(|moment| moment.to_string());
        for text in [
            "2018-07-18T07:51:26.5Z",
            "2018-07-18T00:51:26.5000000-07:00",
            "2018-07-18T07:51:26.5+00:00",
            "2018-07-18T07:51:26.5",
            "2018-07-18t07:51:26.5z",
        ] {
            assert_eq!(utc(text).as_deref(), Some("2018-07-18T07:51:26.5Z"), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "now",
            "2018-07-18",
            "07:51:26",
            "2018-07-18T",
            "2018-13-18T07:51:26Z",
            "2018-07-18T25:51:26Z",
            "2018-07-18T07:51:26+99:00",
            "2018-07-18T07:51:26Z[Europe/Berlin]",
            "2018-07-18T07:51:26 ",
            "+002018-07-18T07:51:26Z",
            "99999-07-18T07:51:26Z",
            &"2018-07-18T07:51:26.".repeat(1000),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn ends_may_be_days_and_further_off_than_time_goes() {
        for (text, expected) in [
            ("2027-01-31T18:00:00Z", "2027-01-31T18:00:00Z"),
            ("2027-01-31t18:00:00.1234567z", "2027-01-31T18:00:00.1234567Z"),
            ("2027-01-31T20:00:00+02:00", "2027-01-31T18:00:00Z"),
            ("2027-01-31T18:00:00", "2027-01-31T18:00:00Z"),
            ("2027-01-31", "2027-01-31T00:00:00Z"),
        ] {
            assert_eq!(parse_end(text), Some(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(parse_end("9999-12-31T23:59:59.9999999Z"), Some(Timestamp::MAX));
        assert_eq!(parse_end("-009999-01-01T00:00:00+23:59"), Some(Timestamp::MIN));
        for text in [
            "",
            "now",
            "90d",
            "18:00",
            "2027-02-30",
            "2027-01-31T25:00:00Z",
            "2027-01-31T18:00:00Z[Europe/Berlin]",
            "2027-01-31T18:00:00Z ",
            &"2".repeat(1000),
        ] {
            assert_eq!(parse_end(text), None, "{text}");
        }
    }
}
