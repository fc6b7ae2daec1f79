//! Single requests, some of which git itself would not make: headers, bodies and what is refused, beside
//! `git http-backend` on the same repositories.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::harness::wire::{self, Pkt, Request};
use crate::harness::{Curl, Git, Remote, Reply, Server, Setup, Token, backend};

const MISSING: &str = "1111111111111111111111111111111111111111";

/// patgate and `http-backend` on one root, with a repository that has branches, tags and a symbolic HEAD.
struct Pair {
    server: Server,
    ours: Remote,
    theirs: Remote,
    token: Token,
    git: Git,
}

fn pair() -> Pair {
    let (git, server) = (Git::new(), Setup::plain().start());
    let (ours, token) = server.contributor("vso.code_write");
    let source = server.work().join("source");
    git.init(&source);
    for text in ["one\n", "two\n"] {
        git.commit(&source, "file", text);
    }
    git.ok(&source, &["branch", "topic", "main~1"]);
    git.ok(&source, &["tag", "--annotate", "--message=v1", "v1"]);
    git.ok(&source, &["tag", "--annotate", "--message=v2", "v2", "v1"]);
    git.ok(&source, &["tag", "light"]);
    ours.copy(&git, &source, "repo");
    ours.init(&git, "empty");
    let theirs = backend::start(&git, &ours.root);
    Pair {
        server,
        ours,
        theirs,
        token,
        git,
    }
}

impl Pair {
    fn get(&self, remote: &Remote, service: &str, version: &str) -> Reply {
        let url = format!("{}/info/refs?service={service}", remote.bare_url("repo"));
        Curl::url(&url)
            .token(&self.token)
            .header(&format!("Git-Protocol: version={version}"))
            .send()
    }

    fn fetch(&self, remote: &Remote, name: &str, version: &str, request: &Request) -> Reply {
        Curl::post_to(&remote.bare_url(name), "git-upload-pack", request.bytes())
            .token(&self.token)
            .header(&format!("Git-Protocol: version={version}"))
            .send()
    }

    fn tip(&self) -> String {
        self.git.ok(&self.ours.disk("repo"), &["rev-parse", "main"])
    }
}

/// The headers of an answer without those that HTTP itself needs.
fn git_headers(reply: &Reply) -> Vec<(String, String)> {
    let needed = [
        "connection",
        "content-length",
        "date",
        "transfer-encoding",
        "keep-alive",
    ];
    reply
        .headers
        .iter()
        .filter(|(name, _)| !needed.contains(&name.as_str()))
        .cloned()
        .collect()
}

fn v2(command: &str, lines: &[&str]) -> Request {
    let request = Request::new()
        .line(format!("command={command}\n"))
        .line("object-format=sha1")
        .delim();
    lines
        .iter()
        .fold(request, |request, line| request.line(format!("{line}\n")))
        .flush()
}

#[test]
fn answers_carry_the_headers_of_http_backend_in_its_order() {
    let pair = pair();
    for version in ["0", "1", "2"] {
        for service in ["git-upload-pack", "git-receive-pack"] {
            let (ours, theirs) = (
                pair.get(&pair.ours, service, version),
                pair.get(&pair.theirs, service, version),
            );
            assert_eq!(
                git_headers(ours.is(200)),
                git_headers(theirs.is(200)),
                "{service}, version {version}"
            );
        }
    }
    let request = v2("ls-refs", &["peel", "symrefs"]);
    let (ours, theirs) = (
        pair.fetch(&pair.ours, "repo", "2", &request),
        pair.fetch(&pair.theirs, "repo", "2", &request),
    );
    assert_eq!(git_headers(ours.is(200)), git_headers(theirs.is(200)));
    let probe = |remote: &Remote| {
        let reply = Curl::post_to(&remote.bare_url("repo"), "git-receive-pack", b"0000")
            .token(&pair.token)
            .send();
        (git_headers(reply.is(200)), reply.body)
    };
    assert_eq!(
        probe(&pair.ours),
        probe(&pair.theirs),
        "the probe before a large push"
    );
}

