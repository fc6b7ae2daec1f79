//! Turns the path and query of a request into a [`Route`].
//!
//! Owns every URL form that patgate answers. Does not know who asks, whether a repository exists, or HTTP methods
//! and headers. Pure: no input makes it panic, and each percent-encoded byte is decoded exactly once, after the path
//! was cut at its slashes, so that no encoding can move a component's borders. The suffixes are those of
//! gitprotocol-http(5), the repository part and what stands before `_apis` are Azure DevOps's.

use std::borrow::Cow;

use crate::names::{self, DEFAULT_COLLECTION, RepoPath};
use crate::protocol::Service;

/// Longest path and query that is looked at, in bytes: three names of 128 characters, all percent-encoded as four
/// bytes each, and the suffix stay below.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

/// The component with which the REST interface begins.
const APIS: &str = "_apis";

/// What stands after a repository's URL when its project and collection are asked for.
const INFO: &str = "/vsts/info";

/// What a URL asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Something of one repository.
    Repository {
        /// The repositories that the URL can mean, the likeliest first; never empty.
        candidates: Vec<RepoPath>,
        /// What of it.
        request: GitRequest,
    },
    /// `/_health/live`: is the process up?
    Live,
    /// `/_health/ready`: does it take requests?
    Ready,
    /// `/_metrics`: figures for Prometheus.
    Metrics,
    /// Something of the REST interface.
    Api {
        /// What the part before `_apis` names.
        scope: ApiScope,
        /// The components after `_apis`, decoded; none for `_apis` itself.
        path: Vec<String>,
    },
}

/// What a URL of the REST interface is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiScope {
    /// The places that the part before `_apis` can mean, the likeliest first; never empty.
    Places(Vec<Place>),
    /// A repository's own URL, with `/vsts/info` after it: what it can mean, as for [`Route::Repository`].
    Repository(Vec<RepoPath>),
}

/// A part of the server, as a URL names it: all of it, a collection, or a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The collection; None where the URL names none, and the default collection is meant.
    pub collection: Option<String>,
    /// The project, by its name or by the id that the REST interface gives it.
    pub project: Option<String>,
}

/// The part of a URL after the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitRequest {
    /// `/info/refs?service=…`, the ref advertisement.
    InfoRefs(ServiceParameter),
    /// `/git-upload-pack` or `/git-receive-pack`.
    Rpc(Service),
    /// A file that only the dumb protocol asks for: `/HEAD`, `/objects/…`.
    Dumb,
    /// The repository's own URL, which credential managers probe.
    Bare,
}

/// The `service` parameter of `info/refs`; the last one where it is repeated, as git http-backend takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceParameter {
    /// There is none: a client of the dumb protocol.
    Absent,
    /// A service that patgate offers.
    Known(Service),
    /// Any other.
    Unknown,
}

/// Why a URL is none that patgate answers. All of them are "not found" to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8 after decoding.
    #[error("the URL is not percent-encoded UTF-8")]
    Encoding,
    /// A collection, project or repository that cannot be one.
    #[error("a name in the URL {0}")]
    Name(#[from] names::Error),
    /// More than [`TARGET_BYTES_MAX`] bytes.
    #[error("the URL is longer than 8192 bytes")]
    TooLong,
    /// None of the forms.
    #[error("no such path")]
    Unknown,
}

/// Parses the path and query of a request, as they stand in its first line.
///
/// # Errors
///
/// Says which rule the URL breaks; nothing is looked up.
pub fn parse(path_and_query: &str) -> Result<Route, RouteError> {
    if path_and_query.len() > TARGET_BYTES_MAX {
        return Err(RouteError::TooLong);
    }
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let path = path.strip_prefix('/').ok_or(RouteError::Unknown)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments = path.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    let words: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    if let Some(route) = operation(&words) {
        return Ok(route);
    }
    let marker = words
        .iter()
        .position(|word| is(word, "_git") || is(word, APIS))
        .ok_or(RouteError::Unknown)?;
    let (before, after) = words.split_at_checked(marker).ok_or(RouteError::Unknown)?;
    if let [marker, rest @ ..] = after
        && is(marker, APIS)
    {
        let scope = ApiScope::Places(places(before)?);
        return Ok(api(scope, rest));
    }
    let after = match after {
        [_, marker, rest @ ..] if is(marker, "_full") || is(marker, "_optimized") => rest,
        [_, rest @ ..] => rest,
        [] => return Err(RouteError::Unknown),
    };
    let (name, suffix) = after.split_first().ok_or(RouteError::Unknown)?;
    if let [a, b] = suffix
        && is(a, "vsts")
        && is(b, "info")
    {
        let scope = ApiScope::Repository(candidates(before, names::strip_dot_git(name))?);
        return Ok(api(scope, suffix));
    }
    let request = git_request(suffix, query)?;
    let candidates = candidates(before, names::strip_dot_git(name))?;
    Ok(Route::Repository { candidates, request })
}

