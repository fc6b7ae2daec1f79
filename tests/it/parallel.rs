//! Many at once: users of one token, and processes that change tokens while requests come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use crate::harness::run::Flag;
use crate::harness::{Git, Patgate, Setup, Token};

const REFS: &str = "/DefaultCollection/P/_git/repo/info/refs?service=git-upload-pack";

/// Users who are there at the same time.
const USERS: usize = 64;

/// Listings, clones and pushes at once with one token: all of them are served, and every push is kept.
#[test]
fn sixty_four_users_of_one_token_are_served_at_once() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code_write");
    let source = server.work().join("source");
    git.init(&source);
    for number in 0..20 {
        git.commit(&source, &format!("file-{}", number % 5), &format!("{number}\n"));
    }
    let disk = remote.copy(&git, &source, "repo");
    let (url, client, work) = (remote.url("repo"), remote.client(&git), server.work());
    let tip = git.ok(&disk, &["rev-parse", "main"]);

    let barrier = Barrier::new(USERS);
    std::thread::scope(|scope| {
        for user in 0..USERS {
            let (barrier, client, url, work, source, tip) = (&barrier, &client, &url, &work, &source, &tip);
            scope.spawn(move || {
                barrier.wait();
                match user % 4 {
                    0 => {
                        let branch = format!("main:refs/heads/user/{user}");
                        client.ok(source, &["push", "--quiet", url, &branch]);
                    }
                    1 | 2 => {
                        let name = format!("clone-{user}");
                        client.ok(work, &["clone", "--quiet", url, &name]);
                        assert_eq!(&client.ok(&work.join(name), &["rev-parse", "HEAD"]), tip);
                    }
                    _ => {
                        let listed = client.ok(work, &["ls-remote", url, "refs/heads/main"]);
                        assert_eq!(listed, format!("{tip}\trefs/heads/main"));
                    }
                }
            });
        }
    });

    let pushed = git.ok(
        &disk,
        &["for-each-ref", "--format=%(objectname)", "refs/heads/user"],
    );
    assert_eq!(pushed.lines().count(), USERS / 4);
    assert!(pushed.lines().all(|id| id == tip), "{pushed}");
    git.fsck(&disk);
    let shown = server.cli().json(&["token", "show", &token.id]);
    assert_ne!(shown["last_used_at"], serde_json::Value::Null);
}

/// One state of a token, and the command that brought it about: it holds from some moment between the two on.
#[derive(Debug, Clone, Copy)]
struct Change {
    started: Instant,
    ended: Instant,
    status: u16,
}

/// One request and its answer.
#[derive(Debug)]
struct Answer {
    started: Instant,
    ended: Instant,
    status: u16,
}

impl Change {
    fn make(status: u16, change: impl FnOnce()) -> Change {
        let started = Instant::now();
        change();
        Change {
            started,
            ended: Instant::now(),
            status,
        }
    }
}

/// Asserts that every answer is that of a state which may have held at some moment between its start and its end.
#[track_caller]
fn assert_right(changes: &[Change], answers: &[Answer]) {
    for answer in answers {
        let may_have_held = |(at, change): (usize, &Change)| {
            let end = changes.get(at + 1).map(|next| next.ended);
            (change.started <= answer.ended && end.is_none_or(|end| end >= answer.started))
                .then_some(change.status)
        };
        let right: Vec<u16> = changes.iter().enumerate().filter_map(may_have_held).collect();
        assert!(
            right.contains(&answer.status),
            "{answer:?} must be one of {right:?}"
        );
    }
}

/// Rounds of each process that changes tokens.
const ROUNDS: usize = 15;