#[test]
fn refs_are_listed_as_http_backend_lists_them() {
    let pair = pair();
    let head = pair.tip();
    pair.git.ok(
        &pair.ours.disk("repo"),
        &["update-ref", "refs/notes/commits", &head],
    );
    for name in ["repo", "empty"] {
        for lines in [
            &["peel", "symrefs", "unborn"][..],
            &["peel", "symrefs"],
            &["peel"],
            &["symrefs"],
            &["unborn"],
            &[],
            &["peel", "symrefs", "ref-prefix refs/heads/"],
            &["peel", "ref-prefix refs/tags/v", "ref-prefix HEAD"],
            &["ref-prefix refs/heads/topic", "ref-prefix refs/heads/topic"],
            &["ref-prefix nothing"],
            &["symrefs", "ref-prefix H"],
        ] {
            let request = v2("ls-refs", lines);
            let (ours, theirs) = (
                pair.fetch(&pair.ours, name, "2", &request),
                pair.fetch(&pair.theirs, name, "2", &request),
            );
            assert_eq!(ours.is(200).text(), theirs.is(200).text(), "{name}: {lines:?}");
        }
    }
    // Versions 0 and 1 list all refs at once; only the capabilities of the first line are the server's own.
    for service in ["git-upload-pack", "git-receive-pack"] {
        for version in ["0", "1"] {
            let refs = |remote: &Remote| {
                let text = wire::text(&pair.get(remote, service, version).is(200).body);
                let lines = text
                    .lines()
                    .map(|line| line.split('\0').next().unwrap_or_default().to_owned());
                lines.collect::<Vec<_>>()
            };
            assert_eq!(
                refs(&pair.ours),
                refs(&pair.theirs),
                "{service}, version {version}"
            );
        }
    }
}

/// What is left of some refs after a disk or somebody with `rm` was at the objects. A ref that is not listed looks
/// deleted, and a mirror would delete its own.
#[test]
fn refs_whose_objects_are_gone_or_damaged_are_listed_as_http_backend_lists_them() {
    let pair = pair();
    for name in ["damaged", "headless"] {
        let disk = pair.ours.copy(&pair.git, &pair.ours.disk("repo"), name);
        let object = |id: &str| disk.join("objects").join(&id[..2]).join(&id[2..]);
        let (tip, tag) = ("1\n", "tag");
        for (name, text) in [("empty", tip), ("gone", "2\n"), ("under", "3\n")] {
            let tree = pair.git.ok(&disk, &["rev-parse", "main^{tree}"]);
            let commit = pair.git.ok(&disk, &["commit-tree", &tree, "-m", text]);
            pair.git.ok(&disk, &["branch", name, &commit]);
            pair.git.ok(
                &disk,
                &[
                    "tag",
                    "--annotate",
                    "--message=t",
                    &format!("{tag}-{name}"),
                    &commit,
                ],
            );
        }
        pair.git.ok(&disk, &["branch", "packed-gone", "gone"]);
        pair.git.ok(&disk, &["pack-refs", "--all"]);
        let id = |name: &str| pair.git.ok(&disk, &["rev-parse", name]);
        let [empty, gone, under] = ["empty", "gone", "tag-under"].map(id);
        std::fs::remove_file(object(&gone)).unwrap();
        std::fs::remove_file(object(&under)).unwrap();
        std::fs::remove_file(object(&empty)).unwrap();
        std::fs::write(object(&empty), "").unwrap();
        for (file, text) in [
            ("gone", gone.clone()),
            ("empty", empty),
            ("never", MISSING.to_owned()),
            ("link", "ref: refs/heads/never".to_owned()),
        ] {
            std::fs::write(disk.join("refs/heads").join(file), format!("{text}\n")).unwrap();
        }
        if name == "headless" {
            std::fs::write(disk.join("HEAD"), "ref: refs/heads/never\n").unwrap();
        }
    }
    let gits = Git::all();
    let theirs = gits.iter().map(|git| (git, backend::start(git, &pair.ours.root)));
    for (git, theirs) in theirs {
        for name in ["damaged", "headless"] {
            let refs = |remote: &Remote, service: &str, version: &str| {
                let url = format!("{}/info/refs?service={service}", remote.bare_url(name));
                let reply = Curl::url(&url)
                    .token(&pair.token)
                    .header(&format!("Git-Protocol: version={version}"))
                    .send();
                let text = wire::text(&reply.is(200).body);
                let lines = text
                    .lines()
                    .map(|line| line.split('\0').next().unwrap_or_default().to_owned());
                lines.collect::<Vec<_>>()
            };
            for (service, version) in [
                ("git-upload-pack", "0"),
                ("git-upload-pack", "1"),
                ("git-receive-pack", "0"),
            ] {
                let listed = refs(&pair.ours, service, version);
                assert_eq!(
                    listed,
                    refs(&theirs, service, version),
                    "{name}: {service}, {version}, {}",
                    git.version()
                );
                assert!(
                    listed.contains(&format!("{MISSING} refs/heads/never")),
                    "{listed:?}"
                );
            }
            let request = v2("ls-refs", &["peel", "symrefs", "unborn"]);
            let [ours, theirs_v2] =
                [&pair.ours, &theirs].map(|remote| pair.fetch(remote, name, "2", &request).is(200).text());
            assert_eq!(ours, theirs_v2, "{name}: {}", git.version());
            // Such a ref is not to be had, and the others are.
            for remote in [&pair.ours, &theirs] {
                for (version, request) in [
                    ("2", v2("fetch", &[&format!("want {MISSING}"), "done"])),
                    (
                        "0",
                        Request::new()
                            .line(format!("want {MISSING} side-band-64k ofs-delta\n"))
                            .flush()
                            .line("done\n"),
                    ),
                ] {
                    let text = wire::text(&pair.fetch(remote, name, version, &request).is(200).body);
                    let words = format!("ERR upload-pack: not our ref {MISSING}");
                    assert!(text.contains(&words), "{}, {version}: {text}", remote.base);
                }
                let clone =
                    pair.server
                        .work()
                        .join(format!("{name}-{}-{}", git.version(), remote.has_git_marker));
                pair.git.init_bare(&clone);
                git.ok(&clone, &["fetch", "--quiet", &remote.url(name), "main:main"]);
            }
        }
    }
}

