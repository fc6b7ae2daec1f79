//! Which version of an operation is asked for: `api-version`, as Azure DevOps reads it.
//!
//! `{major}.{minor}`, or with `-preview` or `-preview.{revision}` after it. Every version since 1.0 means what the newest
//! means, because nothing was ever taken out of these objects; so a version is checked, echoed, and changes nothing.
//! <https://learn.microsoft.com/azure/devops/integrate/concepts/rest-api-versioning>.

use std::fmt;

use hyper::header::ACCEPT;
use hyper::{HeaderMap, Method};

use crate::http::error::{HttpError, TypeKey};
use crate::names::Quoted;

/// The first version there was.
const OLDEST: (u32, u32) = (1, 0);

/// The newest version that is no preview.
pub(super) const RELEASED: (u32, u32) = (7, 1);

/// The newest version.
pub(super) const NEWEST: (u32, u32) = (7, 2);

/// Longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 32;

/// Which versions there are of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// Released; with the revision of the newest preview.
    Released(u32),
    /// Never released: only as a preview, with the newest revision.
    Preview(u32),
    /// patgate's own, which clients of Azure DevOps do not know: no version has to be named.
    Own,
}

impl Versions {
    /// The newest revision of a preview.
    pub fn revision(self) -> u32 {
        match self {
            Versions::Released(revision) | Versions::Preview(revision) => revision,
            Versions::Own => 1,
        }
    }

    /// What is meant where no version is named.
    fn newest(self) -> Version {
        let (number, preview) = match self {
            Versions::Released(_) | Versions::Own => (RELEASED, None),
            Versions::Preview(revision) => (NEWEST, Some(revision)),
        };
        Version { number, preview }
    }
}

/// One version of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    number: (u32, u32),
    /// The revision, 0 for none, of a preview.
    preview: Option<u32>,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number.0, self.number.1)?;
        match self.preview {
            None => Ok(()),
            Some(0) => f.write_str("-preview"),
            Some(revision) => write!(f, "-preview.{revision}"),
        }
    }
}

impl Version {
    /// Reads a version; None if it is none.
    fn parse(text: &str) -> Option<Version> {
        let number = |text: &str| {
            let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u32>().ok()).flatten()
        };
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (version, stage) = match text.split_once('-') {
            Some((version, stage)) => (version, Some(stage)),
            None => (text, None),
        };
        let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        let preview = match stage {
            None => None,
            Some(stage) => {
                let (stage, revision) = stage.split_once('.').unwrap_or((stage, "0"));
                if !stage.eq_ignore_ascii_case("preview") {
                    return None;
                }
                Some(number(revision)?)
            }
        };
        Some(Version {
            number: (number(major)?, number(minor)?),
            preview,
        })
    }
}

const fn key(name: &'static str) -> TypeKey {
    TypeKey::new("Microsoft.VisualStudio.Services.WebApi", name)
}

/// Finds out which version is asked for, by the parameter `api-version` or, without one, by the header `Accept`.
///
/// # Errors
///
/// When none is named where one must be, or one that is no version, does not exist yet, or is a preview and does not
/// say so.
pub(super) fn negotiate(
    method: &Method,
    parameter: Option<&str>,
    headers: &HeaderMap,
    versions: Versions,
) -> Result<Version, HttpError> {
    let accepted = || in_accept(headers);
    let Some(text) = parameter.map(str::to_owned).or_else(accepted) else {
        let may_be_missing = *method == Method::GET || *method == Method::HEAD || *method == Method::OPTIONS;
        if may_be_missing || versions == Versions::Own {
            return Ok(versions.newest());
        }
        return Err(HttpError::bad_request(format!(
            "No api-version was supplied for the \"{method}\" request. The version must be supplied either as part of \
             the Accept header (e.g. \"application/json; api-version=1.0\") or as a query parameter (e.g. \
             \"?api-version=1.0\")."
        ))
        .keyed(key("VssVersionNotSpecifiedException")));
    };
    let Some(version) = Version::parse(&text) else {
        return Err(HttpError::bad_request(format!(
            "Invalid api version string: {}. Api version string must be in the format: \
             {{Major}}.{{Minor}}[-preview[.{{ResourceVersion}}]].",
            Quoted(&text)
        ))
        .keyed(key("VssInvalidApiResourceVersionException")));
    };
    let (major, minor) = version.number;
    if version.number < OLDEST {
        return Err(HttpError::bad_request(format!(
            "The requested REST API version of {major}.{minor} is no longer supported. The oldest REST API version this \
             server supports is {}.{}.",
            OLDEST.0, OLDEST.1
        ))
        .keyed(key("VssVersionNotSupportedException")));
    }
    if version.number > NEWEST
        || version
            .preview
            .is_some_and(|preview| preview > versions.revision())
    {
        return Err(HttpError::bad_request(format!(
            "The requested REST API version of {version} is out of range for this server. The latest REST API version \
             this server supports is {}.{}.",
            NEWEST.0, NEWEST.1
        ))
        .keyed(key("VssVersionOutOfRangeException")));
    }
    match (version.preview, versions) {
        (None, Versions::Preview(_)) => Err(under_preview(version)),
        (None, Versions::Released(_)) if version.number > RELEASED => Err(under_preview(version)),
        (Some(0), _) => Ok(Version {
            preview: Some(versions.revision()),
            ..version
        }),
        _ => Ok(version),
    }
}