/// One process gives and takes a scope of a token, another renames the same token, and makes and revokes others.
#[test]
fn each_answer_is_right_for_a_moment_while_two_processes_change_tokens() {
    let git = Git::new();
    let server = Setup::plain().start();
    let (remote, token) = server.contributor("vso.code");
    let source = server.work().join("source");
    git.init(&source);
    git.commit(&source, "file", "text\n");
    remote.copy(&git, &source, "repo");
    let (cli, authority) = (server.cli(), server.authority());

    let is_over = AtomicBool::new(false);
    let started = Instant::now();
    let born = Change {
        started,
        ended: started,
        status: 200,
    };
    let (sender, made) = mpsc::channel();
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| ask_until(authority, &token, |_| is_over.load(Ordering::Relaxed))))
            .collect();
        let narrowing = scope.spawn(|| narrow_and_widen(cli, &token, born));
        let renaming = scope.spawn(|| rename_and_replace(cli, &token, sender));
        let over = Flag(&is_over);
        // Each of the others is asked for until it is refused, once: failures more than that would be throttled.
        for (other, revoked) in made {
            let answers = ask_until(authority, &other, |status| status == 401);
            let changes: [Change; 2] = revoked.recv().expect("the process goes on");
            assert_right(&changes, &answers);
        }
        renaming.join().expect("the process goes on");
        let changes = narrowing.join().expect("the process goes on");
        drop(over);
        for asker in askers {
            let answers = asker.join().expect("the server answers");
            assert!(answers.len() > ROUNDS, "the requests must come in between");
            assert_right(&changes, &answers);
        }
    });

    // Neither process undid what the other one did, and the trail has it all.
    let shown = cli.json(&["token", "show", &token.id]);
    assert_eq!(shown["name"], format!("name {}", ROUNDS - 1));
    assert_eq!(shown["scopes"], serde_json::json!(["vso.code"]));
    let trail = cli.json(&["audit", "list", "--limit", "1000"]);
    let count = |action: &str| {
        let events = trail.as_array().expect("a list of events");
        events.iter().filter(|event| event["action"] == action).count()
    };
    assert_eq!(count("token.update"), 3 * ROUNDS);
    assert_eq!(count("token.revoke"), ROUNDS);
}

/// Takes the token's scope for code and gives it back; returns all of its states.
fn narrow_and_widen(cli: &Patgate, token: &Token, born: Change) -> Vec<Change> {
    let mut changes = vec![born];
    for _ in 0..ROUNDS {
        for (scope, status) in [("vso.work", 403), ("vso.code", 200)] {
            changes.push(Change::make(status, || {
                cli.ok(&["token", "update", &token.id, "--scope", scope]);
            }));
        }
    }
    changes
}

/// A token that was made, and its two states when it has had both.
type Made = (Token, mpsc::Receiver<[Change; 2]>);

/// Renames `token`, makes another one, hands it out and revokes it.
fn rename_and_replace(cli: &Patgate, token: &Token, sender: mpsc::Sender<Made>) {
    for round in 0..ROUNDS {
        cli.ok(&["token", "update", &token.id, "--name", &format!("name {round}")]);
        let mut other = None;
        let born = Change::make(200, || other = Some(cli.token("anna", "vso.code")));
        let other = other.expect("a token was made");
        let (states, receiver) = mpsc::channel();
        sender.send((other.clone(), receiver)).expect("somebody asks");
        let revoked = Change::make(401, || {
            cli.ok(&["token", "revoke", &other.id]);
        });
        states.send([born, revoked]).expect("somebody asks");
    }
}

/// How long one token is asked for at most: as long as the commands that change it may take on a slow machine.
const ASK_LIMIT: Duration = Duration::from_secs(120);

/// Lists refs with `token` over one connection until an answer `is_last`.
fn ask_until(authority: &str, token: &Token, is_last: impl Fn(u16) -> bool) -> Vec<Answer> {
    let mut connection = Connection::open(authority);
    let mut answers = Vec::new();
    let deadline = Instant::now() + ASK_LIMIT;
    loop {
        let started = Instant::now();
        assert!(
            started < deadline,
            "the last answer must come: {:?}",
            answers.last()
        );
        let status = connection.get(REFS, token);
        answers.push(Answer {
            started,
            ended: Instant::now(),
            status,
        });
        if is_last(status) {
            return answers;
        }
    }
}

/// An HTTP/1.1 connection that stays open.
struct Connection {
    authority: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(authority: &str) -> Connection {
        let stream = TcpStream::connect(authority).expect("the server listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("a time limit");
        Connection {
            authority: authority.to_owned(),
            stream: BufReader::new(stream),
        }
    }

    /// Sends one request and returns the status of the answer, whose body is read to its end.
    fn get(&mut self, path: &str, token: &Token) -> u16 {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\n\r\n",
            self.authority,
            token.basic("anybody")
        );
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("the server reads");
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let header = self.line().to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
                Some(_) => {}
                None => break,
            }
        }
        while is_chunked {
            length = usize::from_str_radix(&self.line(), 16).expect("the size of a chunk");
            self.skip(length);
            self.line();
            is_chunked = length > 0;
            length = 0;
        }
        self.skip(length);
        status.expect("a status line has a status")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        assert!(line.ends_with("\r\n"), "the connection must stay open: {line:?}");
        line.truncate(line.len() - 2);
        line
    }

    fn skip(&mut self, length: usize) {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the server answers");
    }
}
