//! Reflogs: one line for each move of a ref, in `logs/<ref>`. They are an aid for people and never hold up a push:
//! what goes wrong with them is logged and passed over.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use bstr::{BStr, ByteSlice};

use super::journal::Move;
use super::{loose, stat::is_absence};
use crate::repository::settings::LogRefUpdates;

/// Appends a line to the log of `log_name` if it has one or shall have one.
pub(super) fn append(
    git_dir: &Path,
    log_name: &BStr,
    one: &Move,
    committer: &[u8],
    policy: LogRefUpdates,
    hash: gix_hash::Kind,
) {
    if let Err(error) = try_append(git_dir, log_name, one, committer, policy, hash) {
        tracing::warn!(name = %log_name, %error, "cannot append to reflog");
    }
}

fn try_append(
    git_dir: &Path,
    log_name: &BStr,
    one: &Move,
    committer: &[u8],
    policy: LogRefUpdates,
    hash: gix_hash::Kind,
) -> io::Result<()> {
    let logs = git_dir.join("logs");
    let path = loose::path(&logs, log_name);
    let mut options = OpenOptions::new();
    options.append(true);
    if is_logged(log_name, policy) {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        remove_empty_dirs(&path);
        options.create(true);
    }
    let mut file = match options.open(&path) {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let id = |id: Option<gix_hash::ObjectId>| id.unwrap_or(hash.null()).to_hex().to_string();
    let mut line = format!("{} {} ", id(one.old), id(one.new)).into_bytes();
    line.extend(
        committer
            .iter()
            .filter(|byte| !matches!(byte, b'\n' | b'\0' | b'\t')),
    );
    line.extend_from_slice(b"\tpush\n");
    // One write, so that lines of two processes do not mix.
    file.write_all(&line)
}

/// Removes the log of a ref that was deleted, and directories that are empty then.
pub(super) fn remove(git_dir: &Path, name: &BStr) {
    let logs = git_dir.join("logs");
    let path = loose::path(&logs, name);
    match fs::remove_file(&path) {
        Ok(()) => remove_empty_parents(&logs, name),
        Err(error) if is_absence(&error) => {}
        Err(error) => tracing::warn!(%name, %error, "cannot remove reflog"),
    }
}

fn is_logged(name: &BStr, policy: LogRefUpdates) -> bool {
    match policy {
        LogRefUpdates::Off => false,
        LogRefUpdates::All => true,
        LogRefUpdates::Branches => {
            name == "HEAD"
                || [&b"refs/heads/"[..], b"refs/remotes/", b"refs/notes/"]
                    .iter()
                    .any(|prefix| name.starts_with(prefix))
        }
    }
}

/// Removes `path` if it is a directory that holds nothing but directories.
pub(super) fn remove_empty_dirs(path: &Path) {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return;
    }
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|file_type| file_type.is_dir()) {
            remove_empty_dirs(&entry.path());
        }
    }
    // Refused while something else is inside, which is what keeps it.
    drop(fs::remove_dir(path));
}

/// Removes the directories above the file of `name` that are empty, but not the first two (`refs/heads`).
pub(super) fn remove_empty_parents(base: &Path, name: &BStr) {
    let mut name = name;
    while let Some(at) = name.rfind_byte(b'/') {
        name = name.get(..at).unwrap_or_default().as_bstr();
        if name.iter().filter(|byte| **byte == b'/').count() < 2 {
            return;
        }
        if fs::remove_dir(loose::path(base, name)).is_err() {
            return;
        }
    }
}