/// Tells whether a path and query belong to the REST interface, even where they are none that [`parse`] takes: whoever
/// asks for them reads JSON.
pub fn is_api(path_and_query: &str) -> bool {
    let path = path_and_query
        .split_once('?')
        .map_or(path_and_query, |(path, _)| path);
    path.split('/').any(|word| is(word, APIS)) || {
        let end = path.len().checked_sub(INFO.len());
        end.and_then(|end| path.get(end..))
            .is_some_and(|end| is(end, INFO))
    }
}

fn api(scope: ApiScope, path: &[&str]) -> Route {
    // The slash at the end of `/_apis/` has gone already; that of `/_apis//` stays an empty component.
    Route::Api {
        scope,
        path: path.iter().map(|word| (*word).to_owned()).collect(),
    }
}

/// The paths that belong to no repository.
fn operation(words: &[&str]) -> Option<Route> {
    match words {
        [a, b] if is(a, "_health") && is(b, "live") => Some(Route::Live),
        [a, b] if is(a, "_health") && is(b, "ready") => Some(Route::Ready),
        [a] if is(a, "_metrics") => Some(Route::Metrics),
        _ => None,
    }
}

fn git_request(suffix: &[&str], query: Option<&str>) -> Result<GitRequest, RouteError> {
    match suffix {
        [] => Ok(GitRequest::Bare),
        [a, b] if is(a, "info") && is(b, "refs") => Ok(GitRequest::InfoRefs(service_parameter(query)?)),
        [a] if is(a, "git-upload-pack") => Ok(GitRequest::Rpc(Service::UploadPack)),
        [a] if is(a, "git-receive-pack") => Ok(GitRequest::Rpc(Service::ReceivePack)),
        [a] if is(a, "HEAD") => Ok(GitRequest::Dumb),
        [a, _, ..] if is(a, "objects") => Ok(GitRequest::Dumb),
        _ => Err(RouteError::Unknown),
    }
}

fn service_parameter(query: Option<&str>) -> Result<ServiceParameter, RouteError> {
    let mut found = ServiceParameter::Absent;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decode(name)? == "service" {
            found = match decode(value)?.as_ref() {
                "git-upload-pack" => ServiceParameter::Known(Service::UploadPack),
                "git-receive-pack" => ServiceParameter::Known(Service::ReceivePack),
                _ => ServiceParameter::Unknown,
            };
        }
    }
    Ok(found)
}

