//! What people do with a Git server, each thing once, for any git, protocol version and transport.
//!
//! A scenario makes its repository with stock git on the machine, drives it through the server with a client,
//! and compares with stock git on the machine again. None knows which server it talks to.

use std::path::{Path, PathBuf};

use crate::harness::{Git, Remote, Run, run};

/// One client and one server, with a folder and repository names of its own.
pub struct Cell {
    /// Works on the machine, never over the network.
    pub git: Git,
    /// Talks to the server.
    pub client: Git,
    /// The server.
    pub remote: Remote,
    /// For clones; exists and is empty.
    pub work: PathBuf,
    /// The repository that the scenario may make.
    pub name: String,
}

impl Cell {
    /// A fresh folder below `work` and a fresh repository name.
    pub fn new(git: &Git, remote: &Remote, work: &Path) -> Cell {
        let number = run::unique();
        let dir = work.join(format!("cell-{number}"));
        std::fs::create_dir_all(&dir).unwrap();
        Cell {
            git: git.clone(),
            client: remote.client(git),
            remote: remote.clone(),
            work: dir,
            name: format!("repo-{number}"),
        }
    }

    fn url(&self) -> String {
        self.remote.url(&self.name)
    }

    fn disk(&self) -> PathBuf {
        self.remote.disk(&self.name)
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    fn clone_to(&self, name: &str, options: &[&str]) -> PathBuf {
        let url = self.url();
        self.client.ok(
            &self.work,
            &[&["clone", "--quiet"], options, &[&url, name]].concat(),
        );
        self.dir(name)
    }

    /// A work tree with `count` commits on `main`, pushed to a new repository on disk.
    fn seeded(&self, count: usize) -> PathBuf {
        let source = self.dir("source");
        self.git.init(&source);
        for number in 0..count {
            self.git.commit(
                &source,
                &format!("file-{}", number % 7),
                &format!("text {number}\n"),
            );
        }
        self.remote.copy(&self.git, &source, &self.name);
        self.git.ok(&source, &["remote", "add", "origin", &self.url()]);
        source
    }

    fn push(&self, dir: &str, args: &[&str]) -> Run {
        self.client.run(
            &self.dir(dir),
            &[&["push", "--porcelain", "origin"], args].concat(),
        )
    }

    /// Asserts that the repository on the server is healthy and has the refs and objects of `dir`.
    fn assert_equals(&self, dir: &str) {
        let dir = self.dir(dir);
        assert_eq!(
            self.git.refs(&self.disk()),
            self.git.refs(&dir),
            "refs on the server and of the client"
        );
        assert!(
            self.git.objects(&self.disk()) == self.git.objects(&dir),
            "objects on the server and of the client"
        );
        self.git.fsck(&self.disk());
        self.git.fsck(&dir);
    }

    fn on_server(&self, name: &str) -> String {
        self.git
            .run(&self.disk(), &["rev-parse", "--verify", "--quiet", name])
            .out()
    }
}

/// A scenario with its name.
pub type Scenario = (&'static str, fn(&Cell));

/// All of them.
pub const ALL: &[Scenario] = &[
    ("alternates", alternates),
    ("annotated tags and tags of tags", tags),
    ("atomic push", atomic),
    ("bad ref names", bad_names),
    ("clone, fetch and push of a branch", clone_fetch_push),
    ("create, force and delete branches", branches),
    ("detached head", detached_head),
    ("directory and file conflict", directory_file_conflict),
    ("empty repository and first push", empty),
    ("force with lease lost", lease_lost),
    ("large push", large_push),
    ("many haves", many_haves),
    ("many packs and a multi-pack-index", many_packs),
    ("nothing to do", nothing_to_do),
    ("old tips again after gc", gc_between),
    ("refs listed by prefix", ls_remote),
    ("submodule entries", submodules),
    ("three thousand refs", many_refs),
    ("unborn head", unborn_head),
];

fn clone_fetch_push(cell: &Cell) {
    let source = cell.seeded(3);
    let clone = cell.clone_to("clone", &[]);
    cell.assert_equals_main(&clone);

    let pushed = cell.git.commit(&clone, "new", "pushed\n");
    cell.push("clone", &["main"]).ok();
    assert_eq!(cell.on_server("main"), pushed);

    cell.client.ok(&source, &["fetch", "--quiet", "origin"]);
    assert_eq!(cell.git.ok(&source, &["rev-parse", "origin/main"]), pushed);
    cell.git.fsck(&cell.disk());
    cell.git.fsck(&source);
}

impl Cell {
    fn assert_equals_main(&self, clone: &Path) {
        assert_eq!(
            self.git.ok(clone, &["rev-parse", "HEAD"]),
            self.on_server("HEAD"),
            "the tip of the clone"
        );
        assert_eq!(
            self.git.ok(clone, &["symbolic-ref", "HEAD"]),
            "refs/heads/main",
            "the branch of the clone"
        );
        assert_eq!(
            self.git.ok(clone, &["status", "--porcelain"]),
            "",
            "a clone has nothing to commit"
        );
        self.git.fsck(clone);
    }
}

fn branches(cell: &Cell) {
    let source = cell.seeded(3);
    cell.push("source", &["main:topic", "main~1:refs/heads/dir/other"])
        .ok();
    assert_eq!(cell.on_server("topic"), cell.on_server("main"));
    assert_eq!(cell.on_server("dir/other"), cell.on_server("main~1"));

    cell.push("source", &["main~2:topic"]).failed().says("rejected");
    let run = cell.push("source", &["+main~2:topic"]);
    run.ok();
    assert!(run.out().contains("(forced update)"), "{run}");
    assert_eq!(cell.on_server("topic"), cell.on_server("main~2"));

    let run = cell.push("source", &["--delete", "topic", "dir/other"]);
    run.ok();
    assert!(run.out().contains("-\t:refs/heads/topic\t[deleted]"), "{run}");
    assert_eq!(cell.on_server("topic"), "");
    assert_eq!(cell.on_server("dir/other"), "");
    // The folder that the deleted branch was in must not be in the way of a branch of its name.
    cell.push("source", &["main:dir"]).ok();
    cell.client
        .ok(&source, &["fetch", "--quiet", "--prune", "origin"]);
    assert_eq!(
        cell.git
            .ok(&source, &["for-each-ref", "--format=%(refname)", "refs/remotes"]),
        "refs/remotes/origin/dir\nrefs/remotes/origin/main"
    );
    let run = cell.push("source", &["--delete", "never-there"]);
    run.failed().says("remote ref does not exist");
}

fn tags(cell: &Cell) {
    let source = cell.seeded(2);
    cell.git.ok(&source, &["tag", "light"]);
    cell.git
        .ok(&source, &["tag", "--annotate", "--message=one", "v1"]);
    cell.git.ok(
        &source,
        &["tag", "--annotate", "--message=of a tag", "v1-signed-off", "v1"],
    );
    cell.git.ok(
        &source,
        &[
            "tag",
            "--annotate",
            "--message=of that",
            "v1-released",
            "v1-signed-off",
        ],
    );
    cell.git.ok(
        &source,
        &["tag", "--annotate", "--message=a tree", "tree", "HEAD^{tree}"],
    );
    cell.git.ok(
        &source,
        &["tag", "--annotate", "--message=a blob", "blob", "HEAD:file-0"],
    );
    cell.push("source", &["--tags"]).ok();
    let clone = cell.clone_to("clone", &["--mirror"]);
    cell.assert_equals("clone");

    let listed = cell.client.ok(&clone, &["ls-remote", "--tags", "origin"]);
    let peeled = format!("{}\trefs/tags/v1-released^{{}}", cell.on_server("main"));
    assert!(
        listed.contains(&peeled),
        "a tag of a tag of a tag is peeled to the commit: {listed}"
    );
    assert!(
        !listed.contains("refs/tags/light^{}"),
        "nothing is to be peeled there: {listed}"
    );

    // Tags come along with what they point at, without being asked for.
    let follower = cell.clone_to("follower", &["--no-tags"]);
    assert_eq!(cell.git.ok(&follower, &["tag"]), "");
    cell.git
        .ok(&follower, &["config", "--unset", "remote.origin.tagOpt"]);
    let tip = cell.git.commit(&source, "later", "later\n");
    cell.git
        .ok(&source, &["tag", "--annotate", "--message=two", "v2"]);
    cell.push("source", &["main", "v2"]).ok();
    cell.client.ok(&follower, &["fetch", "--quiet", "origin"]);
    assert_eq!(cell.git.ok(&follower, &["rev-parse", "v2^{commit}"]), tip);

    cell.push("source", &["--delete", "v1", "light"]).ok();
    assert_eq!(cell.on_server("v1"), "");
    cell.git.fsck(&cell.disk());
}

fn empty(cell: &Cell) {
    cell.remote.init(&cell.git, &cell.name);
    let clone = cell.dir("clone");
    let url = cell.url();
    let run = cell.client.run(&cell.work, &["clone", &url, "clone"]);
    run.ok();
    run.says("You appear to have cloned an empty repository.");
    assert_eq!(cell.client.ok(&clone, &["ls-remote", "origin"]), "");

    let tip = cell.git.commit(&clone, "first", "first\n");
    let branch = cell.git.ok(&clone, &["symbolic-ref", "HEAD"]);
    cell.push("clone", &[&format!("{branch}:refs/heads/main")]).ok();
    assert_eq!(
        cell.on_server("HEAD"),
        tip,
        "HEAD names the branch that is born now"
    );
    cell.clone_to("second", &[]);
    cell.git.fsck(&cell.disk());
}

fn unborn_head(cell: &Cell) {
    cell.seeded(1);
    cell.git.ok(
        &cell.disk(),
        &["symbolic-ref", "HEAD", "refs/heads/nobody-made-it"],
    );
    let url = cell.url();
    let run = cell.client.run(&cell.work, &["clone", &url, "clone"]);
    run.ok();
    let branches = cell.git.ok(
        &cell.dir("clone"),
        &["for-each-ref", "--format=%(refname)", "refs/remotes/origin"],
    );
    assert_eq!(branches, "refs/remotes/origin/main");

    // Protocol 2 tells an unborn branch's name, so that a clone of nothing starts on the server's own branch.
    let cell = Cell::new(&cell.git, &cell.remote, &cell.work);
    let disk = cell.remote.init(&cell.git, &cell.name);
    cell.git.ok(&disk, &["symbolic-ref", "HEAD", "refs/heads/trunk"]);
    let url = cell.url();
    let client = cell.client.with("init.defaultBranch", "other");
    client.ok(&cell.work, &["clone", "--quiet", &url, "clone"]);
    let branch = cell.git.ok(&cell.dir("clone"), &["symbolic-ref", "HEAD"]);
    let version = client.run(&cell.work, &["config", "protocol.version"]).out();
    let expected = if version == "2" {
        "refs/heads/trunk"
    } else {
        "refs/heads/other"
    };
    assert_eq!(branch, expected, "protocol {version}");
}

fn detached_head(cell: &Cell) {
    cell.seeded(3);
    let id = cell.on_server("main~1");
    cell.git
        .ok(&cell.disk(), &["update-ref", "--no-deref", "HEAD", &id]);
    let clone = cell.clone_to("clone", &[]);
    assert_eq!(cell.git.ok(&clone, &["rev-parse", "HEAD"]), id);
    assert!(
        !cell.git.run(&clone, &["symbolic-ref", "--quiet", "HEAD"]).is_ok(),
        "the clone is detached as well"
    );
    cell.git.commit(&cell.dir("source"), "new", "new\n");
    cell.push("source", &["main"]).ok();
    assert_eq!(cell.on_server("HEAD"), id, "a push does not move a detached HEAD");
}

fn submodules(cell: &Cell) {
    let source = cell.seeded(1);
    let id = "c0ffee".repeat(7)[..40].to_owned();
    cell.git.ok(
        &source,
        &[
            "update-index",
            "--add",
            "--cacheinfo",
            &format!("160000,{id},module"),
        ],
    );
    cell.git
        .ok(&source, &["commit", "--quiet", "--message=A submodule"]);
    cell.push("source", &["main"]).ok();
    cell.clone_to("clone", &["--mirror"]);
    cell.assert_equals("clone");
    assert_eq!(cell.on_server("main:module"), id);
}

fn atomic(cell: &Cell) {
    let source = cell.seeded(3);
    cell.push("source", &["main:a", "main:b"]).ok();
    let before = cell.git.refs(&cell.disk());
    // The client sees nothing wrong with this, and the server cannot do the second half.
    cell.git.commit(&source, "new", "new\n");
    let run = cell.push(
        "source",
        &[
            "--atomic",
            "main:a",
            "main:refs/heads/b/below",
            "main:refs/heads/c",
        ],
    );
    run.failed();
    assert!(run.out().contains("[remote rejected]"), "{run}");
    assert_eq!(
        cell.git.refs(&cell.disk()),
        before,
        "a refused atomic push leaves every ref alone"
    );
    // Without it, what can be done is done.
    let run = cell.push("source", &["main:a", "main:refs/heads/b/below"]);
    run.failed();
    assert_eq!(cell.on_server("a"), cell.git.ok(&source, &["rev-parse", "main"]));
    assert_eq!(cell.on_server("refs/heads/b/below"), "");

    let run = cell.push("source", &["--atomic", "main:a", "+main:b", "main:c"]);
    run.ok();
    for name in ["a", "b", "c"] {
        assert_eq!(
            cell.on_server(name),
            cell.git.ok(&source, &["rev-parse", "main"]),
            "{name}"
        );
    }
    cell.git.fsck(&cell.disk());
}

fn lease_lost(cell: &Cell) {
    let source = cell.seeded(2);
    let clone = cell.clone_to("clone", &[]);
    let theirs = cell.git.commit(&clone, "theirs", "theirs\n");
    cell.push("clone", &["main"]).ok();
    cell.git.commit(&source, "ours", "ours\n");
    cell.client
        .run(&source, &["push", "origin", "main"])
        .failed()
        .says("[rejected]");
    let stale = cell.git.ok(&source, &["rev-parse", "main~1"]);
    let lease = format!("--force-with-lease=main:{stale}");
    cell.client
        .run(&source, &["push", &lease, "origin", "main"])
        .failed()
        .says("(stale info)");
    assert_eq!(cell.on_server("main"), theirs);
    let lease = format!("--force-with-lease=main:{theirs}");
    cell.client
        .ok(&source, &["push", "--quiet", &lease, "origin", "main"]);
    assert_eq!(
        cell.on_server("main"),
        cell.git.ok(&source, &["rev-parse", "main"])
    );
}

fn directory_file_conflict(cell: &Cell) {
    cell.seeded(1);
    cell.push("source", &["main:refs/heads/a"]).ok();
    let run = cell.push("source", &["main:refs/heads/a/b"]);
    run.failed();
    assert!(run.out().contains("[remote rejected]"), "{run}");
    assert_eq!(cell.on_server("refs/heads/a/b"), "");
    // The same when the branch in the way is packed, and in the other direction.
    cell.git.ok(&cell.disk(), &["pack-refs", "--all"]);
    cell.push("source", &["main:refs/heads/a/b"]).failed();
    cell.push("source", &["main:refs/heads/x/y"]).ok();
    cell.git.ok(&cell.disk(), &["pack-refs", "--all"]);
    cell.push("source", &["main:refs/heads/x"]).failed();
    let refs = cell
        .git
        .ok(&cell.disk(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/heads/a\nrefs/heads/main\nrefs/heads/x/y");
}

fn bad_names(cell: &Cell) {
    let source = cell.seeded(1);
    let before = cell.git.refs(&cell.disk());
    // The client refuses most bad names by itself; these reach the server.
    for name in [
        "refs/heads/HEAD.lock",
        "refs/heads/a..b",
        "refs/heads/.hidden",
        "refs/heads/a b",
    ] {
        cell.client
            .run(&source, &["push", "origin", &format!("main:{name}")])
            .failed();
        assert_eq!(cell.git.refs(&cell.disk()), before, "{name}");
    }
}

/// Gives the repository in `dir` three thousand branches, in one file: making as many is not what is tested.
fn add_branches(dir: &Path, id: &str) {
    let packed: String = (0..3000)
        .map(|n| format!("{id} refs/heads/many/{n:04}\n"))
        .collect();
    let text = format!("# pack-refs with: sorted \n{id} refs/heads/main\n{packed}");
    std::fs::write(dir.join("packed-refs"), text).unwrap();
}

fn many_refs(cell: &Cell) {
    cell.seeded(1);
    let tip = cell.on_server("main");
    add_branches(&cell.disk(), &tip);
    let clone = cell.clone_to("clone", &[]);
    let count = |dir: &Path, prefix: &str| cell.git.ok(dir, &["for-each-ref", prefix]).lines().count();
    assert_eq!(count(&clone, "refs/remotes/origin/many"), 3000);
    let listed = cell
        .client
        .ok(&clone, &["ls-remote", "origin", "refs/heads/many/*"]);
    assert_eq!(listed.lines().count(), 3000);
    cell.push("source", &["--delete", "many/0001", "many/2999"]).ok();
    cell.push("source", &["main:many/3000"]).ok();
    assert_eq!(count(&cell.disk(), "refs/heads/many"), 2999);
    cell.client.ok(&clone, &["fetch", "--quiet", "--prune", "origin"]);
    assert_eq!(count(&clone, "refs/remotes/origin/many"), 2999);
}

/// A push that makes three thousand branches: slow where each is written by itself, so not part of the matrix.
pub fn push_of_many_refs(cell: &Cell) {
    let source = cell.seeded(1);
    add_branches(&source.join(".git"), &cell.on_server("main"));
    cell.push("source", &["--quiet", "refs/heads/many/*:refs/heads/many/*"])
        .ok();
    cell.clone_to("clone", &["--mirror"]);
    assert_eq!(cell.git.refs(&cell.disk()).lines().count(), 3001);
    assert_eq!(cell.git.refs(&cell.disk()), cell.git.refs(&cell.dir("clone")));
    cell.push(
        "source",
        &[
            "--quiet",
            "--atomic",
            "--prune",
            "refs/heads/many/0*:refs/heads/many/0*",
        ],
    )
    .ok();
    cell.git.fsck(&cell.disk());
}

fn ls_remote(cell: &Cell) {
    cell.seeded(2);
    cell.push(
        "source",
        &["main:topic", "main:refs/notes/review", "main:refs/custom/thing"],
    )
    .ok();
    let dir = cell.dir("source");
    let main = cell.on_server("main");
    let listed = cell.client.ok(&dir, &["ls-remote", "--symref", "origin", "HEAD"]);
    assert_eq!(listed, format!("ref: refs/heads/main\tHEAD\n{main}\tHEAD"));
    let listed = cell.client.ok(&dir, &["ls-remote", "--heads", "origin"]);
    assert_eq!(
        listed,
        format!("{main}\trefs/heads/main\n{main}\trefs/heads/topic")
    );
    let listed = cell.client.ok(&dir, &["ls-remote", "origin"]);
    let names: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(_, name)| name)
        .collect();
    assert_eq!(
        names,
        [
            "HEAD",
            "refs/custom/thing",
            "refs/heads/main",
            "refs/heads/topic",
            "refs/notes/review"
        ]
    );
    cell.client
        .run(&dir, &["ls-remote", "--exit-code", "origin", "refs/heads/none"])
        .failed();
}

fn nothing_to_do(cell: &Cell) {
    let source = cell.seeded(1);
    let run = cell.client.run(&source, &["push", "origin", "main"]);
    run.ok();
    run.says("Everything up-to-date");
    cell.client.ok(&source, &["fetch", "origin"]);
    cell.client.ok(&source, &["fetch", "origin"]);
    // An id by itself, which is a tip.
    let id = cell.on_server("main");
    let bare = cell.dir("bare");
    cell.git.init_bare(&bare);
    cell.client.ok(&bare, &["fetch", "--quiet", &cell.url(), &id]);
    assert_eq!(cell.git.ok(&bare, &["rev-parse", "FETCH_HEAD"]), id);
}

fn many_haves(cell: &Cell) {
    let source = cell.seeded(2);
    let clone = cell.clone_to("clone", &[]);
    // Both sides go their own way, so that the client offers many commits which the server has never seen:
    // the request has several rounds, and git compresses the longer ones.
    for (dir, count, name) in [(&clone, 400, "local"), (&source, 50, "remote")] {
        let mut stream = String::new();
        for number in 0..count {
            let from = if number == 0 {
                "from refs/heads/main^0\n"
            } else {
                ""
            };
            stream.push_str(&format!(
                "commit refs/heads/{name}\ncommitter C O Mitter <c@example.com> {} +0000\ndata 1\nx\n{from}\
                 M 100644 inline {name}\ndata 5\n{number:05}\n",
                1_700_100_000 + number
            ));
        }
        cell.git
            .feed(dir, &["fast-import", "--quiet"], stream.as_bytes())
            .ok();
    }
    cell.push("source", &["remote"]).ok();
    cell.client.ok(&clone, &["fetch", "--quiet", "origin"]);
    assert_eq!(
        cell.git.ok(&clone, &["rev-parse", "origin/remote"]),
        cell.on_server("remote")
    );
    cell.git.fsck(&clone);
    cell.push("clone", &["local"]).ok();
    cell.git.fsck(&cell.disk());
}

fn large_push(cell: &Cell) {
    let source = cell.seeded(1);
    // Larger than `http.postBuffer`, so that the client probes with four bytes and then sends chunks.
    let mut text = String::new();
    let mut state = 1_u64;
    while text.len() < 3 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{state:x}\n"));
    }
    cell.git.commit(&source, "large", &text);
    let client = cell
        .client
        .with("http.postBuffer", "65536")
        .with_env("GIT_CURL_VERBOSE", "1");
    let run = client.run(&source, &["push", "--porcelain", "origin", "main"]);
    run.ok();
    assert!(
        run.err()
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
            || run.err().contains("using HTTP/2"),
        "the push must be a large one"
    );
    let clone = cell.clone_to("clone", &[]);
    assert_eq!(std::fs::read_to_string(clone.join("large")).unwrap(), text);
    cell.git.fsck(&cell.disk());
}

fn many_packs(cell: &Cell) {
    let source = cell.seeded(1);
    let keep_packs = [("receive.unpackLimit", "1"), ("gc.auto", "0")];
    for (key, value) in keep_packs {
        cell.git.ok(&cell.disk(), &["config", key, value]);
    }
    for number in 0..6 {
        cell.git.commit(&source, "file", &format!("{number}\n"));
        cell.push("source", &["main"]).ok();
        cell.git.ok(&cell.disk(), &["repack", "-d", "--quiet"]);
    }
    let clone = cell.clone_to("with-packs", &[]);
    cell.assert_equals_main(&clone);
    cell.git.ok(&cell.disk(), &["multi-pack-index", "write"]);
    let clone = cell.clone_to("with-index", &[]);
    cell.assert_equals_main(&clone);
    // Packs beside the index, and loose objects beside both.
    cell.git.commit(&source, "file", "later\n");
    cell.push("source", &["main"]).ok();
    let clone = cell.clone_to("with-all", &[]);
    cell.assert_equals_main(&clone);
    // What the index names is gone from one moment to the next.
    cell.git.ok(&cell.disk(), &["repack", "-a", "-d", "--quiet"]);
    let clone = cell.clone_to("with-one", &[]);
    cell.assert_equals_main(&clone);
}

fn gc_between(cell: &Cell) {
    let source = cell.seeded(3);
    cell.push("source", &["main:topic"]).ok();
    cell.push("source", &["--delete", "topic"]).ok();
    cell.git.commit(&source, "side", "side\n");
    cell.push("source", &["main:side"]).ok();
    cell.push("source", &["--delete", "side"]).ok();
    cell.git.ok(&cell.disk(), &["gc", "--quiet", "--prune=now"]);
    // The objects are gone from the server; the same push must bring them again.
    cell.push("source", &["main:side"]).ok();
    cell.git.fsck(&cell.disk());
    let clone = cell.clone_to("clone", &["--branch=side"]);
    cell.git.fsck(&clone);
}

fn alternates(cell: &Cell) {
    let source = cell.seeded(3);
    let base = Cell::new(&cell.git, &cell.remote, &cell.work);
    cell.remote.copy(&cell.git, &source, &base.name);
    std::fs::remove_dir_all(cell.disk()).unwrap();
    let (from, to) = (
        base.disk().display().to_string(),
        cell.disk().display().to_string(),
    );
    cell.git.ok(
        &cell.work,
        &["clone", "--quiet", "--bare", "--shared", &from, &to],
    );
    assert_eq!(
        cell.git.ok(&cell.disk(), &["count-objects"]),
        "0 objects, 0 kilobytes"
    );
    let clone = cell.clone_to("clone", &[]);
    cell.assert_equals_main(&clone);
    cell.git
        .commit(&clone, "new", "on top of what the other repository has\n");
    cell.push("clone", &["main"]).ok();
    cell.git.fsck(&cell.disk());
    cell.clone_to("second", &["--mirror"]);
    cell.assert_equals("second");
}
