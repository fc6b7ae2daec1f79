//! The query of a request, checked against the parameters of the endpoint before its handler runs.
//!
//! Invariant: what a handler reads is of the kind and within the bounds that the document says. Parameters that no
//! endpoint knows are passed over, as Azure DevOps does: clients send some.

use uuid::Uuid;

use super::endpoint::{Kind, Param, Value};
use super::moment;
use crate::http::error::HttpError;
use crate::http::router;
use crate::names::Quoted;

/// The name of the parameter for the version.
const API_VERSION: &str = "api-version";

/// What a query holds.
#[derive(Debug, Default)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Takes a query apart. `+` is a space in it, as forms write it.
    ///
    /// # Errors
    ///
    /// When it is not percent-encoded UTF-8.
    pub fn parse(text: &str) -> Result<Query, HttpError> {
        let decode = |text: &str| {
            router::decode(&text.replace('+', "%20"))
                .map(|text| text.into_owned())
                .map_err(|error| {
                    HttpError::bad_request("The query of the URL is not percent-encoded UTF-8.")
                        .because(error)
                })
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        Ok(Query {
            pairs: pairs.collect::<Result<_, HttpError>>()?,
        })
    }

    /// The version that is asked for, if the query says.
    pub fn version(&self) -> Option<&str> {
        self.find(API_VERSION).next()
    }

    fn find<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Reads the parameters that an endpoint takes.
    ///
    /// # Errors
    ///
    /// Names the first that is given twice, not of its kind, or missing where it must be there.
    pub fn read(&self, params: &[&'static Param]) -> Result<Vec<(&'static str, Value)>, HttpError> {
        let mut found = Vec::new();
        for param in params {
            let mut values = self.find(param.name);
            match (values.next(), values.next()) {
                (None, _) if param.is_required => {
                    return Err(HttpError::bad_request(format!(
                        "The query parameter '{}' is missing.",
                        param.name
                    )));
                }
                (None, _) => {}
                (Some(text), None) => found.push((param.name, read(param, text)?)),
                (Some(_), Some(_)) => {
                    return Err(HttpError::bad_request(format!(
                        "The query parameter '{}' is given more than once.",
                        param.name
                    )));
                }
            }
        }
        Ok(found)
    }
}

fn read(param: &Param, text: &str) -> Result<Value, HttpError> {
    let wrong = |expected: &str| {
        HttpError::bad_request(format!(
            "The query parameter '{}' is {}, and must be {expected}.",
            param.name,
            Quoted(text)
        ))
    };
    match param.kind {
        Kind::Text(bytes_max) if text.len() > bytes_max => {
            Err(wrong(&format!("at most {bytes_max} bytes long")))
        }
        Kind::Text(_) => Ok(Value::Text(text.to_owned())),
        Kind::Integer(min, max) => match text.parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => Err(wrong(&format!("a number from {min} to {max}"))),
        },
        Kind::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
        Kind::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
        Kind::Boolean => Err(wrong("true or false")),
        Kind::Uuid => Uuid::try_parse(text)
            .map(Value::Uuid)
            .map_err(|_| wrong("a UUID")),
        Kind::Word(words) => {
            let word = words.iter().find(|word| word.eq_ignore_ascii_case(text));
            word.map(|word| Value::Word(word))
                .ok_or_else(|| wrong(&format!("one of {}", words.join(", "))))
        }
        // A plus that nobody encoded is a space by now, and nowhere else is there one.
        Kind::Moment => moment::parse(&text.replace(' ', "+"))
            .map(Value::Moment)
            .ok_or_else(|| wrong("a moment like 2027-01-31T18:00:00Z")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: Param = Param::new("$top", Kind::Integer(1, 1000), "");
    const FILTER: Param = Param::new("filter", Kind::Text(8), "");
    const PEEL: Param = Param::new("peelTags", Kind::Boolean, "");
    const ID: Param = Param::required("authorizationId", Kind::Uuid, "");
    const STATE: Param = Param::new("state", Kind::Word(&["all", "wellFormed"]), "");
    const START: Param = Param::new("startTime", Kind::Moment, "");

    fn read_one(query: &str, param: &'static Param) -> Result<Option<Value>, String> {
        let told = |error: HttpError| {
            assert_eq!(error.status(), 400);
            String::from_utf8(error.into_response("").into_body().to_vec()).unwrap()
        };
        let query = Query::parse(query).map_err(told)?;
        let found = query.read(&[param]).map_err(told)?;
        Ok(found.into_iter().next().map(|(_, value)| value))
    }

    #[test]
    fn parameters_are_read_by_their_kind_whatever_the_case_of_their_name() {
        let text = |text: &str| Ok(Some(Value::Text(text.to_owned())));
        assert_eq!(read_one("%24TOP=10&x=y", &TOP), Ok(Some(Value::Integer(10))));
        assert_eq!(read_one("Filter=a+b%2Fc", &FILTER), text("a b/c"));
        assert_eq!(read_one("filter", &FILTER), text(""));
        assert_eq!(read_one("peeltags=True", &PEEL), Ok(Some(Value::Boolean(true))));
        assert_eq!(
            read_one("state=WELLFORMED", &STATE),
            Ok(Some(Value::Word("wellFormed")))
        );
        let moment = Ok(Some(Value::Moment("2027-01-31T16:00:00.5Z".parse().unwrap())));
        assert_eq!(
            read_one("starttime=2027-01-31T18:00:00.5%2B02:00", &START),
            moment
        );
        assert_eq!(read_one("starttime=2027-01-31T18:00:00.5+02:00", &START), moment);
        assert_eq!(
            read_one("authorizationid=00000000-0000-0000-0000-00000000000A", &ID),
            Ok(Some(Value::Uuid(Uuid::from_u128(10))))
        );
        assert_eq!(read_one("&&", &TOP), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (query, param) in [
            ("$top=0", &TOP),
            ("$top=1001", &TOP),
            ("$top=", &TOP),
            ("$top=1.5", &TOP),
            ("$top=99999999999999999999", &TOP),
            ("$top=1&%24top=2", &TOP),
            ("filter=123456789", &FILTER),
            ("peelTags=yes", &PEEL),
            ("state=new", &STATE),
            ("startTime=yesterday", &START),
            ("startTime=", &START),
            ("", &ID),
            ("authorizationId", &ID),
            ("authorizationId=5", &ID),
        ] {
            let text = read_one(query, param).unwrap_err();
            assert!(text.contains(&format!("'{}'", param.name)), "{query}: {text}");
        }
        for query in ["a=%ff", "%=1", "a=%4"] {
            assert!(read_one(query, &TOP).is_err(), "{query}");
        }
    }

    #[test]
    fn the_version_is_found_among_them() {
        assert_eq!(
            Query::parse("a=b&API-version=7.1").unwrap().version(),
            Some("7.1")
        );
        assert_eq!(Query::parse("").unwrap().version(), None);
    }
}
