//! The REST interface, as a script uses it. Every answer is held against the OpenAPI document of the server that gave
//! it: the status must be one that the document knows for the operation, and the body must be what it says.

use std::cell::OnceCell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::{Curl, Reply, Server, Token};

/// A client of the REST interface of one server.
pub struct Rest<'a> {
    server: &'a Server,
    authorization: Option<String>,
    /// For the document alone.
    token: Token,
    document: Rc<OnceCell<Value>>,
}

/// An answer of the REST interface.
#[derive(Debug)]
pub struct Answer {
    /// As it came.
    pub reply: Reply,
    /// Its body; null if it has none.
    pub json: Value,
}

impl<'a> Rest<'a> {
    /// A client that uses `token`.
    pub fn new(server: &'a Server, token: &Token) -> Rest<'a> {
        Rest {
            server,
            authorization: Some(token.basic("")),
            token: token.clone(),
            document: Rc::default(),
        }
    }

    /// The same client with another credential, or without one.
    pub fn with(&self, authorization: Option<&str>) -> Rest<'a> {
        Rest {
            server: self.server,
            authorization: authorization.map(str::to_owned),
            token: self.token.clone(),
            document: Rc::clone(&self.document),
        }
    }

    /// The same client with another token.
    pub fn with_token(&self, token: &Token) -> Rest<'a> {
        self.with(Some(&token.basic("")))
    }

    /// The OpenAPI document.
    pub fn document(&self) -> &Value {
        self.document.get_or_init(|| {
            let reply = Curl::get(self.server, "/_apis/openapi.json")
                .token(&self.token)
                .send();
            reply.is(200);
            serde_json::from_slice(&reply.body).expect("the document is JSON")
        })
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None)
    }

    /// `OPTIONS path`.
    #[track_caller]
    pub fn options(&self, path: &str) -> Answer {
        self.send("OPTIONS", path, None)
    }

    /// `DELETE path`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, None)
    }

    /// `POST path` with a body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, Some(body.to_string().as_bytes()))
    }

    /// `PUT path` with a body.
    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, Some(body.to_string().as_bytes()))
    }

    /// `PATCH path` with a body.
    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, Some(body.to_string().as_bytes()))
    }

    /// Any request; a body is said to be JSON, and a preview is asked for unless the path says otherwise.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        self.send_with(method, path, body, &[])
    }

    /// Any request with further headers.
    #[track_caller]
    pub fn send_with(&self, method: &str, path: &str, body: Option<&[u8]>, headers: &[&str]) -> Answer {
        let mut curl = Curl::get(self.server, path).args(&["--request", method]);
        let names = |name: &str| {
            headers
                .iter()
                .any(|header| header.to_lowercase().starts_with(name))
        };
        if !names("accept:") {
            curl = curl.header("Accept: application/json;api-version=7.1-preview");
        }
        if let Some(body) = body {
            curl = curl.body(body);
            if !names("content-type:") {
                curl = curl.header("Content-Type: application/json; charset=utf-8");
            }
        }
        if let Some(authorization) = &self.authorization {
            curl = curl.header(&format!("Authorization: {authorization}"));
        }
        for header in headers {
            curl = curl.header(header);
        }
        let answer = Answer::new(curl.send());
        self.check(method, path, &answer);
        answer
    }

    /// Holds an answer against the document.
    #[track_caller]
    fn check(&self, method: &str, path: &str, answer: &Answer) {
        let document = self.document();
        let status = answer.reply.status.to_string();
        let path = path.split('?').next().unwrap_or_default();
        let Some((template, operation)) = find(document, method, path) else {
            assert!(
                answer.reply.status >= 400,
                "{method} {path} is not in the document, and was served"
            );
            answer.is_wrapped();
            return;
        };
        let response = &operation["responses"][&status];
        assert!(
            response.is_object(),
            "{method} {template} does not document {status}: {}",
            answer.reply.text()
        );
        for name in response["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.to_lowercase())
        {
            let may_be_missing = name == "x-ms-continuationtoken";
            assert!(
                may_be_missing || answer.reply.header(&name).is_some(),
                "{method} {template} {status} has no {name}"
            );
        }
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_null() {
            assert!(
                answer.reply.body.is_empty(),
                "{method} {template} answers {status} without a body"
            );
            return;
        }
        let kind = answer.reply.header("content-type").unwrap_or_default();
        assert!(
            kind.starts_with("application/json; charset=utf-8"),
            "{method} {template}: {kind}"
        );
        let whole = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "components": document["components"],
            "allOf": [schema],
        });
        let validator = jsonschema::validator_for(&whole).expect("the document's schemas are schemas");
        let errors: Vec<String> = validator
            .iter_errors(&answer.json)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(
            errors.is_empty(),
            "{method} {template} {status} is not as documented: {errors:#?}\n{:#}",
            answer.json
        );
    }
}

