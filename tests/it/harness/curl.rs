//! Single HTTP requests, made by `curl`.

use std::path::Path;

use super::run;
use super::{Server, Token};

/// One request in the making.
pub struct Curl {
    url: String,
    args: Vec<String>,
    body: Vec<u8>,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The protocol of the status line: `HTTP/1.1` or `HTTP/2`.
    pub version: String,
    /// Header names in lower case with their values, in the order received.
    pub headers: Vec<(String, String)>,
    /// The body, as sent.
    pub body: Vec<u8>,
}

impl Curl {
    /// A `GET` of `path` from `server`.
    pub fn get(server: &Server, path: &str) -> Curl {
        let mut curl = Curl {
            url: format!("{}{path}", server.base()),
            args: Vec::new(),
            body: Vec::new(),
        };
        if server.base().starts_with("https:") {
            curl = curl.args(&["--cacert", &server.ca().display().to_string()]);
        }
        curl
    }

    /// A `GET` of a whole URL.
    pub fn url(url: &str) -> Curl {
        Curl {
            url: url.to_owned(),
            args: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A `POST` of `body` to `path` of `server` with the content type of a request to `service`, such as
    /// `git-upload-pack`.
    pub fn post(server: &Server, path: &str, service: &str, body: &[u8]) -> Curl {
        let curl = Curl::post_to(&format!("{}{path}", server.base()), service, body);
        curl.args(
            &Curl::get(server, "")
                .args
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        )
    }

    /// The same for a repository's whole URL.
    pub fn post_to(repository: &str, service: &str, body: &[u8]) -> Curl {
        let mut curl = Curl::url(&format!("{repository}/{service}"))
            .args(&["--data-binary", "@-"])
            .header(&format!("Content-Type: application/x-{service}-request"));
        curl.body = body.to_vec();
        curl
    }

    /// With this body, as it is.
    pub fn body(self, body: &[u8]) -> Curl {
        let mut curl = self.args(&["--data-binary", "@-"]);
        curl.body = body.to_vec();
        curl
    }

    /// Further arguments of `curl`.
    pub fn args(mut self, args: &[&str]) -> Curl {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// One more header, such as `Git-Protocol: version=2`.
    pub fn header(self, header: &str) -> Curl {
        self.args(&["--header", header])
    }

    /// With `token` as the password of nobody in particular.
    pub fn token(self, token: &Token) -> Curl {
        let header = format!("Authorization: {}", token.basic("anybody"));
        self.header(&header)
    }

    /// Sends the request and returns the answer; fails the test when there is none.
    #[track_caller]
    pub fn send(self) -> Reply {
        let mut command = run::command(Path::new("curl"));
        command.args([
            "--silent",
            "--show-error",
            "--include",
            "--path-as-is",
            "--globoff",
            "--max-time",
            "120",
        ]);
        command.args(&self.args).arg(&self.url);
        let run = run::run(&mut command, &self.body);
        assert!(run.is_ok(), "an answer must come: {run}");
        Reply::parse(run.bytes())
    }
}

impl Reply {
    fn parse(mut bytes: &[u8]) -> Reply {
        loop {
            let end = bytes
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
                .expect("a head ends in an empty line");
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            bytes = &bytes[end + 4..];
            let mut lines = head.lines();
            let mut status_line = lines.next().unwrap_or_default().split_whitespace();
            let version = status_line.next().unwrap_or_default().to_owned();
            let status: u16 = status_line
                .next()
                .and_then(|code| code.parse().ok())
                .expect("a status");
            if (100..200).contains(&status) {
                continue;
            }
            let headers = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            return Reply {
                status,
                version,
                headers,
                body: bytes.to_vec(),
            };
        }
    }

    /// The value of the header `name`, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of the header `name`, which is in lower case.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Reply {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        self
    }

    /// Asserts that this is a refusal as git shows it: plain text, one or two sentences, no markup.
    #[track_caller]
    pub fn is_refusal(&self, status: u16) -> &Reply {
        self.is(status);
        let kind = self.header("content-type").unwrap_or_default();
        assert!(
            kind.starts_with("text/plain"),
            "git shows plain text alone: {kind}"
        );
        let text = self.text();
        assert!(!text.trim().is_empty(), "a refusal must say why");
        assert!(
            text.len() < 600 && text.trim().lines().count() <= 4,
            "a refusal is short: {text}"
        );
        assert!(
            !text.contains('<') && !text.contains('{'),
            "a refusal is prose: {text}"
        );
        self
    }
}
