//! Starting, watching, reloading and stopping a server.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::wire::{self, Request};
use crate::harness::{Curl, Git, Server, Setup, run};

/// The clone command that the first start prints works as pasted, and so does a push from the clone.
#[test]
fn the_first_start_prints_a_clone_command_that_works_as_pasted() {
    let setup = Setup::first_start();
    let server = setup.start();
    // It is told on standard error, where the server listens on standard output.
    server.logs(" clone ");
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("git") && line.contains(" clone "))
        .unwrap_or_else(|| {
            panic!("the first start must print a clone command:\n{log}");
        });
    let command = line[line.find("git").unwrap()..].trim();
    let git = Git::new();
    // A shell in the environment of the tests' git.
    let environment = git.command(&server.work(), &[]);
    let mut pasted = run::command(Path::new("sh"));
    pasted.args(["-e", "-c", command]).current_dir(server.work());
    pasted.envs(
        environment
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    run::run(&mut pasted, b"").ok();

    let clones: Vec<_> = std::fs::read_dir(server.work())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join(".git").is_dir())
        .collect();
    assert_eq!(clones.len(), 1, "the command must make one clone: {clones:?}");
    let clone = &clones[0];
    assert!(
        !git.ok(clone, &["log", "--oneline"]).is_empty(),
        "the sample has a first commit"
    );
    git.fsck(clone);
    let tip = git.commit(clone, "more", "more\n");
    let client = git.with("http.sslCAInfo", &server.ca().display().to_string());
    client.ok(clone, &["push", "--quiet"]);
    let disk = setup.repos().join("DefaultCollection/Sample/Sample.git");
    assert_eq!(git.ok(&disk, &["rev-parse", "HEAD"]), tip);
    assert!(
        log.contains("admin"),
        "the account and its password are printed:\n{log}"
    );
    drop(server);

    // Once: the second start has nothing to tell.
    let server = setup.start();
    assert!(!server.log().contains("pgt_"), "{}", server.log());
    assert!(!server.log().contains(" clone "), "{}", server.log());
}

#[test]
fn private_files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = Setup::tls();
    let server = setup.start();
    for file in ["patgate.db", "tls/key.pem"] {
        let mode = std::fs::metadata(setup.data().join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
    drop(server);
}

#[test]
fn health_is_told_to_anybody() {
    let server = Setup::tls().start();
    for path in ["/_health/live", "/_health/ready"] {
        Curl::get(&server, path).send().is(200);
    }
    for (option, version) in [("--http1.1", "HTTP/1.1"), ("--http2", "HTTP/2")] {
        assert_eq!(
            Curl::get(&server, "/_health/live").args(&[option]).send().version,
            version
        );
    }
    assert_ne!(
        Curl::get(&server, "/_metrics").send().status,
        200,
        "metrics are off by default"
    );
}

#[test]
fn localhost_is_a_name_of_the_server() {
    let server = Setup::tls().start();
    let port = server.authority().rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}/_health/live");
    Curl::url(&url)
        .args(&["--cacert", &server.ca().display().to_string()])
        .send()
        .is(200);
}

/// A clone of a large repository whose client has read the beginning of the pack and no more: the pipe that nobody
/// reads holds the rest of it back.
struct HeldClone {
    child: std::process::Child,
    answer: Vec<u8>,
}

fn hold_a_clone(server: &Server, git: &Git) -> HeldClone {
    let (remote, token) = server.contributor("vso.code");
    let source = server.work().join("source");
    git.init(&source);
    // More than the buffers of a connection hold, and nothing that deflate could shrink much.
    let mut state = 7_u64;
    let mut text = String::new();
    while text.len() < 48 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!(
            "{state:016x}{:016x}",
            state.rotate_left(17) ^ 0x9e37_79b9_7f4a_7c15
        ));
    }
    let tip = git.commit(&source, "large", &text);
    remote.copy(git, &source, "repo");
    let request = Request::new()
        .line("command=fetch\n")
        .delim()
        .line("no-progress\n")
        .line(format!("want {tip}\n"))
        .line("done\n")
        .flush();
    let body = server.work().join("request");
    std::fs::write(&body, request.bytes()).unwrap();
    let mut command = run::command(Path::new("curl"));
    command.args([
        "--silent",
        "--show-error",
        "--fail",
        "--no-buffer",
        "--max-time",
        "120",
    ]);
    command.args(["--header", "Content-Type: application/x-git-upload-pack-request"]);
    command.args([
        "--header",
        "Git-Protocol: version=2",
        "--header",
        &format!("Authorization: {}", token.basic("x")),
    ]);
    command.arg("--data-binary").arg(format!("@{}", body.display()));
    command.arg(format!("{}/git-upload-pack", remote.bare_url("repo")));
    let mut child = run::spawn(&mut command);
    let mut answer = vec![0; 100];
    child.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    HeldClone { child, answer }
}