fn under_preview(version: Version) -> HttpError {
    HttpError::bad_request(format!(
        "The requested version \"{version}\" of the resource is under preview. The -preview flag must be supplied in \
         the api-version for such requests. For example: \"{version}-preview\""
    ))
    .keyed(key("VssInvalidPreviewVersionException"))
}

/// Finds `api-version` among the parameters of what a client accepts.
fn in_accept(headers: &HeaderMap) -> Option<String> {
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for parameter in values.flat_map(|value| value.split([',', ';'])) {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("api-version")
        {
            return Some(value.trim().trim_matches('"').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const ALL: [Versions; 3] = [Versions::Released(2), Versions::Preview(1), Versions::Own];

    fn ask(method: &Method, parameter: Option<&str>, versions: Versions) -> Result<String, String> {
        told(negotiate(method, parameter, &HeaderMap::new(), versions))
    }

    fn told(outcome: Result<Version, HttpError>) -> Result<String, String> {
        outcome.map(|version| version.to_string()).map_err(|error| {
            assert_eq!(error.status(), 400);
            let body = error.into_json_response("").into_body();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            body["typeKey"].as_str().unwrap().to_owned()
        })
    }

    #[test]
    fn readers_may_leave_the_version_out_and_writers_may_not() {
        let newest = |versions| ask(&Method::GET, None, versions);
        assert_eq!(newest(Versions::Released(2)).as_deref(), Ok("7.1"));
        assert_eq!(newest(Versions::Preview(3)).as_deref(), Ok("7.2-preview.3"));
        assert_eq!(newest(Versions::Own).as_deref(), Ok("7.1"));
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for versions in [Versions::Released(2), Versions::Preview(1)] {
                let outcome = ask(&method, None, versions);
                assert_eq!(
                    outcome,
                    Err("VssVersionNotSpecifiedException".to_owned()),
                    "{method}"
                );
            }
            assert!(ask(&method, None, Versions::Own).is_ok());
        }
    }

    #[test]
    fn every_version_since_the_first_is_taken() {
        for text in ["1.0", "2.0", "3.2", "v5.1", "6.0", "7.0", "7.1", "7"] {
            assert!(
                ask(&Method::POST, Some(text), Versions::Released(2)).is_ok(),
                "{text}"
            );
        }
        for versions in ALL {
            for text in [
                "1.0-preview",
                "5.0-preview.1",
                "7.2-preview",
                "7.2-preview.1",
                "7.1-Preview",
            ] {
                assert!(ask(&Method::POST, Some(text), versions).is_ok(), "{text}");
            }
        }
        let answered = ask(&Method::GET, Some("7.2-preview"), Versions::Released(2));
        assert_eq!(answered.as_deref(), Ok("7.2-preview.2"));
    }

    #[test]
    fn others_are_refused_by_name() {
        let refused = |text, versions| ask(&Method::GET, Some(text), versions).unwrap_err();
        for versions in ALL {
            for text in ["99.0", "7.3", "7.3-preview.1", "8", "7.2-preview.9"] {
                assert_eq!(refused(text, versions), "VssVersionOutOfRangeException", "{text}");
            }
            for text in [
                "",
                "x",
                "7.",
                ".1",
                "7.1-beta",
                "7.1-preview.x",
                "7.1.1",
                "-1.0",
                "1e9",
                "7,1",
                "99999.0",
            ] {
                assert_eq!(
                    refused(text, versions),
                    "VssInvalidApiResourceVersionException",
                    "{text}"
                );
            }
            assert_eq!(refused("0.9", versions), "VssVersionNotSupportedException");
        }
        assert_eq!(
            refused("7.2", Versions::Released(2)),
            "VssInvalidPreviewVersionException"
        );
        assert_eq!(
            refused("7.1", Versions::Preview(1)),
            "VssInvalidPreviewVersionException"
        );
    }

    #[test]
    fn the_version_may_stand_in_what_the_client_accepts_and_the_query_comes_first() {
        let ask = |accept: &'static str, parameter| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            told(negotiate(
                &Method::POST,
                parameter,
                &headers,
                Versions::Released(2),
            ))
        };
        for accept in [
            "application/json;api-version=7.0",
            "application/json; API-Version=\"7.0\"",
            "text/html, application/json; q=0.9; api-version = 7.0",
        ] {
            assert_eq!(ask(accept, None).as_deref(), Ok("7.0"), "{accept}");
        }
        let both = ask("application/json;api-version=7.0", Some("6.0"));
        assert_eq!(both.as_deref(), Ok("6.0"));
        assert!(ask("application/json", None).is_err());
    }
}
