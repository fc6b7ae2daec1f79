//! A credential helper that writes down what git asks of it.

use std::path::{Path, PathBuf};

use super::Git;

/// A helper script with the credential that it hands out and the log of what it was told.
pub struct Helper {
    dir: PathBuf,
}

impl Helper {
    /// Makes a helper in `dir` that answers `get` with `username` and `password`.
    pub fn new(dir: &Path, username: &str, password: &str) -> Helper {
        let helper = Helper {
            dir: dir.join(format!("helper-{}", super::run::unique())),
        };
        std::fs::create_dir_all(&helper.dir).expect("a folder for the helper");
        std::fs::write(helper.dir.join("log"), "").expect("the log of the helper");
        helper.answer(username, password);
        let script = "#!/bin/sh\n\
                      dir=$(dirname \"$0\")\n\
                      echo \"$1\" >>\"$dir/log\"\n\
                      sed 's/^/  /' >>\"$dir/log\"\n\
                      [ \"$1\" = get ] && cat \"$dir/answer\"\n\
                      exit 0\n";
        let path = helper.dir.join("script");
        std::fs::write(&path, script).expect("the script of the helper");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
        helper
    }

    /// From now on hands out this credential.
    pub fn answer(&self, username: &str, password: &str) {
        std::fs::write(
            self.dir.join("answer"),
            format!("username={username}\npassword={password}\n"),
        )
        .expect("the answer of the helper");
    }

    /// `git` that asks this helper.
    pub fn client(&self, git: &Git) -> Git {
        git.with(
            "credential.helper",
            &self.dir.join("script").display().to_string(),
        )
    }

    /// The operations so far, in order: `get`, `store`, `erase`.
    pub fn operations(&self) -> Vec<String> {
        self.log()
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(str::to_owned)
            .collect()
    }

    /// Everything that git wrote to the helper.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).expect("the log of the helper")
    }

    /// Forgets the operations so far.
    pub fn clear(&self) {
        std::fs::write(self.dir.join("log"), "").expect("the log of the helper");
    }
}
