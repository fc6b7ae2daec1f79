//! What the tests of this module share: the real gits, and repositories made by them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gix_hash::ObjectId;
use tempfile::TempDir;

use super::quarantine::Migrated;
use super::refs::{RefChange, RefChangeError};
use super::{Repository, create};

/// Every different `git` on the `PATH`.
pub(crate) fn gits() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").expect("PATH is set");
    let mut gits: Vec<_> = std::env::split_paths(&path)
        .filter_map(|dir| dir.join("git").canonicalize().ok())
        .collect();
    gits.sort();
    gits.dedup();
    assert!(!gits.is_empty(), "these tests need git");
    gits
}

/// What a run of git left.
pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// Runs `git` in `dir`, away from all configuration but the repository's. It may print while it still reads.
pub(crate) fn run(git: &Path, dir: &Path, args: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(git)
        .args(args)
        .current_dir(dir)
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@b"),
            ("GIT_AUTHOR_DATE", "1700000000 +0000"),
        ])
        .envs([
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@b"),
            ("GIT_COMMITTER_DATE", "1700000000 +0000"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let output = std::thread::scope(|scope| {
        // A git that refuses what it reads need not read it to its end.
        scope.spawn(move || pipe.write_all(input).is_ok());
        child.wait_with_output().expect("git ends")
    });
    Ran {
        success: output.status.success(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `git` as [`run`] does, and gives what it prints, with what it complains of if it fails.
pub(crate) fn run_git(git: &Path, dir: &Path, args: &[&str], input: &[u8]) -> (bool, String) {
    let ran = run(git, dir, args, input);
    let mut text = String::from_utf8_lossy(&ran.stdout).into_owned();
    if !ran.success {
        text.push_str(&ran.stderr);
    }
    (ran.success, text)
}

/// Runs the default git in `dir`, which has to succeed, and gives what it prints.
pub(crate) fn git(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let ran = run(Path::new("git"), dir, args, input);
    assert!(ran.success, "git {args:?}: {}", ran.stderr);
    ran.stdout
}

/// The same for what is text.
pub(crate) fn git_text(dir: &Path, args: &[&str], input: &[u8]) -> String {
    String::from_utf8(git(dir, args, input)).expect("text")
}

/// The same for what is one object id.
pub(crate) fn git_id(dir: &Path, args: &[&str], input: &[u8]) -> ObjectId {
    ObjectId::from_hex(git(dir, args, input).trim_ascii()).expect("an object id")
}

/// A bare repository with some commits that no ref names yet.
pub(crate) struct Fixture {
    pub(crate) root: TempDir,
    pub(crate) commits: Vec<ObjectId>,
}

impl Fixture {
    pub(crate) fn new(commits: usize) -> Fixture {
        Fixture::with_hash(gix_hash::Kind::Sha1, commits)
    }

    pub(crate) fn with_hash(hash: gix_hash::Kind, commits: usize) -> Fixture {
        let root = tempfile::tempdir().unwrap();
        create(&root.path().join("r.git"), hash, "main").unwrap();
        let mut fixture = Fixture {
            root,
            commits: Vec::new(),
        };
        let mut stream = String::new();
        for number in 0..commits {
            stream += &format!(
                "commit refs/heads/import\nmark :{}\ncommitter A <a@b> {} +0000\ndata 2\nc\n\n",
                number + 1,
                1_700_000_000 + number
            );
        }
        let marks = fixture.dir().join("marks");
        let export = format!("--export-marks={}", marks.display());
        // Loose objects, which are all that is needed here.
        fixture.git(&["config", "fastimport.unpackLimit", "1000000"]);
        fixture.git_with_input(&["fast-import", "--quiet", &export], stream.as_bytes());
        for line in std::fs::read_to_string(&marks).unwrap().lines() {
            let (_, hex) = line.split_once(' ').unwrap();
            fixture.commits.push(ObjectId::from_hex(hex.as_bytes()).unwrap());
        }
        fixture.commits.sort();
        std::fs::remove_file(marks).unwrap();
        fixture.git(&["update-ref", "-d", "refs/heads/import"]);
        fixture
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.path().join("r.git")
    }

    pub(crate) fn open(&self) -> Repository {
        Repository::open(&self.dir()).unwrap()
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_with_input(args, b"")
    }

    pub(crate) fn git_with_input(&self, args: &[&str], input: &[u8]) -> String {
        let (ok, text) = run_git(&gits()[0], &self.dir(), args, input);
        assert!(ok, "git {args:?}: {text}");
        text
    }

    /// What git lists, as lines of id and name.
    pub(crate) fn git_refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(objectname) %(refname)"])
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        self.dir().join(path).symlink_metadata().is_ok()
    }
}

/// What a snapshot lists, in the same form.
pub(crate) fn our_refs(repository: &Repository) -> String {
    repository
        .refs()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {}\n", entry.id.to_hex(), entry.name))
        .collect()
}

pub(crate) fn change(name: &str, old: Option<ObjectId>, new: Option<ObjectId>) -> RefChange {
    RefChange {
        name: name.into(),
        old,
        new,
    }
}

pub(crate) type Changed = Result<Vec<Result<(), RefChangeError>>, super::Error>;

pub(crate) fn update(repository: &Repository, changes: &[RefChange], atomic: bool) -> Changed {
    repository.update_refs(
        &Migrated::written_in_place(),
        changes,
        atomic,
        "A <a@b> 1700000000 +0000",
    )
}

/// Updates that must all succeed.
pub(crate) fn must_update(repository: &Repository, changes: &[RefChange]) {
    for result in update(repository, changes, false).unwrap() {
        result.unwrap();
    }
}
