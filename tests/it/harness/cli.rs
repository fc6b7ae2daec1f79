//! The command line, run as an operator runs it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::run::{self, Run};

/// Accounts of the tests have this password; no log may show it.
pub const PASSWORD: &str = "correct horse battery staple";

/// `patgate` with a data directory and a repository root.
#[derive(Clone)]
pub struct Patgate {
    data: PathBuf,
    repos: PathBuf,
    cwd: PathBuf,
    secrets: Arc<Mutex<Vec<String>>>,
}

/// A token as it was shown, once.
#[derive(Clone)]
pub struct Token {
    /// The whole of it.
    pub text: String,
    /// The public part by which commands name it.
    pub id: String,
}

impl Token {
    /// The value of an `Authorization` header with `username` and the token as the password.
    pub fn basic(&self, username: &str) -> String {
        basic(username, &self.text)
    }
}

/// The value of an `Authorization` header, RFC 7617.
pub fn basic(username: &str, password: &str) -> String {
    use base64::Engine as _;
    let pair = format!("{username}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

impl Patgate {
    /// Works on `data` and `repos`, and runs in `cwd`, where there is no configuration file.
    pub fn new(data: &Path, repos: &Path, cwd: &Path) -> Patgate {
        Patgate {
            data: data.to_owned(),
            repos: repos.to_owned(),
            cwd: cwd.to_owned(),
            secrets: Arc::new(Mutex::new(vec![PASSWORD.to_owned()])),
        }
    }

    /// What no log may show: the password of the tests' accounts and every token made so far.
    pub fn secrets(&self) -> Vec<String> {
        self.secrets
            .lock()
            .expect("no test panics while it adds a secret")
            .clone()
    }

    /// A command with `args` that works on the data directory.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = run::command(Path::new(env!("CARGO_BIN_EXE_patgate")));
        command
            .current_dir(&self.cwd)
            .env("HOME", &self.cwd)
            .env("PATGATE_DATA_DIR", &self.data)
            .env("PATGATE_REPOS", &self.repos)
            .args(args);
        command
    }

    /// Runs `patgate args`.
    pub fn run(&self, args: &[&str]) -> Run {
        run::run(&mut self.command(args), b"")
    }

    /// Runs `patgate args`, asserts that it succeeds and returns what it printed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Runs `patgate args --json` and returns what it printed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text)
            .unwrap_or_else(|err| panic!("patgate {args:?} --json printed {text}: {err}"))
    }

    /// Makes an account.
    #[track_caller]
    pub fn user(&self, name: &str) {
        self.add(&["user", "add", name, "--password-stdin"]);
    }

    /// Makes an administrator of the server.
    #[track_caller]
    pub fn administrator(&self, name: &str) {
        self.add(&["user", "add", name, "--admin", "--password-stdin"]);
    }

    #[track_caller]
    fn add(&self, args: &[&str]) {
        run::run(&mut self.command(args), format!("{PASSWORD}\n").as_bytes()).ok();
    }

    /// Makes an account that may fetch and push everywhere.
    #[track_caller]
    pub fn contributor(&self, name: &str) {
        self.user(name);
        self.ok(&["access", "grant", name, "contributor"]);
    }

    /// Makes a token for 90 days.
    #[track_caller]
    pub fn token(&self, user: &str, scope: &str) -> Token {
        self.token_for(user, scope, "90d")
    }

    /// Makes a token that expires after or on `expires`.
    #[track_caller]
    pub fn token_for(&self, user: &str, scope: &str, expires: &str) -> Token {
        let args = [
            "token",
            "create",
            "--user",
            user,
            "--name",
            "test",
            "--scope",
            scope,
            "--expires",
            expires,
        ];
        self.keep(&self.ok(&args))
    }

    /// Makes a token with further flags.
    #[track_caller]
    pub fn token_with(&self, user: &str, scope: &str, flags: &[&str]) -> Token {
        let args = [
            "token", "create", "--user", user, "--name", "test", "--scope", scope,
        ];
        self.keep(&self.ok(&[&args, flags].concat()))
    }

    /// Gives a token a new secret.
    #[track_caller]
    pub fn rotate(&self, token: &Token, flags: &[&str]) -> Token {
        self.keep(&self.ok(&[&["token", "rotate", &token.id], flags].concat()))
    }

    /// Runs `patgate args` with `password` as the first line of its input.
    pub fn with_password(&self, args: &[&str], password: &str) -> Run {
        self.secrets
            .lock()
            .expect("no test panics while it adds a secret")
            .push(password.to_owned());
        run::run(
            &mut self.command(&[args, &["--password-stdin"]].concat()),
            format!("{password}\n").as_bytes(),
        )
    }

    /// Remembers a token that a command printed.
    #[track_caller]
    pub fn keep(&self, text: &str) -> Token {
        assert!(
            text.len() == 56 && text.starts_with("pgt_"),
            "a token and nothing else must be printed: {text:?}"
        );
        self.secrets
            .lock()
            .expect("no test panics while it adds a secret")
            .push(text.to_owned());
        Token {
            text: text.to_owned(),
            id: text[4..12].to_owned(),
        }
    }

    /// Limits a token to what `limits` says: the lists `paths`, `refs` and `networks`.
    pub fn limit(&self, token: &Token, limits: &Value) {
        self.set(token, "limits", &limits.to_string());
    }

    /// Sets when a token ends, in seconds since 1970.
    pub fn expire_at(&self, token: &Token, seconds: i64) {
        self.set(token, "expires_at", &seconds);
    }

    fn set(&self, token: &Token, column: &str, value: &dyn rusqlite::ToSql) {
        let db = rusqlite::Connection::open(self.data.join("patgate.db")).expect("the database opens");
        db.busy_timeout(std::time::Duration::from_secs(10))
            .expect("a busy timeout");
        let changed = db
            .execute(
                &format!("UPDATE tokens SET {column} = ?2 WHERE id = ?1"),
                rusqlite::params![token.id, value],
            )
            .expect("a token can be changed");
        assert_eq!(changed, 1, "the token {} must be there", token.id);
    }

    /// Makes a token, its secret and its last use older, as time would.
    pub fn age(&self, token: &Token, days: i64) {
        let db = rusqlite::Connection::open(self.data.join("patgate.db")).expect("the database opens");
        db.busy_timeout(std::time::Duration::from_secs(10))
            .expect("a busy timeout");
        let changed = db
            .execute(
                "UPDATE tokens SET created_at = created_at - ?2, rotated_at = rotated_at - ?2, \
                 last_used_at = last_used_at - ?2 WHERE id = ?1",
                (&token.id, days * 24 * 3600),
            )
            .expect("a token can be changed");
        assert_eq!(changed, 1, "the token {} must be there", token.id);
    }

    /// Makes tokens of `user` that no secret opens, each with this name, end in seconds since 1970 and whether it is revoked.
    pub fn fill(&self, user: &str, tokens: &[(String, i64, bool)]) {
        let mut db = rusqlite::Connection::open(self.data.join("patgate.db")).expect("the database opens");
        db.busy_timeout(std::time::Duration::from_secs(10))
            .expect("a busy timeout");
        let transaction = db.transaction().expect("a transaction");
        for (number, (name, end, is_revoked)) in tokens.iter().enumerate() {
            transaction
                .execute(
                    "INSERT INTO tokens (id, digest, account_id, name, scopes, created_at, expires_at, revoked_at) \
                     SELECT ?1, randomblob(32), id, ?2, 'vso.code', 1000000000, ?3, ?4 FROM accounts WHERE name = ?5",
                    (
                        format!("fill{number:04}"),
                        name,
                        end,
                        is_revoked.then_some(1_500_000_000),
                        user,
                    ),
                )
                .expect("a token can be made");
        }
        transaction.commit().expect("the tokens can be kept");
    }

    /// Lets a token expire, as time would: the database says that it ended at 2001-09-09T01:46:40Z.
    pub fn expire(&self, token: &Token) {
        self.expire_at(token, 1_000_000_000);
    }

    /// Lets the overlaps of a token run out, and the minute after a rotation pass, as time would.
    pub fn end_overlaps(&self, token: &Token) {
        let changed = self.change(
            token,
            "UPDATE retired_hashes SET valid_until = min(valid_until, 1000000000), promised_until = 1000000000 \
             WHERE token_id = ?1 AND promised_until IS NOT NULL",
        );
        assert!(changed > 0, "an overlap of the token {} must be there", token.id);
    }

    fn change(&self, token: &Token, statement: &str) -> usize {
        let db = rusqlite::Connection::open(self.data.join("patgate.db")).expect("the database opens");
        db.busy_timeout(std::time::Duration::from_secs(10))
            .expect("a busy timeout");
        db.execute(statement, [&token.id])
            .expect("a token can be changed")
    }
}