#[test]
fn a_want_that_is_not_to_be_had_is_answered_in_git_s_words() {
    let pair = pair();
    let request = v2("fetch", &[&format!("want {MISSING}"), "done"]);
    for remote in [&pair.theirs, &pair.ours] {
        let text = wire::text(&pair.fetch(remote, "repo", "2", &request).is(200).body);
        assert!(
            text.contains(&format!("ERR upload-pack: not our ref {MISSING}")),
            "{}: {text}",
            remote.base
        );
    }
    let request = Request::new()
        .line(format!("want {MISSING} side-band-64k ofs-delta\n"))
        .flush()
        .line("done\n");
    let text = wire::text(&pair.fetch(&pair.ours, "repo", "0", &request).is(200).body);
    assert!(
        text.contains(&format!("ERR upload-pack: not our ref {MISSING}")),
        "{text}"
    );
    // By hand as well: git shows the words after "remote error".
    let bare = pair.server.work().join("bare");
    pair.git.init_bare(&bare);
    let run = pair.git.run(&bare, &["fetch", &pair.ours.url("repo"), MISSING]);
    run.failed().says(&format!("not our ref {MISSING}"));
}

#[test]
fn what_is_not_offered_is_refused_and_not_ignored() {
    let pair = pair();
    let want = format!("want {}", pair.tip());
    for lines in [
        &["deepen 1"][..],
        &["deepen-since 1600000000"],
        &["deepen-not refs/heads/topic"],
        &["filter blob:none"],
        &["shallow 1111111111111111111111111111111111111111"],
        &["want-ref refs/heads/main"],
        &["packfile-uris https"],
        &["no-such-thing"],
    ] {
        let request = v2("fetch", &[&[want.as_str()], lines, &["done"]].concat());
        let reply = pair.fetch(&pair.ours, "repo", "2", &request);
        let text = wire::text(&reply.is(200).body);
        assert!(text.starts_with("ERR "), "{lines:?}: {text}");
        assert!(!text.lines().any(|line| line == "packfile"), "{lines:?}: {text}");
    }
    for request in [
        v2("no-such-command", &[]),
        Request::new()
            .line("command=ls-refs\n")
            .line("no-such-capability\n")
            .delim()
            .flush(),
        Request::new()
            .line("command=ls-refs\n")
            .line("object-format=sha256")
            .delim()
            .flush(),
        Request::new().line("no-command\n").flush(),
    ] {
        let text = wire::text(&pair.fetch(&pair.ours, "repo", "2", &request).is(200).body);
        assert!(text.starts_with("ERR "), "{text}");
    }
    for line in [
        "deepen 1\n",
        "filter blob:none\n",
        "shallow 1111111111111111111111111111111111111111\n",
    ] {
        let request = Request::new()
            .line(format!("{want} side-band-64k\n"))
            .line(line)
            .flush()
            .line("done\n");
        let text = wire::text(&pair.fetch(&pair.ours, "repo", "0", &request).is(200).body);
        assert!(text.contains("ERR "), "{line}: {text}");
    }
}