/// Decodes `%XX`.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|_| *byte == b'%')
        {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The operation of the document that a request is for.
fn find<'a>(document: &'a Value, method: &str, path: &str) -> Option<(&'a str, &'a Value)> {
    let parts = |path: &str| -> Vec<String> {
        let path = path.trim_start_matches('/');
        path.strip_suffix('/')
            .unwrap_or(path)
            .split('/')
            .map(decoded)
            .collect()
    };
    // A URL may have the prefix of a server on premises.
    let asked = parts(path);
    let asked = match asked.first() {
        Some(first) if first.eq_ignore_ascii_case("tfs") => &asked[1..],
        _ => &asked[..],
    };
    let paths = document["paths"].as_object().expect("the document has paths");
    let fits = |template: &str, operations: &Value| {
        let template = parts(template);
        let is_open = operations[method.to_lowercase()]["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|parameter| parameter["x-rest-of-path"] == true);
        (template.len() == asked.len() || is_open && asked.len() > template.len())
            && template
                .iter()
                .zip(asked)
                .all(|(template, part)| template.starts_with('{') || template.eq_ignore_ascii_case(part))
    };
    // Of several that fit the one with the fewest parameters is meant.
    let mut found: Vec<_> = paths
        .iter()
        .filter(|(template, operations)| fits(template, operations))
        .collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.iter().find_map(|(template, operations)| {
        let operation = operations.get(method.to_lowercase())?;
        Some((template.as_str(), operation))
    })
}

impl Answer {
    fn new(reply: Reply) -> Answer {
        let json = if reply.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&reply.body)
                .unwrap_or_else(|error| panic!("an answer is JSON ({error}): {reply:?}\n{}", reply.text()))
        };
        Answer { reply, json }
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Answer {
        self.reply.is(status);
        self
    }

    /// Asserts that it is an error of this status and name.
    #[track_caller]
    pub fn is_error(&self, status: u16, type_key: &str) -> &Answer {
        self.is(status).is_wrapped();
        assert_eq!(self.json["typeKey"], type_key, "{}", self.json);
        self
    }

    /// Asserts that it is an error of this status whose message has these words.
    #[track_caller]
    pub fn says(&self, status: u16, words: &[&str]) -> &Answer {
        self.is(status).is_wrapped();
        for word in words {
            assert!(
                self.message().contains(word),
                "'{word}' is not in: {}",
                self.message()
            );
        }
        self
    }

    /// What an error says.
    #[track_caller]
    pub fn message(&self) -> &str {
        self.json["message"].as_str().expect("an error has a message")
    }

    /// The entries of a list.
    #[track_caller]
    pub fn list(&self) -> &[Value] {
        let all = self.json["value"].as_array().expect("a list has a value");
        assert_eq!(self.json["count"], all.len(), "a list counts its entries");
        all
    }

    /// One field of each entry of a list.
    #[track_caller]
    pub fn each(&self, field: &str) -> Vec<&str> {
        self.list()
            .iter()
            .map(|entry| entry[field].as_str().unwrap_or_default())
            .collect()
    }

    #[track_caller]
    fn is_wrapped(&self) -> &Answer {
        assert_eq!(self.json["$id"], "1", "{}", self.json);
        assert!(!self.message().is_empty());
        let (kind, key) = (&self.json["typeName"], &self.json["typeKey"]);
        let (kind, key) = (
            kind.as_str().unwrap_or_default(),
            key.as_str().unwrap_or_default(),
        );
        assert!(!key.is_empty() && kind.contains(key), "{}", self.json);
        self
    }
}
