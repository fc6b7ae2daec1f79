//! Moments as clients write them: RFC 3339, or the same without an offset, which is then UTC, as Azure DevOps takes it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, de};

/// Longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// Reads a moment; None if the text is none. Years are 0001 to 9999.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    // A date alone, or a name of a zone in brackets, is not RFC 3339.
    if text.len() > TEXT_BYTES_MAX
        || !text.contains(['T', 't'])
        || text.contains('[')
        || text.starts_with(['+', '-'])
    {
        return None;
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let last = text.chars().next_back()?;
    let time = text.split(['T', 't']).nth(1)?;
    if !last.is_ascii_digit() || time.contains(['+', '-']) {
        return None;
    }
    let civil: DateTime = text.parse().ok()?;
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
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
}