#[test]
fn git_says_why_a_shallow_clone_cannot_be_had() {
    let pair = pair();
    for version in ["0", "2"] {
        let client = pair.git.with("protocol.version", version);
        let run = client.run(
            &pair.server.work(),
            &["clone", "--depth=1", &pair.ours.url("repo"), "shallow"],
        );
        run.failed().says("shallow");
        let filtered = format!("filtered-{version}");
        let args = ["clone", "--filter=blob:none", &pair.ours.url("repo"), &filtered];
        let run = client.run(&pair.server.work(), &args);
        // A client that learns that there are no filters takes everything.
        run.ok();
        run.says("filtering not recognized by server");
        pair.git.fsck(&pair.server.work().join(&filtered));
    }
    // From a clone that was made shallow elsewhere.
    let work = pair.server.work();
    let source = format!("file://{}", work.join("filtered-2").display());
    pair.git
        .ok(&work, &["clone", "--quiet", "--depth=1", &source, "cut"]);
    let cut = work.join("cut");
    pair.git.commit(&cut, "more", "more\n");
    let run = pair
        .git
        .run(&cut, &["push", &pair.ours.url("repo"), "HEAD:refs/heads/cut"]);
    run.failed().says("shallow");
    assert!(!run.err().contains("protocol error"), "{run}");
}

#[test]
fn bodies_come_compressed_and_in_chunks() {
    let pair = pair();
    let request = v2("ls-refs", &["peel", "symrefs"]);
    let plain = pair.fetch(&pair.ours, "repo", "2", &request).body;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(request.bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    for (headers, body) in [
        (&["Content-Encoding: gzip"][..], gzip.as_slice()),
        (&["Content-Encoding: x-gzip"], &gzip),
        (&["Transfer-Encoding: chunked"], request.bytes()),
        (&["Transfer-Encoding: chunked", "Content-Encoding: gzip"], &gzip),
        (&["Expect: 100-continue"], request.bytes()),
    ] {
        let curl = Curl::post_to(&pair.ours.bare_url("repo"), "git-upload-pack", body).token(&pair.token);
        let curl = headers
            .iter()
            .fold(curl.header("Git-Protocol: version=2"), |curl, header| {
                curl.header(header)
            });
        assert_eq!(curl.send().is(200).body, plain, "{headers:?}");
    }
    // Broken or endless compression is an error, and not the end of the server.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..300 {
        encoder.write_all(&vec![b'0'; 1 << 20]).unwrap();
    }
    for body in [
        encoder.finish().unwrap(),
        b"this is not gzip".to_vec(),
        gzip[..gzip.len() / 2].to_vec(),
    ] {
        let curl = Curl::post_to(&pair.ours.bare_url("repo"), "git-upload-pack", &body).token(&pair.token);
        let reply = curl
            .header("Git-Protocol: version=2")
            .header("Content-Encoding: gzip")
            .send();
        assert!(
            (400..500).contains(&reply.status) || reply.text().contains("ERR "),
            "{reply:?}"
        );
    }
    assert_eq!(pair.fetch(&pair.ours, "repo", "2", &request).body, plain);
}

