//! Clients other than git, run through the drivers in `tests/clients`; `scripts/clients` installs them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::run;
use super::{Server, Token};

/// A client and what drives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// libgit2, which graphical clients and Cargo use, through pygit2.
    Libgit2,
    /// dulwich, Git in Python.
    Dulwich,
    /// isomorphic-git, Git in JavaScript.
    IsomorphicGit,
    /// JGit, Git in Java: its command line, in Debian's version.
    JGit,
    /// go-git, Git in Go, in Debian's version.
    GoGit,
}

/// A client that trusts one server's authority. Those of one kind share a home, so they run one after the other.
pub struct Client {
    kind: Kind,
    ca: PathBuf,
    credential: Option<(String, String)>,
    env: Vec<(String, String)>,
    home: PathBuf,
}

/// What a client came to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Whether it did what it was told.
    pub ok: bool,
    /// Why not, in its own words.
    pub error: String,
    /// How often it asked for a credential, where it tells.
    pub asked: u32,
    /// What it showed of the server's own words.
    pub said: String,
    /// Refs that it listed, with their ids.
    pub refs: BTreeMap<String, String>,
}

impl Client {
    /// A client that knows `server` and has no credential.
    pub fn new(kind: Kind, server: &Server) -> Client {
        let home = server.work().join(format!("home-of-{kind:?}"));
        std::fs::create_dir_all(&home).expect("a home for the client");
        let config = format!("[http]\n\tsslCAInfo = {}\n", server.ca().display());
        std::fs::write(home.join(".gitconfig"), config).expect("the configuration of the client");
        Client {
            kind,
            ca: server.ca(),
            credential: None,
            env: Vec::new(),
            home,
        }
    }

    /// From now on sends this user name and password.
    pub fn credential(mut self, username: &str, password: &str) -> Client {
        self.credential = Some((username.to_owned(), password.to_owned()));
        self
    }

    /// From now on sends `token` as the password of nobody in particular.
    pub fn token(self, token: &Token) -> Client {
        self.credential("anybody", &token.text)
    }

    /// The same client with one more environment variable.
    pub fn with_env(mut self, name: &str, value: &str) -> Client {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lists the refs of the repository at `url`.
    #[track_caller]
    pub fn list(&self, url: &str) -> Report {
        self.drive(&["list", url])
    }

    /// Clones all branches and tags of the repository at `url` to the new folder `dir`.
    #[track_caller]
    pub fn clone_to(&self, url: &str, dir: &Path) -> Report {
        self.drive(&["clone", url, text(dir)])
    }

    /// Fetches what is new in the remote `origin` of `dir`.
    #[track_caller]
    pub fn fetch(&self, dir: &Path) -> Report {
        self.drive(&["fetch", text(dir)])
    }

    /// Pushes `refspecs`, whole ref names with a colon between, to the remote `origin` of `dir`.
    #[track_caller]
    pub fn push(&self, dir: &Path, refspecs: &[&str]) -> Report {
        self.drive(&[&["push", text(dir)], refspecs].concat())
    }

    fn command(&self) -> Command {
        match self.kind {
            Kind::Libgit2 => python("drive_libgit2.py"),
            Kind::Dulwich => python("drive_dulwich.py"),
            Kind::JGit => python("drive_jgit.py"),
            Kind::IsomorphicGit => node("drive_isomorphic_git.mjs"),
            Kind::GoGit => run::command(&installed("go_git")),
        }
    }

    #[track_caller]
    fn drive(&self, args: &[&str]) -> Report {
        let mut command = self.command();
        command
            .args(args)
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("CLIENT_CA", &self.ca)
            // Where Node.js and Go look for authorities besides their own.
            .env("NODE_EXTRA_CA_CERTS", &self.ca)
            .env("SSL_CERT_FILE", &self.ca)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some((username, password)) = &self.credential {
            command
                .env("CLIENT_USER", username)
                .env("CLIENT_PASSWORD", password);
        }
        let run = run::run(&mut command, b"");
        for secret in self
            .credential
            .iter()
            .flat_map(|(username, password)| [username, password])
        {
            if secret.starts_with("pgt_") {
                run.never_says(secret);
            }
        }
        let out = run.ok();
        let line = out.lines().last().unwrap_or_default();
        serde_json::from_str(line)
            .unwrap_or_else(|err| panic!("a driver prints its report, not {err}: {run}"))
    }
}

impl Report {
    /// Asserts that the client did what it was told.
    #[track_caller]
    pub fn ok(&self) -> &Report {
        assert!(self.ok, "must succeed: {self:?}");
        self
    }

    /// Asserts that the client failed and that `text` is in what it shows.
    #[track_caller]
    pub fn fails_with(&self, text: &str) -> &Report {
        assert!(
            !self.ok && self.error.contains(text),
            "must fail with '{text}': {self:?}"
        );
        self
    }
}

/// A command that runs a driver in Python.
pub fn python(driver: &str) -> Command {
    let mut command = run::command(&installed("venv/bin/python"));
    // Compiled files would be left in the source.
    command.arg("-B").arg(source(driver));
    command
}

/// A command that runs a driver in JavaScript.
pub fn node(driver: &str) -> Command {
    let mut command = run::command(&installed("node"));
    command
        .arg(source(driver))
        .env("CLIENT_MODULES", installed("javascript"));
    command
}

/// Where `scripts/clients` puts the file `name`.
pub fn installed(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/clients")
        .join(name);
    assert!(
        path.exists(),
        "{} is not there: run scripts/test, or scripts/clients",
        path.display()
    );
    path
}

fn source(driver: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(driver)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