/// A clone in progress when the server is told to stop is finished, nobody new is let in, and the server ends.
#[test]
fn a_server_told_to_stop_finishes_a_running_clone() {
    let git = Git::new();
    let mut server = Setup::plain().start();
    let HeldClone {
        mut child,
        mut answer,
    } = hold_a_clone(&server, &git);

    server.signal("TERM");
    let authority = server.authority().to_owned();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(&authority).is_ok() {
        assert!(
            Instant::now() < deadline,
            "a server that stops must not accept connections"
        );
        std::thread::yield_now();
    }
    child.stdout.as_mut().unwrap().read_to_end(&mut answer).unwrap();
    assert!(
        run::finish(child, "curl").is_ok(),
        "the running clone must be finished"
    );
    let bare = server.work().join("bare");
    git.init_bare(&bare);
    git.feed(
        &bare,
        &["index-pack", "--stdin", "--strict"],
        &wire::band(&answer, 1),
    )
    .ok();
    assert!(
        server.wait().success(),
        "a server that was told to stop ends with status 0:\n{}",
        server.log()
    );
}

#[test]
fn a_second_signal_stops_at_once_and_cuts_what_runs() {
    let git = Git::new();
    let mut server = Setup::plain().start();
    let HeldClone {
        mut child,
        mut answer,
    } = hold_a_clone(&server, &git);
    server.signal("TERM");
    server.signal("TERM");
    server.wait();
    child.stdout.as_mut().unwrap().read_to_end(&mut answer).unwrap();
    assert!(
        !run::finish(child, "curl").is_ok(),
        "a clone that was cut must look cut"
    );
}

#[test]
fn an_idle_server_stops_on_either_signal() {
    for name in ["TERM", "INT"] {
        let mut server = Setup::plain().start();
        server.signal(name);
        assert!(server.wait().success(), "{name}");
    }
}

/// New certificate files count from the signal on, without a restart.
#[test]
fn sighup_takes_up_a_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let write = || {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        made.cert.pem()
    };
    let first = write();
    let setup = Setup::tls()
        .arg("--tls-cert")
        .arg(cert.to_str().unwrap())
        .arg("--tls-key")
        .arg(key.to_str().unwrap());
    let server = setup.start();
    let is_trusted = |pem: &str| {
        let file = dir.path().join("trusted.pem");
        std::fs::write(&file, pem).unwrap();
        let mut command = run::command(Path::new("curl"));
        command
            .args(["--silent", "--cacert"])
            .arg(&file)
            .arg(format!("{}/_health/live", server.base()));
        run::run(&mut command, b"").is_ok()
    };
    assert!(is_trusted(&first));
    let second = write();
    server.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_trusted(&second) {
        assert!(
            Instant::now() < deadline,
            "the new certificate must be taken up:\n{}",
            server.log()
        );
    }
    assert!(!is_trusted(&first));

    // Broken files are reported and change nothing.
    std::fs::write(&cert, "no certificate").unwrap();
    server.signal("HUP");
    for _ in 0..5 {
        assert!(is_trusted(&second), "{}", server.log());
    }
}

#[test]
fn wrong_usage_and_wrong_configuration_say_what_is_wrong() {
    let setup = Setup::plain();
    let cli = setup.cli();
    cli.user("anna");
    let run = cli.run(&["serve", "--no-such-flag"]);
    assert_eq!(run.code(), Some(2), "{run}");
    for (flag, value) in [
        ("--listen", "nowhere"),
        ("--ops-listen", "9000"),
        ("--behind-proxy", "10.0.0.0/64"),
        ("--log-format", "xml"),
        ("--log-level", "a=b=c"),
    ] {
        let run = cli.run(&["serve", flag, value]);
        assert_eq!(run.code(), Some(2), "{run}");
        run.says(flag);
    }
    let run = cli.run(&[
        "token", "create", "--user", "nobody", "--name", "x", "--scope", "vso.code",
    ]);
    assert_eq!(run.code(), Some(1), "{run}");
    run.says("nobody");
    assert_eq!(run.out(), "", "standard output is for the token alone");

    let file = setup.work().join("other.toml");
    std::fs::write(&file, "no-such-key = true\n").unwrap();
    let run = cli.run(&["serve", "--config", file.to_str().unwrap()]);
    run.failed().says("no-such-key");

    let run = cli.run(&["serve", "--plain-http", "--listen", "0.0.0.0:0"]);
    run.failed().says("127.0.0.1");
}

#[test]
fn a_port_that_is_taken_is_reported() {
    let server = Setup::plain().start();
    let other = Setup::plain();
    let run = other.cli().run(&[
        "serve",
        "--plain-http",
        "--no-sample",
        "--listen",
        server.authority(),
    ]);
    run.failed().says(server.authority());
}

#[test]
fn lists_are_json_when_asked_and_hold_no_secret() {
    let setup = Setup::plain();
    let cli = setup.cli();
    cli.contributor("anna");
    cli.ok(&["repo", "create", "DefaultCollection/P/R"]);
    let token = cli.token("anna", "vso.code_write");
    for args in [
        &["user", "list"][..],
        &["access", "list"],
        &["repo", "list"],
        &["token", "list"],
        &["audit", "list"],
    ] {
        let value = cli.json(args);
        let items = value
            .as_array()
            .cloned()
            .or_else(|| value.get("value").and_then(|list| list.as_array().cloned()));
        assert!(
            items.is_some_and(|items| !items.is_empty()),
            "patgate {args:?}: {value}"
        );
        for secret in cli.secrets() {
            assert!(!value.to_string().contains(&secret), "patgate {args:?}");
        }
    }
    let shown = cli.json(&["token", "show", &token.id]).to_string();
    assert!(
        shown.contains(&token.id) && shown.contains("vso.code_write") && !shown.contains(&token.text),
        "{shown}"
    );
}