/// The repositories that `before` + `/_git/` + `name` can mean.
///
/// One component before `_git` is a collection (then the project has the repository's name) or a project of the
/// default collection, and `tfs` is a prefix or a name; which of them it is, only the disk can tell.
fn candidates(before: &[&str], name: &str) -> Result<Vec<RepoPath>, RouteError> {
    let mut found = Vec::with_capacity(4);
    let mut first_error = None;
    let without_prefix = match before {
        [first, rest @ ..] if is(first, "tfs") => Some(rest),
        _ => None,
    };
    for scope in without_prefix.into_iter().chain([before]) {
        for path in readings(scope, name) {
            match path {
                Ok(path) if !found.contains(&path) => found.push(path),
                Ok(_) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
    }
    if found.is_empty() {
        Err(first_error.map_or(RouteError::Unknown, RouteError::Name))
    } else {
        Ok(found)
    }
}

/// The places that `before` + `/_apis` can mean, by the rules of [`candidates`].
fn places(before: &[&str]) -> Result<Vec<Place>, RouteError> {
    let place = |collection: Option<&str>, project: Option<&str>| -> Result<Place, RouteError> {
        for name in [collection, project].into_iter().flatten() {
            names::check(name)?;
        }
        Ok(Place {
            collection: collection.map(str::to_owned),
            project: project.map(str::to_owned),
        })
    };
    let without_prefix = match before {
        [first, rest @ ..] if is(first, "tfs") => Some(rest),
        _ => None,
    };
    let mut found = Vec::with_capacity(4);
    let mut first_error = None;
    for scope in without_prefix.into_iter().chain([before]) {
        let readings = match scope {
            [] => vec![place(None, None)],
            [only] if is(only, DEFAULT_COLLECTION) => vec![place(Some(DEFAULT_COLLECTION), None)],
            [only] => vec![place(Some(only), None), place(None, Some(only))],
            [collection, project] => vec![place(Some(collection), Some(project))],
            _ => Vec::new(),
        };
        for reading in readings {
            match reading {
                Ok(place) => found.push(place),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
    }
    if found.is_empty() {
        Err(first_error.unwrap_or(RouteError::Unknown))
    } else {
        Ok(found)
    }
}

fn readings(scope: &[&str], name: &str) -> Vec<Result<RepoPath, names::Error>> {
    match scope {
        [] => vec![RepoPath::new(DEFAULT_COLLECTION, name, name)],
        [only] if is(only, DEFAULT_COLLECTION) => vec![RepoPath::new(DEFAULT_COLLECTION, name, name)],
        [only] => vec![
            RepoPath::new(only, name, name),
            RepoPath::new(DEFAULT_COLLECTION, only, name),
        ],
        [collection, project] => vec![RepoPath::new(collection, project, name)],
        _ => Vec::new(),
    }
}

fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

/// Decodes `%XX` once. A `+` stays one: it means a space in forms only.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, RouteError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = bytes.next().and_then(hex_digit).ok_or(RouteError::Encoding)?;
            let low = bytes.next().and_then(hex_digit).ok_or(RouteError::Encoding)?;
            out.push(high << 4 | low);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| RouteError::Encoding)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(url: &str) -> Vec<String> {
        match parse(url) {
            Ok(Route::Repository { candidates, .. }) => candidates.iter().map(ToString::to_string).collect(),
            other => panic!("{url}: {other:?}"),
        }
    }

    fn request(url: &str) -> GitRequest {
        match parse(url) {
            Ok(Route::Repository { request, .. }) => request,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn every_form_of_the_repository_part_is_understood() {
        for (url, expected) in [
            ("/C/P/_git/R", &["C/P/R"][..]),
            ("/C/P/_git/R.git", &["C/P/R"]),
            ("/C/P/_GIT/R.GIT/", &["C/P/R"]),
            ("/X/_git/R", &["X/R/R", "DefaultCollection/X/R"]),
            ("/DefaultCollection/_git/R", &["DefaultCollection/R/R"]),
            ("/defaultcollection/_git/R", &["DefaultCollection/R/R"]),
            ("/_git/R", &["DefaultCollection/R/R"]),
            ("/tfs/C/P/_git/R", &["C/P/R"]),
            ("/TFS/C/_git/R", &["C/R/R", "DefaultCollection/C/R", "TFS/C/R"]),
            (
                "/tfs/_git/R",
                &["DefaultCollection/R/R", "tfs/R/R", "DefaultCollection/tfs/R"],
            ),
            ("/C/P/_git/_full/R", &["C/P/R"]),
            ("/C/P/_git/_Optimized/R", &["C/P/R"]),
            ("/C/Git%20project/_git/R%26D", &["C/Git project/R&D"]),
            ("/C/%C3%A9/_git/a+b", &["C/é/a+b"]),
        ] {
            assert_eq!(paths(url), expected, "{url}");
        }
    }

    #[test]
    fn suffixes_name_the_request() {
        use ServiceParameter::{Absent, Known, Unknown};
        for (url, expected) in [
            ("/_git/R", GitRequest::Bare),
            ("/_git/R/", GitRequest::Bare),
            ("/_git/R?x=y", GitRequest::Bare),
            ("/_git/R/info/refs", GitRequest::InfoRefs(Absent)),
            (
                "/_git/R/info/refs?service=git-upload-pack",
                GitRequest::InfoRefs(Known(Service::UploadPack)),
            ),
            (
                "/_git/R/info/refs?service=git-receive%2Dpack",
                GitRequest::InfoRefs(Known(Service::ReceivePack)),
            ),
            (
                "/_git/R/Info/Refs?a=b&service=git-upload-archive",
                GitRequest::InfoRefs(Unknown),
            ),
            (
                "/_git/R/info/refs?service=git-upload-pack&service=git-receive-pack",
                GitRequest::InfoRefs(Known(Service::ReceivePack)),
            ),
            ("/_git/R/git-upload-pack", GitRequest::Rpc(Service::UploadPack)),
            ("/_git/R/git-receive-pack", GitRequest::Rpc(Service::ReceivePack)),
            ("/_git/R/HEAD", GitRequest::Dumb),
            ("/_git/R/objects/info/packs", GitRequest::Dumb),
        ] {
            assert_eq!(request(url), expected, "{url}");
        }
    }

    #[test]
    fn paths_outside_the_table_are_unknown() {
        for url in [
            "",
            "/",
            "//",
            "*",
            "x",
            "/_git",
            "/_git/",
            "/C/P/R",
            "/A/B/C/_git/R",
            "/_git//info/refs",
            "/_git/R/config",
            "/_git/R/info/refs/x",
            "/_git/R/objects",
            "/C//_git/R",
            "/_git/_full",
            "/_health",
            "/_git/R//info/refs",
            "/tfs/A/B/C/_git/R",
        ] {
            assert!(parse(url).is_err(), "{url:?} must be refused");
        }
    }

    #[test]
    fn encodings_cannot_leave_a_component_or_be_decoded_twice() {
        for url in [
            "/C/P/_git/..",
            "/C/%2e%2e/_git/R",
            "/C/P/_git/%2E%2E%2Fx",
            "/C/P%2FQ/_git/R",
            "/C/P/_git/R%00",
            "/C/P/_git/%252e%252e",
            "/C/P/_git/%",
            "/C/P/_git/%4",
            "/C/P/_git/%zz",
            "/C/P/_git/%ff",
            "/C/P%5CQ/_git/R",
            "/C/P/_git/R%0a",
            "/C/P/_git/+%41%",
            "/../../_git/R",
        ] {
            assert!(parse(url).is_err(), "{url:?} must be refused");
        }
        let long = format!("/_git/{}", "a".repeat(TARGET_BYTES_MAX));
        assert_eq!(parse(&long), Err(RouteError::TooLong));
    }

    fn api(url: &str) -> (Vec<(Option<String>, Option<String>)>, Vec<String>) {
        match parse(url) {
            Ok(Route::Api {
                scope: ApiScope::Places(places),
                path,
            }) => {
                let pairs = places.into_iter().map(|place| (place.collection, place.project));
                (pairs.collect(), path)
            }
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn every_form_before_apis_is_understood() {
        let place = |collection: Option<&str>, project: Option<&str>| {
            (collection.map(str::to_owned), project.map(str::to_owned))
        };
        let default = Some("DefaultCollection");
        for (url, expected) in [
            ("/_apis", vec![place(None, None)]),
            ("/_apis/", vec![place(None, None)]),
            ("/_APIs/git", vec![place(None, None)]),
            ("/X/_apis", vec![place(Some("X"), None), place(None, Some("X"))]),
            ("/defaultcollection/_apis", vec![place(default, None)]),
            ("/C/P/_apis", vec![place(Some("C"), Some("P"))]),
            (
                "/C/Git%20project/_apis",
                vec![place(Some("C"), Some("Git project"))],
            ),
            (
                "/tfs/_apis",
                vec![
                    place(None, None),
                    place(Some("tfs"), None),
                    place(None, Some("tfs")),
                ],
            ),
            (
                "/tfs/C/_apis",
                vec![
                    place(Some("C"), None),
                    place(None, Some("C")),
                    place(Some("tfs"), Some("C")),
                ],
            ),
            ("/tfs/C/P/_apis", vec![place(Some("C"), Some("P"))]),
        ] {
            assert_eq!(api(url).0, expected, "{url}");
        }
        for url in [
            "/A/B/C/_apis",
            "//_apis",
            "/C/%2e%2e/_apis",
            "/C/a%2Fb/_apis",
            "/C/_x/_apis",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_follows_apis_is_cut_before_it_is_decoded() {
        assert_eq!(api("/_apis").1, Vec::<String>::new());
        assert_eq!(
            api("/_apis/git/Repositories/a%2Fb%20c/refs/?filter=x").1,
            ["git", "Repositories", "a/b c", "refs"]
        );
        assert_eq!(api("/_apis//x").1, ["", "x"]);
        assert_eq!(api("/_apis/%252F").1, ["%2F"]);
        assert_eq!(parse("/_apis/%ff"), Err(RouteError::Encoding));
    }

    #[test]
    fn a_repository_says_where_it_belongs() {
        let Ok(Route::Api {
            scope: ApiScope::Repository(candidates),
            path,
        }) = parse("/C/P/_git/R/VSTS/info")
        else {
            panic!("it is part of the REST interface");
        };
        assert_eq!(candidates.len(), 1);
        assert_eq!(candidates[0].to_string(), "C/P/R");
        assert_eq!(path, ["VSTS", "info"]);
    }

    #[test]
    fn what_is_asked_of_the_rest_interface_is_known_even_where_it_cannot_be_parsed() {
        for url in [
            "/_apis/%ff",
            "/A/B/C/_APIS/x",
            "/_apis?x",
            "/_git/%ff/vsts/info?x",
        ] {
            assert!(is_api(url), "{url}");
        }
        for url in [
            "/",
            "/_git/R/info/refs?service=/_apis/",
            "/x_apis",
            "/vsts/inf",
            "/_git/R",
        ] {
            assert!(!is_api(url), "{url}");
        }
    }

    #[test]
    fn operation_paths_are_case_insensitive() {
        assert_eq!(parse("/_health/live"), Ok(Route::Live));
        assert_eq!(parse("/_Health/Ready?x"), Ok(Route::Ready));
        assert_eq!(parse("/_METRICS"), Ok(Route::Metrics));
    }

    #[test]
    fn inputs_of_the_fuzz_target_are_routed_or_refused() {
        crate::fuzz_inputs::replay("route", |input| {
            let Ok(input) = str::from_utf8(input) else { return };
            if let Ok(Route::Repository { candidates, .. }) = parse(input) {
                assert!((1..=5).contains(&candidates.len()), "{candidates:?}");
                for path in candidates {
                    let text = path.to_string();
                    assert_eq!(RepoPath::parse(&text).as_ref(), Ok(&path));
                    assert!(text.split('/').all(|name| names::check(name).is_ok()), "{text}");
                }
            } else if let Ok(Route::Api {
                scope: ApiScope::Places(places),
                ..
            }) = parse(input)
            {
                assert!((1..=4).contains(&places.len()), "{places:?}");
                let names = places
                    .iter()
                    .flat_map(|place| [&place.collection, &place.project]);
                assert!(
                    names.flatten().all(|name| names::check(name).is_ok()),
                    "{places:?}"
                );
            }
        });
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,200}") {
            let _outcome = parse(&text);
        }

        #[test]
        fn a_url_made_for_a_path_leads_back_to_it(
            collection in "[A-Za-z0-9][A-Za-z0-9 é&+_-]{0,8}[A-Za-z0-9]",
            project in "[A-Za-z0-9][A-Za-z0-9 .'_-]{0,8}[A-Za-z0-9]",
            name in "[A-Za-z0-9][A-Za-z0-9 @!_-]{0,8}[A-Za-z0-9]",
        ) {
            if let Ok(path) = RepoPath::new(&collection, &project, &name) {
                prop_assert_eq!(paths(&path.url_path()).first().cloned(), Some(path.to_string()));
            }
        }
    }
}
