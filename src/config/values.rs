//! How values are written: sizes like `5GiB`, times like `30s`, lists with commas. Each can be text, as in a variable,
//! or TOML's own type.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

/// A value that can be written as text.
pub(super) trait FromText: Sized {
    /// What a value looks like, for errors.
    const EXPECTED: &'static str;

    /// Reads text; `None` if it is no such value.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads a number.
    fn from_number(_number: u64) -> Option<Self> {
        None
    }

    /// Reads `true` or `false`.
    fn from_bool(_value: bool) -> Option<Self> {
        None
    }

    /// Reads a list of texts.
    fn from_list(_items: Vec<String>) -> Option<Self> {
        None
    }
}

/// A value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value<T>(pub(super) T);

impl<'de, T: FromText> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyForm<T>(PhantomData<T>);

        impl<'de, T: FromText> Visitor<'de> for AnyForm<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                T::from_text(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
                let value = u64::try_from(number).ok().and_then(T::from_number);
                value.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
                T::from_number(number)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
                T::from_bool(value).ok_or_else(|| E::invalid_type(de::Unexpected::Bool(value), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<String>()? {
                    list.push(item);
                }
                T::from_list(list).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Seq, &self))
            }
        }

        deserializer.deserialize_any(AnyForm(PhantomData)).map(Value)
    }
}

/// Text and whatever is parsed from it alone.
macro_rules! from_str {
    ($type:ty, $expected:literal) => {
        impl FromText for $type {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Option<Self> {
                <$type>::from_str(text.trim()).ok()
            }
        }
    };
}

from_str!(
    std::net::SocketAddr,
    "an address and a port, such as 127.0.0.1:8443"
);
from_str!(String, "text");

impl FromText for std::path::PathBuf {
    const EXPECTED: &'static str = "a path";

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }
}

impl FromText for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" | "" => Some(false),
            _ => None,
        }
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl FromText for crate::telemetry::LogFormat {
    const EXPECTED: &'static str = "human or json";

    fn from_text(text: &str) -> Option<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl FromText for Vec<ipnet::IpNet> {
    const EXPECTED: &'static str = "networks or addresses, such as 10.0.0.0/8, with commas between";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_list(
            text.split(',')
                .filter(|item| !item.trim().is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn from_list(items: Vec<String>) -> Option<Self> {
        let network = |item: &String| {
            let item = item.trim();
            item.parse()
                .ok()
                .or_else(|| item.parse::<std::net::IpAddr>().ok().map(Into::into))
        };
        items.iter().map(network).collect()
    }
}

/// A number of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub(super) u64);

impl FromText for Count {
    const EXPECTED: &'static str = "a whole number above 0";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_number(text.trim().parse().ok()?)
    }

    fn from_number(number: u64) -> Option<Self> {
        (number > 0).then_some(Count(number))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl FromText for Size {
    const EXPECTED: &'static str = "a size, such as 5GiB, 64MiB, 100KiB or a number of bytes";

    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(1 << shift).map(Size)
    }

    fn from_number(number: u64) -> Option<Self> {
        Some(Size(number))
    }
}

/// A length of time, at most a year: no clock arithmetic overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl FromText for Span {
    const EXPECTED: &'static str = "a time above 0, such as 500ms, 30s, 5m, 1h or a number of seconds";

    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text);
        let number: u64 = number.parse().ok()?;
        let span = match unit {
            "ms" => Duration::from_millis(number),
            "" | "s" => Duration::from_secs(number),
            "m" | "min" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        (!span.is_zero() && span <= SPAN_MAX).then_some(Span(span))
    }

    fn from_number(number: u64) -> Option<Self> {
        let span = Duration::from_secs(number);
        (!span.is_zero() && span <= SPAN_MAX).then_some(Span(span))
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        let size = |text| Size::from_text(text).map(|size| size.0);
        assert_eq!(size("5GiB"), Some(5 << 30));
        assert_eq!(size("64 mib"), Some(64 << 20));
        assert_eq!(size("0"), Some(0));
        for bad in ["", "GiB", "-1", "1.5GiB", "5GB", "99999999TiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        let span = |text| Span::from_text(text).map(|span| span.0.as_millis());
        assert_eq!(span("500ms"), Some(500));
        assert_eq!(span("30"), Some(30_000));
        assert_eq!(span("2h"), Some(7_200_000));
        for bad in ["", "0s", "5 days", "99999999h"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