/// The gate comes before the body: who is refused is never asked for one.
#[test]
fn only_those_who_pass_the_gate_are_told_to_continue() {
    let pair = pair();
    let first_line = |authorization: &str| {
        let mut stream = TcpStream::connect(pair.server.authority()).unwrap();
        write!(
            stream,
            "POST /DefaultCollection/P/_git/repo/git-receive-pack HTTP/1.1\r\nHost: {}\r\n{authorization}\
             Content-Type: application/x-git-receive-pack-request\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
            pair.server.authority()
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    assert!(first_line("").starts_with("HTTP/1.1 401 "));
    assert!(first_line("Authorization: Basic eDp4\r\n").starts_with("HTTP/1.1 401 "));
    let read = pair.server.cli().token("anna", "vso.code");
    assert!(first_line(&format!("Authorization: {}\r\n", read.basic("x"))).starts_with("HTTP/1.1 403 "));
    assert!(
        first_line(&format!("Authorization: {}\r\n", pair.token.basic("x"))).starts_with("HTTP/1.1 100 ")
    );
}

#[test]
fn requests_of_the_wrong_kind_are_refused_as_such() {
    let pair = pair();
    let path = "/DefaultCollection/P/_git/repo";
    let get = |path: &str| Curl::get(&pair.server, path).token(&pair.token).send();
    for suffix in [
        "/info/refs",
        "/info/refs?service=git-upload-archive",
        "/info/refs?service=",
        "/info/refs?x=y",
    ] {
        let status = get(&format!("{path}{suffix}")).status;
        assert!((400..500).contains(&status), "{suffix}: {status}");
    }
    let status = get(&format!("{path}/git-upload-pack")).status;
    assert_eq!(status, 405);
    let wrong = Curl::post(&pair.server, path, "git-receive-pack", b"0000").token(&pair.token);
    wrong.args(&["--request", "PUT"]).send().is(405);
    let url = format!("{}/git-upload-pack", pair.ours.bare_url("repo"));
    let mismatched = Curl::url(&url)
        .token(&pair.token)
        .header("Content-Type: text/plain");
    mismatched.args(&["--data-binary", "0000"]).send().is(415);
    for suffix in [
        "/HEAD",
        "/objects/info/packs",
        "/config",
        "/../repo/info/refs?service=git-upload-pack",
    ] {
        let status = get(&format!("{path}{suffix}")).status;
        assert!((400..500).contains(&status), "{suffix}: {status}");
    }
}

#[test]
fn broken_pkt_lines_are_an_error_and_nothing_else() {
    let pair = pair();
    for body in [
        &b""[..],
        b"0",
        b"000",
        b"0003",
        b"zzzz",
        b"fff1",
        b"ffff",
        b"0014command=ls-refs\n",
        b"0014command=ls-refs\n0001",
        b"\0\0\0\0",
        b"0032want 1111111111111111111111111111111111111111\n",
    ] {
        for (service, version) in [
            ("git-upload-pack", "2"),
            ("git-upload-pack", "0"),
            ("git-receive-pack", "0"),
            ("git-receive-pack", "1"),
        ] {
            let curl =
                Curl::post(&pair.server, "/DefaultCollection/P/_git/repo", service, body).token(&pair.token);
            let reply = curl.header(&format!("Git-Protocol: version={version}")).send();
            assert!(
                reply.status == 200 || (400..500).contains(&reply.status),
                "{body:?}: {reply:?}"
            );
            assert!(!reply.text().contains("PACK"), "{body:?}: {reply:?}");
        }
    }
    assert_eq!(pair.get(&pair.ours, "git-upload-pack", "2").status, 200);
}

/// A pack that was cut off must look cut off.
#[test]
fn an_answer_has_an_end_that_can_be_told_from_a_break() {
    let pair = pair();
    let request = v2("fetch", &[&format!("want {}", pair.tip()), "done"]);
    let reply = pair.fetch(&pair.ours, "repo", "2", &request);
    let (lines, rest) = wire::parse(&reply.is(200).body);
    assert!(rest.is_empty());
    assert_eq!(lines.first(), Some(&Pkt::Data(b"packfile\n".to_vec())));
    assert_eq!(lines.last(), Some(&Pkt::Flush));
    let pack = wire::band(&reply.body, 1);
    assert!(pack.starts_with(b"PACK\0\0\0\x02"));
    let bare = pair.server.work().join("bare");
    pair.git.init_bare(&bare);
    pair.git
        .feed(&bare, &["index-pack", "--stdin", "--strict"], &pack)
        .ok();
}

/// Connections are kept open, so that a clone's requests share one.
#[test]
fn one_connection_serves_several_requests() {
    let pair = pair();
    let mut stream = TcpStream::connect(pair.server.authority()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        write!(
            stream,
            "GET /DefaultCollection/P/_git/none/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: {}\r\n\r\n",
            pair.server.authority()
        )
        .unwrap();
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
    }
}
