//! An empty bare repository, as `git init --bare` makes it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bstr::{BStr, BString, ByteSlice};

use super::refs::is_valid_name;
use super::{Error, IoContext, durable};

const DESCRIPTION: &str = "Unnamed repository; edit this file 'description' to name the repository.\n";

const EXCLUDE: &str = "# git ls-files --others --exclude-from=.git/info/exclude\n\
    # Lines that start with '#' are comments.\n";

/// Makes an empty bare repository at `git_dir`, which must not exist or be empty, and returns its path. HEAD points
/// at `default_branch` (`main`, or in full `refs/heads/main`), which is unborn. All of it is durable but for the name
/// of `git_dir` in its parent.
///
/// # Errors
///
/// When `default_branch` is no branch name, or something cannot be written.
pub fn create(git_dir: &Path, hash: gix_hash::Kind, default_branch: &str) -> Result<PathBuf, Error> {
    let branch = full_branch_name(default_branch)?;
    let head = [b"ref: ", branch.as_slice(), b"\n"].concat();
    write_layout(git_dir, &head, &config(hash)).at("make a repository in", git_dir)?;
    Ok(git_dir.to_owned())
}

/// Expands the name of a branch and checks it.
fn full_branch_name(name: &str) -> Result<BString, Error> {
    let name: BString = if name.starts_with("refs/") {
        name.into()
    } else {
        format!("refs/heads/{name}").into()
    };
    let short = name.strip_prefix(b"refs/heads/").unwrap_or_default();
    // git-check-ref-format(1), --branch: a dash would read as an option, and HEAD as HEAD.
    if is_valid_name(name.as_bstr()) && !short.is_empty() && !short.starts_with(b"-") && short != b"HEAD" {
        Ok(name)
    } else {
        Err(Error::BranchName {
            name: BStr::new(&name).to_owned(),
        })
    }
}

fn config(hash: gix_hash::Kind) -> String {
    let (version, extensions) = match hash {
        gix_hash::Kind::Sha1 => (0, String::new()),
        other => (1, format!("[extensions]\n\tobjectformat = {other}\n")),
    };
    format!("[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n{extensions}")
}

fn write_layout(git_dir: &Path, head: &[u8], config: &str) -> io::Result<()> {
    let dirs = [
        "",
        "info",
        "objects",
        "objects/info",
        "objects/pack",
        "refs",
        "refs/heads",
        "refs/tags",
    ];
    for dir in dirs {
        fs::create_dir_all(git_dir.join(dir))?;
    }
    let files = [
        ("config", config.as_bytes()),
        ("description", DESCRIPTION.as_bytes()),
        ("info/exclude", EXCLUDE.as_bytes()),
        // Last, because with it the directory is a repository.
        ("HEAD", head),
    ];
    for (name, content) in files {
        let mut file = File::create_new(git_dir.join(name))?;
        file.write_all(content)?;
        file.sync_all()?;
    }
    dirs.iter()
        .rev()
        .try_for_each(|dir| durable::sync_dir(&git_dir.join(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_branches_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "",
            "-x",
            "HEAD",
            "a b",
            "a..b",
            "refs/tags/x",
            "refs/heads/",
            "x.lock",
            "a\nb",
        ] {
            assert!(
                create(&dir.path().join("r"), gix_hash::Kind::Sha1, name).is_err(),
                "{name:?}"
            );
        }
        assert!(!dir.path().join("r").exists());
        create(&dir.path().join("r"), gix_hash::Kind::Sha1, "refs/heads/a/b").unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("r/HEAD")).unwrap(),
            "ref: refs/heads/a/b\n"
        );
    }
}
