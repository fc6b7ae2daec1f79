//! Real gits with a fixed identity, a clock that only they move, and no configuration but what a test sets.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::run::{self, Run};

/// The first second of the tests' clock.
const CLOCK_START: u64 = 1_700_000_000;

/// One git program and the configuration it is run with.
#[derive(Clone)]
pub struct Git {
    program: PathBuf,
    version: String,
    home: Arc<TempDir>,
    clock: Arc<AtomicU64>,
    config: Vec<(String, String)>,
    env: Vec<(String, OsString)>,
}

impl Git {
    /// The git that comes first on the path.
    pub fn new() -> Git {
        Git::all().into_iter().next().expect("a git is installed")
    }

    /// Every git of a different version on this machine.
    pub fn all() -> Vec<Git> {
        let mut versions = BTreeSet::new();
        let own_path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&own_path)
            .chain(["/usr/local/bin", "/usr/bin"].map(PathBuf::from))
            .map(|folder| folder.join("git"))
            .filter(|program| program.is_file())
            .filter_map(|program| {
                let version = run::run(run::command(&program).arg("--version"), b"").ok();
                let version = version.trim_start_matches("git version ").to_owned();
                versions.insert(version.clone()).then(|| Git {
                    program,
                    version,
                    home: Arc::new(tempfile::tempdir().expect("a home for git")),
                    clock: Arc::new(AtomicU64::new(CLOCK_START)),
                    config: Vec::new(),
                    env: Vec::new(),
                })
            })
            .collect()
    }

    /// The version, such as `2.47.3`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether this git is at least `major.minor`.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self
            .version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    /// The same git with one more configuration value.
    pub fn with(&self, key: &str, value: &str) -> Git {
        let mut git = self.clone();
        git.config.push((key.to_owned(), value.to_owned()));
        git
    }

    /// The same git with one more environment variable.
    pub fn with_env(&self, name: &str, value: impl Into<OsString>) -> Git {
        let mut git = self.clone();
        git.env.push((name.to_owned(), value.into()));
        git
    }

    /// A command that runs this git in `dir`.
    pub fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = run::command(&self.program);
        command.current_dir(dir);
        // Three thousand refs that are flushed one by one take half a minute; no test cuts the power.
        command.args(["-c", "core.fsync=none"]);
        for (key, value) in &self.config {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        let seconds = self.clock.fetch_add(1, Ordering::Relaxed);
        let date = format!("{seconds} +0000");
        command
            .args(args)
            .env("HOME", self.home.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "A U Thor")
            .env("GIT_AUTHOR_EMAIL", "author@example.com")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", "C O Mitter")
            .env("GIT_COMMITTER_EMAIL", "committer@example.com")
            .env("GIT_COMMITTER_DATE", &date)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs this git in `dir`.
    pub fn run(&self, dir: &Path, args: &[&str]) -> Run {
        run::run(&mut self.command(dir, args), b"")
    }

    /// Runs this git in `dir` with `input` on its standard input.
    pub fn feed(&self, dir: &Path, args: &[&str], input: &[u8]) -> Run {
        run::run(&mut self.command(dir, args), input)
    }

    /// Runs this git in `dir`, asserts that it succeeds and returns what it printed.
    #[track_caller]
    pub fn ok(&self, dir: &Path, args: &[&str]) -> String {
        self.run(dir, args).ok()
    }

    /// Makes a bare repository in `dir` whose HEAD is `main`.
    #[track_caller]
    pub fn init_bare(&self, dir: &Path) {
        std::fs::create_dir_all(dir).expect("the folder of a repository");
        self.ok(dir, &["init", "--quiet", "--bare", "--initial-branch=main", "."]);
    }

    /// Makes a repository with a work tree in `dir` whose HEAD is `main`.
    #[track_caller]
    pub fn init(&self, dir: &Path) {
        std::fs::create_dir_all(dir).expect("the folder of a repository");
        self.ok(dir, &["init", "--quiet", "--initial-branch=main", "."]);
    }

    /// Writes `text` to `file` of the work tree `dir` and commits it; returns the id of the commit.
    #[track_caller]
    pub fn commit(&self, dir: &Path, file: &str, text: &str) -> String {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the folder of a file");
        std::fs::write(path, text).expect("a file of the work tree");
        self.ok(dir, &["add", "--", file]);
        self.ok(
            dir,
            &["commit", "--quiet", "--message", &format!("Change {file}")],
        );
        self.ok(dir, &["rev-parse", "HEAD"])
    }

    /// Asserts that `git fsck --strict` has nothing to say about `dir` but what a healthy repository may say.
    #[track_caller]
    pub fn fsck(&self, dir: &Path) {
        let run = self.run(
            dir,
            &["fsck", "--strict", "--full", "--no-dangling", "--no-progress"],
        );
        assert!(run.is_ok(), "{} must be healthy: {run}", dir.display());
        let complaint = run
            .err()
            .lines()
            .chain(run.out().lines())
            // An empty repository has no default branch yet, and an empty one is nothing to repair.
            .find(|line| !line.starts_with("notice: ") && !line.is_empty())
            .map(str::to_owned);
        assert_eq!(complaint, None, "{} must be healthy", dir.display());
    }

    /// Names and ids of all refs, sorted, with what annotated tags peel to.
    #[track_caller]
    pub fn refs(&self, dir: &Path) -> String {
        self.ok(
            dir,
            &["for-each-ref", "--format=%(objectname) %(*objectname) %(refname)"],
        )
    }

    /// The ids of all objects that the refs of `dir` reach, sorted, one a line.
    #[track_caller]
    pub fn objects(&self, dir: &Path) -> Vec<String> {
        let listed = self.ok(dir, &["rev-list", "--objects", "--all", "--no-object-names"]);
        let mut ids: Vec<String> = listed.lines().map(str::to_owned).collect();
        ids.sort_unstable();
        ids
    }
}
