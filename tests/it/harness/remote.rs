//! A place to clone from and push to: patgate, or stock git behind a bridge.

use std::path::{Path, PathBuf};

/// A server, as a client names its repositories and as the machine stores them.
#[derive(Clone)]
pub struct Remote {
    /// Scheme, host and port, such as `http://127.0.0.1:1234`.
    pub base: String,
    /// What stands before the host in URLs: `user:password`, or nothing.
    pub userinfo: Option<String>,
    /// The folder that holds the repositories.
    pub root: PathBuf,
    /// Configuration that a client needs, such as the certificate authority.
    pub config: Vec<(String, String)>,
    /// Whether paths have `_git` in them, or are those on disk.
    pub has_git_marker: bool,
}

impl Remote {
    /// The URL of the repository `name` in the project `P` of the default collection.
    pub fn url(&self, name: &str) -> String {
        let base = match &self.userinfo {
            Some(userinfo) => self.base.replacen("://", &format!("://{userinfo}@"), 1),
            None => self.base.clone(),
        };
        if self.has_git_marker {
            format!("{base}/DefaultCollection/P/_git/{name}")
        } else {
            format!("{base}/DefaultCollection/P/{name}.git")
        }
    }

    /// The same without a credential.
    pub fn bare_url(&self, name: &str) -> String {
        Remote {
            userinfo: None,
            ..self.clone()
        }
        .url(name)
    }

    /// Where the same repository is on disk.
    pub fn disk(&self, name: &str) -> PathBuf {
        self.root
            .join("DefaultCollection")
            .join("P")
            .join(format!("{name}.git"))
    }

    /// `git` with what a client of this server needs.
    pub fn client(&self, git: &super::Git) -> super::Git {
        self.config
            .iter()
            .fold(git.clone(), |git, (key, value)| git.with(key, value))
    }

    /// Makes the bare repository `name` on disk and returns where.
    #[track_caller]
    pub fn init(&self, git: &super::Git, name: &str) -> PathBuf {
        let dir = self.disk(name);
        git.init_bare(&dir);
        dir
    }

    /// Makes the repository `name` by `git clone --bare` of `source`.
    #[track_caller]
    pub fn copy(&self, git: &super::Git, source: &Path, name: &str) -> PathBuf {
        let dir = self.disk(name);
        std::fs::create_dir_all(dir.parent().expect("a project folder")).expect("the project folder");
        let (from, to) = (
            source.to_str().expect("a path in UTF-8"),
            dir.to_str().expect("a path in UTF-8"),
        );
        git.ok(source, &["clone", "--quiet", "--bare", from, to]);
        dir
    }
}
